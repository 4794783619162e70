"""When to look: at absolute deadlines, and soon after something happened. Pure.

Deadlines lie at a phase of the node's own within the interval, so that a thousand nodes
do not send at one instant; a missed one is skipped, not made up for. Events are gathered
for a moment, and looked at once a second at most.
"""

import hashlib
from enum import StrEnum

GATHER_MS = 50
SPACING_MS = 1_000


class Look(StrEnum):
    """How thoroughly to look."""

    FULL = "full"  # every run is sampled
    EVENT = "event"  # who started, changed or ended is noticed


class Schedule:
    """What is due when. The caller tells the time: agent time, which may be stepped."""

    def __init__(self, node: str, interval_ms: int, now_ms: int) -> None:
        """Be due for a first look at once."""
        digest = hashlib.sha256(node.encode()).digest()
        self._phase_ms = int.from_bytes(digest[:8], "big") % interval_ms
        self._interval_ms = interval_ms
        self._full_ms = now_ms
        self._event_ms: int | None = None
        self._looked_ms = now_ms - SPACING_MS
        self.skipped = 0

    def note_event(self, now_ms: int) -> None:
        """Something happened: look soon, but not again at once."""
        if self._event_ms is None:
            self._event_ms = max(now_ms + GATHER_MS, self._looked_ms + SPACING_MS)

    def due(self, now_ms: int) -> Look | None:
        """What is due now."""
        if now_ms >= self._full_ms:
            return Look.FULL
        if self._event_ms is not None and now_ms >= self._event_ms:
            return Look.EVENT
        return None

    def wait_ms(self, now_ms: int) -> int:
        """How long nothing is due."""
        due_ms = self._full_ms if self._event_ms is None else min(self._full_ms, self._event_ms)
        return max(0, due_ms - now_ms)

    def looked(self, look: Look, now_ms: int) -> None:
        """A look is over; if the clock was stepped meanwhile, `now_ms` is of the new time."""
        following_ms = now_ms - (now_ms - self._phase_ms) % self._interval_ms + self._interval_ms
        if look is Look.FULL:
            self.skipped += max(0, (following_ms - self._full_ms) // self._interval_ms - 1)
            self._full_ms = following_ms
        self._full_ms = min(self._full_ms, following_ms)
        self._event_ms = None
        self._looked_ms = now_ms
