"""Bounds the memory that waits for the database: a semaphore counted in bytes.

First come, first served; what is larger than all of the room may enter when it is
empty. Lives on one event loop.
"""

import asyncio
from collections import deque


class Room:
    """So many bytes may be inside at once."""

    def __init__(self, size_bytes: int) -> None:
        """Start empty."""
        self._size = size_bytes
        self._taken = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def taken_bytes(self) -> int:
        """What is inside now."""
        return self._taken

    async def enter(self, size_bytes: int, *, timeout_seconds: float) -> bool:
        """Wait for room; False, and nothing taken, if there was none in time."""
        if not self._waiting and self._fits(size_bytes):
            self._taken += size_bytes
            return True
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size_bytes, place))
        try:
            async with asyncio.timeout(timeout_seconds):
                await asyncio.shield(place)
        except TimeoutError:
            return self._entered_after_all(place)
        except asyncio.CancelledError:
            if self._entered_after_all(place):
                self.leave(size_bytes)
            raise
        return True

    def add(self, size_bytes: int) -> None:
        """What is inside turns out to be larger: it does not wait, others do."""
        self._taken += size_bytes

    def leave(self, size_bytes: int) -> None:
        """Make room and let in who waits, in order."""
        self._taken -= size_bytes
        while self._waiting and (self._waiting[0][1].done() or self._fits(self._waiting[0][0])):
            size, place = self._waiting.popleft()
            if not place.done():
                self._taken += size
                place.set_result(None)

    def _fits(self, size_bytes: int) -> bool:
        return self._taken == 0 or self._taken + size_bytes <= self._size

    def _entered_after_all(self, place: asyncio.Future[None]) -> bool:
        """Give up a place, unless it was given at the last moment."""
        return not place.cancel()
