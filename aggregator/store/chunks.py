"""Makes the hypertables' chunks before they are needed and drops those that are not.

A chunk that an open transaction is making blocks every other new one, so none is left to
be made by ingest or the rater in their stride. Raw usage is dropped by whole chunks, and
never one that could hold usage which is not rated.
"""

from datetime import datetime
from typing import Final

from psycopg import AsyncCursor
from psycopg.rows import TupleRow

from aggregator.model import RATER_LOCK
from aggregator.store.pool import Pool
from aggregator.store.queries import Query, query

_ADD_USAGE_CHUNKS = query("add_usage_chunks")
_DELETE_USAGE_SEEDS = query("delete_usage_seeds")
_ADD_CHARGE_CHUNKS = query("add_charge_chunks")
_DELETE_CHARGE_SEEDS = query("delete_charge_seeds")
_ADD_ACCOUNT_CHUNKS = query("add_account_chunks")
_DELETE_ACCOUNT_SEEDS = query("delete_account_seeds")
_COUNT_EXPIRED_USAGE_CHUNKS = query("count_expired_usage_chunks")
_SET_DROP_TIMEOUT = query("set_drop_timeout")
_WAIT_RATER_LOCK = query("wait_rater_lock")
_STOP_INGEST = query("stop_ingest")
_DROP_USAGE_CHUNKS = query("drop_usage_chunks")

_DAYS_AHEAD: Final = 2


async def add_chunks(pool: Pool) -> int:
    """Make the chunks of the next days; give how many were missing."""
    async with (
        pool.connection() as connection,
        connection.transaction(),
        connection.cursor() as cursor,
    ):
        usage = await _add(cursor, _ADD_USAGE_CHUNKS, _DELETE_USAGE_SEEDS)
        charge = await _add(cursor, _ADD_CHARGE_CHUNKS, _DELETE_CHARGE_SEEDS)
        account = await _add(cursor, _ADD_ACCOUNT_CHUNKS, _DELETE_ACCOUNT_SEEDS)
    return usage + charge + account


async def drop_expired_chunks(pool: Pool, *, usage_days: int) -> int:
    """Drop chunks of raw usage older than so many days and rated; give how many.

    Ingest waits meanwhile, for milliseconds. Raises psycopg.errors.LockNotAvailable if it
    cannot be made to within a few seconds; the next attempt will do.
    """
    async with (
        pool.connection() as connection,
        connection.transaction(),
        connection.cursor() as cursor,
    ):
        await cursor.execute(_COUNT_EXPIRED_USAGE_CHUNKS, {"days": usage_days})
        row = await cursor.fetchone()
        if row is None or not row[0]:
            return 0
        await cursor.execute(_SET_DROP_TIMEOUT)
        await cursor.execute(_WAIT_RATER_LOCK, {"lock": RATER_LOCK})
        await cursor.execute(_STOP_INGEST)
        await cursor.execute(_DROP_USAGE_CHUNKS, {"days": usage_days})
        return len(await cursor.fetchall())


async def _add(cursor: AsyncCursor[TupleRow], add: Query, delete: Query) -> int:
    await cursor.execute(add, {"days": _DAYS_AHEAD})
    instants: list[datetime] = [row[0] for row in await cursor.fetchall()]
    if instants:
        await cursor.execute(delete, {"instants": instants}, prepare=False)
    return len(instants)
