"""[process]: see `ask_process`."""

from dataclasses import dataclass

from agent.config import Reader


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSettings:
    """See `ask_process`."""


def ask_process(_reader: Reader) -> ProcessSettings:
    """Take [process]."""
    return ProcessSettings()
