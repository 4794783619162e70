"""Answers that may be given again for ten minutes, in bounded memory.

Each is kept under all that it depends on, what its caller may see first of all.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final

from aiohttp import web

from aggregator.clock import monotonic

KEPT_SECONDS: Final = 600.0
MAX_KEPT: Final = 200


class Remembered:
    """Answers that may be given again for a while; those used least lately go first."""

    def __init__(self, *, clock: Callable[[], float] = monotonic) -> None:
        """Nothing is known yet."""
        self._clock = clock
        self._kept: OrderedDict[Hashable, tuple[float, bytes]] = OrderedDict()

    def get(self, key: Hashable) -> bytes | None:
        """What was answered less than ten minutes ago."""
        until, body = self._kept.get(key, (0.0, b""))
        if until <= self._clock():
            return None
        self._kept.move_to_end(key)
        return body

    def put(self, key: Hashable, body: bytes) -> None:
        """Remember an answer."""
        self._kept[key] = (self._clock() + KEPT_SECONDS, body)
        self._kept.move_to_end(key)
        while len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)


REMEMBERED = web.AppKey("REMEMBERED", Remembered)
