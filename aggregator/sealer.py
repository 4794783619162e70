"""The sealer: says from when on the charges of an hour do not change any more.

An hour is sealed some minutes after its end, when none of its usage waits to be rated. The
seal is one instant that only moves on. The rater books what is told of an earlier hour as an
adjustment, so what was shown of a sealed hour once is shown again, and more beside it.
"""

from datetime import datetime, timedelta

from psycopg import AsyncCursor
from psycopg.rows import TupleRow

from aggregator.model import PERIOD_LOCK
from aggregator.settings import RaterSettings
from aggregator.store.pool import Pool
from aggregator.store.queries import query

_GET_NEXT_SEAL = query("get_next_seal")
_LOCK_SEAL = query("lock_seal")
_INSERT_SEAL = query("insert_seal")


async def seal_hours(pool: Pool, settings: RaterSettings) -> datetime | None:
    """Seal what can be sealed; until when. None: there is nothing new.

    While it looks a second time and writes, nobody rates: whoever does afterwards sees it.
    """
    after = timedelta(seconds=settings.seal_after_seconds)
    async with pool.connection() as connection, connection.cursor() as cursor:
        if await _next(cursor, after) is None:
            return None
        await cursor.execute(_LOCK_SEAL, {"lock": PERIOD_LOCK})
        until = await _next(cursor, after)
        if until is not None:
            await cursor.execute(_INSERT_SEAL, {"until": until})
    return until


async def _next(cursor: AsyncCursor[TupleRow], after: timedelta) -> datetime | None:
    await cursor.execute(_GET_NEXT_SEAL, {"after": after})
    row = await cursor.fetchone()
    return row[0] if row else None
