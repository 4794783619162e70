"""The words that every provider shares."""

from collections.abc import Callable
from dataclasses import dataclass

NowMs = Callable[[], int]
"""The agent's clock: milliseconds since 1970-01-01T00:00Z, never stepped inside a window."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What a provider could not use, and what to do about it."""

    source: str
    message: str
