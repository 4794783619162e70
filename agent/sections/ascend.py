"""[ascend]: see `ask_ascend`."""

from dataclasses import dataclass

from agent.config import Reader


@dataclass(frozen=True, slots=True, kw_only=True)
class AscendSettings:
    """See `ask_ascend`."""


def ask_ascend(_reader: Reader) -> AscendSettings:
    """Take [ascend]."""
    return AscendSettings()
