"""Billing periods: calendar months in UTC, what each comes to, and the digests of closed ones.

What is closed is all before one instant. Nothing is ever added to hours before it, so what
is said of them is said of rows that nothing touches any more.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal

from aggregator.billing.database import Connection, Database, Parameters, rows_of
from aggregator.billing.ratios import clock_of
from aggregator.model import Period, ResourceType
from aggregator.rating import money
from aggregator.rating.digest import Bucket, PeriodDigest
from aggregator.rating.month import month_at
from aggregator.store.queries import Query, query
from aggregator.units import UNITS, Unit

_GET_CLOSED_UNTIL = query("get_closed_until")
_LIST_CLOSED_PERIODS = query("list_closed_periods")
_GET_FIRST_USAGE = query("get_first_usage")
SET_CLOSE_LIMITS = query("set_close_limits")
"""For a transaction that looks at a whole period."""
_SUMMARISE_BOOKINGS = query("summarise_bookings")
_SUMMARISE_ITEMS = query("summarise_items")
_LIST_PERIOD_TOTALS = query("list_period_totals")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedPeriod:
    """A period that does not change any more, and what its digest is of."""

    starts_at: datetime
    ends_at: datetime
    closed_at: datetime
    closed_by: str
    reason: str | None
    digest: str
    charge_count: int
    adjustment_count: int
    item_count: int

    @property
    def range(self) -> Period:
        """Its instants."""
        return Period(start=self.starts_at, end=self.ends_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodState:
    """A period; `closed` None: it is open, and `is_over` tells whether it can be closed."""

    range: Period
    closed: ClosedPeriod | None
    is_over: bool
    has_begun: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeTotal:
    """What a type comes to in a period; `adjusted` is the part booked for other hours."""

    type: str
    items: int
    billed: Decimal
    unpriced: Decimal
    amount: Decimal
    adjusted: Decimal

    @property
    def unit(self) -> Unit:
        """The unit of its usage."""
        return UNITS[ResourceType(self.type)]

    def hours(self, quantity: Decimal) -> float:
        """Unit-hours, rounded once."""
        return money.usage(int(quantity), self.unit)

    def money(self, amount: Decimal) -> float:
        """Money, rounded once."""
        return money.fee(amount, self.unit)


@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodDetail:
    """A period with what it comes to. `recomputed`: the digest of what is stored now."""

    state: PeriodState
    totals: Sequence[TypeTotal]
    recomputed: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    kind: Literal["booking", "item"]
    name: str
    line_count: int
    hash: str
    charge_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The digest of what counts in a period now, and how much that is."""

    digest: str
    charge_count: int
    adjustment_count: int
    item_count: int


async def closed_until(connection: Connection) -> datetime | None:
    """The instant before which all is closed; None: nothing is."""
    return await instant(connection, _GET_CLOSED_UNTIL)


async def list_periods(database: Database) -> Sequence[PeriodState]:
    """Every period from the first one with usage, or a closed one, to that of now."""
    async with database.reading() as connection:
        now = await clock_of(connection)
        closed = await _closed(connection)
        first = await instant(connection, _GET_FIRST_USAGE)
    known = {period.starts_at: period for period in closed}
    current = month_at(min([now, *known, *([first] if first else [])]))
    states: list[PeriodState] = []
    while current.start <= now:
        states.append(
            PeriodState(range=current, closed=known.get(current.start), is_over=current.end <= now)
        )
        current = month_at(current.end)
    return states


async def get_period(database: Database, period: Period, *, verify: bool) -> PeriodDetail:
    """One period; `verify` computes its digest anew, which takes its time."""
    async with database.reading() as connection:
        await connection.execute(SET_CLOSE_LIMITS)
        now = await clock_of(connection)
        closed = await closed_period(connection, period)
        totals = await rows_of(connection, _LIST_PERIOD_TOTALS, bounds(period), TypeTotal)
        summary = await summarise(connection, period) if verify else None
    return PeriodDetail(
        state=PeriodState(
            range=period, closed=closed, is_over=period.end <= now, has_begun=period.start <= now
        ),
        totals=totals,
        recomputed=summary.digest if summary else None,
    )


async def summarise(connection: Connection, period: Period) -> Summary:
    """Look at all that counts in a period."""
    digest = PeriodDigest(period)
    counts = {"booking": 0, "item": 0}
    charges = 0
    for statement in (_SUMMARISE_BOOKINGS, _SUMMARISE_ITEMS):
        rows = await rows_of(connection, statement, bounds(period), _Row)
        digest.add(_bucket(row) for row in rows)
        charges += sum(row.charge_count for row in rows)
        for row in rows:
            counts[row.kind] += row.line_count
    return Summary(
        digest=digest.text(),
        charge_count=charges,
        adjustment_count=counts["booking"] - charges,
        item_count=counts["item"],
    )


def _bucket(row: _Row) -> Bucket:
    return Bucket(kind=row.kind, name=row.name, line_count=row.line_count, hash=row.hash)


def bounds(period: Period) -> Parameters:
    """The parameters of queries about a period."""
    return {"starts_at": period.start, "ends_at": period.end}


async def _closed(connection: Connection) -> Sequence[ClosedPeriod]:
    return await rows_of(connection, _LIST_CLOSED_PERIODS, {}, ClosedPeriod)


async def closed_period(connection: Connection, period: Period) -> ClosedPeriod | None:
    """The period if it is closed."""
    found = (each for each in await _closed(connection) if each.starts_at == period.start)
    return next(found, None)


async def instant(
    connection: Connection, statement: Query, parameters: Parameters | None = None
) -> datetime | None:
    """The one instant that a query gives, if it gives one."""
    row = await (await connection.execute(statement, parameters)).fetchone()
    return row[0] if row and isinstance(row[0], datetime) else None
