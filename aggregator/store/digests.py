"""Deletes the digests of batches that nobody will send again.

A digest tells a replay from a conflict. An agent sends again what follows the mark, so
none from before it is asked for but by messages that were under way; after 35 days, the
age at which usage is set aside, there are none. What is deleted is noted at the stream: a
sequence up to there that comes after all is acknowledged and not stored, as a replay is.
The digest of the mark stays, however old: a Welcome names it.
"""

from typing import Final

from aggregator.store.pool import Pool
from aggregator.store.queries import query

_FORGET_DIGESTS = query("forget_digests")

_DAYS: Final = 35
_AT_ONCE: Final = 50_000
"""So many are deleted in a transaction: ingest waits for it."""


async def forget_digests(pool: Pool, *, days: int = _DAYS, at_once: int = _AT_ONCE) -> int:
    """Delete all that are old; give how many."""
    total = 0
    while True:
        async with pool.connection() as connection:
            cursor = await connection.execute(_FORGET_DIGESTS, {"days": days, "at_once": at_once})
            row = await cursor.fetchone()
        deleted = 0 if row is None else int(row[0])
        total += deleted
        if deleted < at_once:
            return total
