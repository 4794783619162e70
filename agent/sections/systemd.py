"""[systemd]: see `ask_systemd`."""

from dataclasses import dataclass

from agent.config import Reader


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemdSettings:
    """See `ask_systemd`."""


def ask_systemd(_reader: Reader) -> SystemdSettings:
    """Take [systemd]."""
    return SystemdSettings()
