"""Says how often a matter may be logged, when whoever is refused knocks again and again. Pure."""

from collections.abc import Callable
from typing import Final

from aggregator.clock import monotonic

_QUIET_SECONDS: Final = 60.0
_MOST_PEERS: Final = 1_000
_MOST_REASONS: Final = 20
"""Of one peer in a minute: it may choose what it is refused for."""


class Quiet:
    """Lets each matter be told once a minute; what was not told is counted."""

    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        """Nothing was told yet."""
        self._now = now
        self._told: dict[tuple[str, str], tuple[float, int]] = {}
        self._lines: dict[str, tuple[float, int]] = {}  # by host: since when, how many

    def untold(self, host: str, reason: str) -> int | None:
        """How often it happened since it was told; None = it is not to be told now."""
        key, now = (host, reason), self._now()
        told_at, count = self._told.pop(key, (-_QUIET_SECONDS, 0))
        is_due = now - told_at >= _QUIET_SECONDS and self._has_room(host, now)
        self._told[key] = (now, 0) if is_due else (told_at, count + 1)
        if len(self._told) > _MOST_PEERS:
            del self._told[next(iter(self._told))]
        return count if is_due else None

    def _has_room(self, host: str, now: float) -> bool:
        """Whether another line of that host fits into its minute; then it is counted."""
        since, lines = self._lines.pop(host, (now, 0))
        if now - since >= _QUIET_SECONDS:
            since, lines = now, 0
        has_room = lines < _MOST_REASONS
        self._lines[host] = (since, lines + has_room)
        if len(self._lines) > _MOST_PEERS:
            del self._lines[next(iter(self._lines))]
        return has_room
