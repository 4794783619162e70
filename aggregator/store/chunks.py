"""Makes the hypertables' chunks before they are needed and drops those that are not.

A chunk that an open transaction is making blocks every other new one, so none is left to
be made by ingest or the rater in their stride. Raw usage is dropped by whole chunks, and
never one that could hold usage which is not rated: the database's own functions see to that.
"""

from typing import Final

from aggregator.store.pool import Pool
from aggregator.store.queries import Query, query

_ADD_CHUNKS = query("add_chunks")
_DROP_USAGE_CHUNKS = query("drop_usage_chunks")

_DAYS_AHEAD: Final = 2


async def add_chunks(pool: Pool) -> int:
    """Make the chunks of the next days; give how many were missing."""
    return await _count(pool, _ADD_CHUNKS, _DAYS_AHEAD)


async def drop_expired_chunks(pool: Pool, *, usage_days: int) -> int:
    """Drop chunks of raw usage older than so many days and rated; give how many.

    Ingest waits meanwhile, for milliseconds. Raises psycopg.errors.LockNotAvailable if it
    cannot be made to within a few seconds; the next attempt will do.
    """
    return await _count(pool, _DROP_USAGE_CHUNKS, usage_days)


async def _count(pool: Pool, statement: Query, days: int) -> int:
    async with pool.connection() as connection:
        row = await (await connection.execute(statement, {"days": days})).fetchone()
    return 0 if row is None else int(row[0])
