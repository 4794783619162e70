"""[storage]: see `ask_storage`."""

from dataclasses import dataclass

from agent.config import Reader


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageSettings:
    """See `ask_storage`."""


def ask_storage(_reader: Reader) -> StorageSettings:
    """Take [storage]."""
    return StorageSettings()
