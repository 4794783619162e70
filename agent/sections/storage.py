"""[storage]: how often the paths of a job are walked, and how far."""

from dataclasses import dataclass

from agent.config import Reader


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageSettings:
    """A walk of one job's paths that would go beyond `max_entries` or `max_seconds` is given up."""

    interval_seconds: int = 300
    max_entries: int = 1_000_000
    max_seconds: int = 60


def ask_storage(reader: Reader) -> StorageSettings:
    """Take [storage]."""
    most_entries = 100_000_000
    return StorageSettings(
        interval_seconds=reader.whole("storage", "interval_seconds", 300, least=10, most=86_400),
        max_entries=reader.whole("storage", "max_entries", 1_000_000, least=1, most=most_entries),
        max_seconds=reader.whole("storage", "max_seconds", 60, least=1, most=3_600),
    )
