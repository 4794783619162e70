"""The re-rater: books charges again at other prices, as administrators order it.

The work is SQL over sets (`store/sql/rerate.sql`), some meters at a time. A round is one
transaction: what it appends and how far it says to be become durable together, so an order
goes on after a kill where it was, and each charge is booked again once. It holds periods
and prices still, and works in turns with the rater, under the same lock; ingest takes none
of them.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from psycopg import AsyncCursor
from psycopg.rows import TupleRow

from aggregator.metrics import Metrics
from aggregator.model import PERIOD_LOCK, PRICE_LOCK, RATER_LOCK
from aggregator.rating.ratio import parse
from aggregator.store.pool import Pool
from aggregator.store.queries import query

_TRY_RATER_LOCK = query("try_rater_lock")
_SET_RATER_SESSION = query("set_rater_session")
_SHARE_PERIOD_LOCK = query("share_period_lock")
_SHARE_PRICE_LOCK = query("share_price_lock")
_GET_OPEN_RERATE = query("get_open_rerate")
_GET_RERATE_BATCH = query("get_rerate_batch")
_LIST_RERATE_BOUNDARIES = query("list_rerate_boundaries")
_RERATE_METERS = query("rerate_meters")
_UPDATE_RERATED_VERSIONS = query("update_rerated_versions")
_MOVE_RERATE = query("move_rerate")

BATCH_CHARGES: Final = 50_000
"""Charges in one transaction, and those of one meter more."""


class RerateError(Exception):
    """An item was booked again that has no bill; the round is undone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Order:
    rerate_id: int
    starts_at: datetime
    ends_at: datetime
    key: str | None
    last_meter_id: int
    after_meter_id: int

    def parameters(self) -> dict[str, object]:
        """The range of hours and of meters, and which classes of usage."""
        meaning = parse(self.key) if self.key else None
        return {
            "rerate_id": self.rerate_id,
            "starts_at": self.starts_at,
            "ends_at": self.ends_at,
            "after_meter_id": self.after_meter_id,
            "last_meter_id": self.last_meter_id,
            "type": meaning and meaning.type.value,
            "model": meaning and meaning.model,
            "vc": meaning and meaning.vc,
        }


async def rerate_pending(pool: Pool, metrics: Metrics, *, limit: int = BATCH_CHARGES) -> int:
    """Do all that is ordered; the number of lines appended."""
    total = 0
    while (lines := await rerate_round(pool, metrics, limit=limit)) is not None:
        total += lines
    return total


async def rerate_round(pool: Pool, metrics: Metrics, *, limit: int = BATCH_CHARGES) -> int | None:
    """Book some charges again in one transaction; the lines appended.

    None: nothing is ordered, or another rater works.
    """
    async with (
        pool.connection() as connection,
        connection.transaction(),
        connection.cursor() as cursor,
    ):
        if not await _lock(cursor):
            return None
        order = await _next_order(cursor)
        if order is None:
            return None
        lines = await _book(cursor, order, limit)
    metrics.rerated_lines.inc(lines)
    return lines


async def _lock(cursor: AsyncCursor[TupleRow]) -> bool:
    await cursor.execute(_TRY_RATER_LOCK, {"lock": RATER_LOCK})
    row = await cursor.fetchone()
    if row is None or not row[0]:
        return False
    await cursor.execute(_SET_RATER_SESSION)
    await cursor.execute(_SHARE_PERIOD_LOCK, {"lock": PERIOD_LOCK})
    await cursor.execute(_SHARE_PRICE_LOCK, {"lock": PRICE_LOCK})
    return True


async def _next_order(cursor: AsyncCursor[TupleRow]) -> _Order | None:
    await cursor.execute(_GET_OPEN_RERATE)
    row = await cursor.fetchone()
    if row is None:
        return None
    rerate_id, starts_at, ends_at, key, last_meter_id, through_meter_id = row
    return _Order(
        rerate_id=rerate_id,
        starts_at=starts_at,
        ends_at=ends_at,
        key=key,
        last_meter_id=last_meter_id,
        after_meter_id=through_meter_id,
    )


async def _book(cursor: AsyncCursor[TupleRow], order: _Order, limit: int) -> int:
    """Book the next meters again, and move the order on; the lines appended."""
    parameters = order.parameters()
    await cursor.execute(_GET_RERATE_BATCH, parameters | {"limit": limit}, prepare=False)
    row = await cursor.fetchone()
    through = row[0] if row else None
    if through is None:
        await _move(cursor, order, order.last_meter_id, charges=0, lines=0)
        return 0
    parameters["through_meter_id"] = through
    await cursor.execute(_LIST_RERATE_BOUNDARIES, parameters)
    parameters["boundaries"] = [at for (at,) in await cursor.fetchall()]
    await cursor.execute(_RERATE_METERS, parameters, prepare=False)
    charges, changed, items, bills = await cursor.fetchone() or (0, 0, 0, 0)
    if items != bills:
        raise RerateError(f"{items} items were booked again and {bills} bills found")
    if changed:
        await cursor.execute(_UPDATE_RERATED_VERSIONS, parameters, prepare=False)
    await _move(cursor, order, through, charges=charges, lines=2 * changed)
    return 2 * int(changed)


async def _move(
    cursor: AsyncCursor[TupleRow], order: _Order, through: int, *, charges: int, lines: int
) -> None:
    await cursor.execute(
        _MOVE_RERATE,
        {
            "rerate_id": order.rerate_id,
            "through_meter_id": through,
            "charge_count": charges,
            "line_count": lines,
            "is_finished": through >= order.last_meter_id,
        },
    )
