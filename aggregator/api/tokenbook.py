"""Which tokens are valid, remembered for a second: what is revoked is refused within one.

However many requests come with a token, the database is asked once a second, and once at a
time. What is no token is not remembered; the limit of refused requests bounds it.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from aggregator.billing.database import Database
from aggregator.billing.tokens import Bearer, use_token
from aggregator.clock import monotonic

VALID_SECONDS: Final = 1.0
MAX_TOKENS: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    bearer: Bearer
    until: float


class TokenBook:
    """The valid tokens that were used last."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = monotonic) -> None:
        """Ask `database`."""
        self._database = database
        self._clock = clock
        self._known: OrderedDict[bytes, _Known] = OrderedDict()
        self._asking: dict[bytes, asyncio.Task[Bearer | None]] = {}

    def knows(self, digest: bytes) -> bool:
        """Whether the token was valid when it was seen last."""
        return digest in self._known

    async def bearer(self, digest: bytes) -> Bearer | None:
        """Whose token it is, if it is valid."""
        known = self._known.get(digest)
        if known is not None and known.until > self._clock():
            return known.bearer
        task = self._asking.get(digest)
        if task is None:
            task = asyncio.create_task(self._ask(digest))
            self._asking[digest] = task
            task.add_done_callback(lambda done: self._answered(digest, done))
        return await asyncio.shield(task)  # others wait for it, too

    def forget(self) -> None:
        """Ask again about all of them: one was revoked."""
        for digest, known in self._known.items():
            self._known[digest] = _Known(bearer=known.bearer, until=0)

    def _answered(self, digest: bytes, task: asyncio.Task[Bearer | None]) -> None:
        del self._asking[digest]
        if not task.cancelled():
            task.exception()  # whoever waits has it; all may have left

    async def _ask(self, digest: bytes) -> Bearer | None:
        asked_at = self._clock()
        bearer = await use_token(self._database, digest)
        if bearer is None:
            self._known.pop(digest, None)
            return None
        self._known[digest] = _Known(bearer=bearer, until=asked_at + VALID_SECONDS)
        self._known.move_to_end(digest)
        while len(self._known) > MAX_TOKENS:
            self._known.popitem(last=False)
        return bearer


TOKENS = web.AppKey("TOKENS", TokenBook)
