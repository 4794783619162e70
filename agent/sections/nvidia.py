"""[nvidia]: see `ask_nvidia`."""

from dataclasses import dataclass

from agent.config import Reader


@dataclass(frozen=True, slots=True, kw_only=True)
class NvidiaSettings:
    """See `ask_nvidia`."""


def ask_nvidia(_reader: Reader) -> NvidiaSettings:
    """Take [nvidia]."""
    return NvidiaSettings()
