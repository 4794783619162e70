"""The housework, now and then: chunks ahead, retention, figures that cost a query."""

import asyncio
import logging
from typing import Final

import psycopg

from aggregator.metrics import Metrics
from aggregator.settings import RetentionSettings
from aggregator.store.chunks import add_chunks, drop_expired_chunks
from aggregator.store.digests import forget_digests
from aggregator.store.outage import Outage
from aggregator.store.pool import Pool
from aggregator.store.queries import query

_COUNT_ALL_UNPRICED_ITEMS = query("count_all_unpriced_items")

_LOGGER: Final = logging.getLogger(__name__)
_INTERVAL_SECONDS: Final = 60


class Maintenance:
    """Does the housework, for ever."""

    def __init__(self, pool: Pool, settings: RetentionSettings, metrics: Metrics) -> None:
        """Do nothing until `run`."""
        self._pool = pool
        self._settings = settings
        self._metrics = metrics
        self._outage = Outage(_LOGGER, "maintenance failed", "maintain")

    async def run(self) -> None:
        """Do it and wait, until cancelled. A failure is tried again."""
        while True:
            try:
                await self.once()
                self._outage.end()
            except psycopg.Error as error:
                self._metrics.maintenance_errors.inc()
                self._outage.begin(error)
            await asyncio.sleep(_INTERVAL_SECONDS)

    async def once(self) -> None:
        """Do all of it once."""
        await add_chunks(self._pool)
        dropped = await drop_expired_chunks(self._pool, usage_days=self._settings.usage_days)
        if dropped:
            self._metrics.dropped_chunks.inc(dropped)
            _LOGGER.info("dropped raw usage", extra={"action": "retain", "chunks": dropped})
        await forget_digests(self._pool)
        async with self._pool.connection() as connection:
            row = await (await connection.execute(_COUNT_ALL_UNPRICED_ITEMS)).fetchone()
        self._metrics.unpriced_items.set(0 if row is None else row[0])
