"""The ledger: a line for each charge and each adjustment, in USD, once its hour is sealed.

What is a line stays one, as it is: the charges of a sealed hour are not touched any more, and
what is booked for it later is a line of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final, Literal
from uuid import UUID

from aggregator.billing.currencies import exchange_of
from aggregator.billing.database import Connection, Database, Parameters, rows_of
from aggregator.billing.periods import instant
from aggregator.billing.scope import Scope
from aggregator.model import ResourceType
from aggregator.rating import money
from aggregator.rating.currency import Exchange
from aggregator.rating.month import month_at, month_name
from aggregator.rating.sku import sku
from aggregator.store.queries import Query, query
from aggregator.units import UNITS

CURRENCY: Final = "USD"

_GET_SEALED_UNTIL = query("get_sealed_until")
_GET_FIRST_USAGE = query("get_first_usage")
_COUNT_LEDGER_LINES = query("count_ledger_lines")
_COUNT_UNPRICED_LEDGER_ITEMS = query("count_unpriced_ledger_items")
_LIST_NEWEST_LEDGER_LINES = query("list_newest_ledger_lines")
_LIST_OLDEST_LEDGER_LINES = query("list_oldest_ledger_lines")

_HOUR = timedelta(hours=1)
_WIDER = 6
"""Hours are looked at in ever wider ranges until there is enough for a part."""

_WORDS = {"late": "late usage", "reversal": "reversal of usage", "rerated": "re-rated usage"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a line stands among those from the oldest to the newest."""

    started_at: datetime
    adjustment_id: int
    bill_id: UUID
    ratio_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerAsked:
    """Which lines: of a user, or of anybody; that start within [start, end), or at any time."""

    user_id: UUID | None = None
    start: datetime | None = None
    end: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """As the database has it; `billed` in base unit x ms, `price` in the base currency."""

    kind: Literal["charge", "late", "reversal", "rerated"]
    adjustment_id: int
    bill_id: UUID
    ratio_id: int
    hour: datetime
    used_hour: datetime
    started_at: datetime
    billed: Decimal
    type: str
    model: str | None
    job_id: str
    price: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerLine:
    """`units` unit-hours at `price` each, both as they are printed; negative: taken back."""

    place: Place
    sku: str
    price: float
    units: float
    notes: str

    @property
    def amount(self) -> float:
        """What the account changes by: a debit is negative."""
        return -(self.units * self.price)


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerPage:
    """Some of `total` lines. `unpriced_items`: how many items have usage that is no line."""

    lines: Sequence[LedgerLine]
    total: int = 0
    unpriced_items: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerPart:
    """Lines from the oldest on. `following`: after what the next ones come; None: no more.

    `unpriced_items`, of all that was asked for, is known of the first part alone.
    """

    lines: Sequence[LedgerLine]
    following: Place | None = None
    unpriced_items: int | None = None


async def ledger_page(
    database: Database,
    asked: LedgerAsked,
    scope: Scope,
    *,
    base: str,
    page: int,
    limit: int,
    is_ascending: bool,
) -> LedgerPage:
    """The lines of a page, counted from 1. Raises NoRateError."""
    statement = _LIST_OLDEST_LEDGER_LINES if is_ascending else _LIST_NEWEST_LEDGER_LINES
    async with database.reading() as connection:
        parameters = await _parameters(connection, asked, scope)
        if parameters is None:
            return LedgerPage(lines=())
        total = await _count(connection, _COUNT_LEDGER_LINES, parameters)
        unpriced = await _count(connection, _COUNT_UNPRICED_LEDGER_ITEMS, parameters)
        wanted = {**parameters, **_after(None), "limit": limit, "offset": (page - 1) * limit}
        rows = await rows_of(connection, statement, wanted, _Row, prepare=False)
        exchange = await exchange_of(connection, base)
    lines = [_line(row, exchange) for row in rows]
    return LedgerPage(lines=lines, total=total, unpriced_items=unpriced)


async def ledger_part(
    database: Database,
    asked: LedgerAsked,
    scope: Scope,
    *,
    base: str,
    after: Place | None,
    limit: int,
) -> LedgerPart:
    """The lines after a place. Raises NoRateError."""
    seek = asked if after is None else replace(asked, start=after.started_at)
    async with database.reading() as connection:
        parameters = await _parameters(connection, seek, scope)
        if parameters is None:
            return LedgerPart(lines=(), unpriced_items=0 if after is None else None)
        unpriced = None
        if after is None:
            unpriced = await _count(connection, _COUNT_UNPRICED_LEDGER_ITEMS, parameters)
        wanted = {**parameters, **_after(after)}
        rows = await _oldest(connection, wanted, seek.start, limit + 1)
        exchange = await exchange_of(connection, base)
    lines = [_line(row, exchange) for row in rows[:limit]]
    following = lines[-1].place if len(rows) > limit else None
    return LedgerPart(lines=lines, following=following, unpriced_items=unpriced)


async def _oldest(
    connection: Connection, wanted: Parameters, start: datetime | None, limit: int
) -> Sequence[_Row]:
    """The first lines of a range: however long it is, not many more hours are read than needed."""
    first, end = await instant(connection, _GET_FIRST_USAGE), wanted["ends_before"]
    assert isinstance(end, datetime)
    if first is None:
        return []
    begin = _hour(max(first, start or first))
    until, width = begin, _HOUR
    rows: Sequence[_Row] = []
    while len(rows) < limit and until < end:
        until = min(end, begin + width)
        narrow = {**wanted, "first_hour": begin, "ends_before": until, "limit": limit, "offset": 0}
        rows = await rows_of(connection, _LIST_OLDEST_LEDGER_LINES, narrow, _Row, prepare=False)
        width *= _WIDER
    return rows


def _hour(instant: datetime) -> datetime:
    return instant.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


async def _parameters(
    connection: Connection, asked: LedgerAsked, scope: Scope
) -> Parameters | None:
    """What all queries of the ledger take; None: nothing is sealed, so there are no lines."""
    sealed = await instant(connection, _GET_SEALED_UNTIL)
    if sealed is None:
        return None
    return {
        **scope.parameters(),
        "user_id": asked.user_id,
        "starts_at": asked.start,
        "first_hour": asked.start and _hour(asked.start),
        "ends_before": sealed if asked.end is None else min(sealed, asked.end),
    }


async def _count(connection: Connection, statement: Query, parameters: Parameters) -> int:
    cursor = await connection.execute(statement, parameters, prepare=False)
    row = await cursor.fetchone()
    return int(row[0]) if row else 0


def _after(place: Place | None) -> Parameters:
    return {
        "after_at": place and place.started_at,
        "after_adjustment": place and place.adjustment_id,
        "after_bill": place and place.bill_id,
        "after_ratio": place and place.ratio_id,
    }


def _line(row: _Row, exchange: Exchange) -> LedgerLine:
    type_ = ResourceType(row.type)
    day = row.hour.astimezone(UTC).date()
    return LedgerLine(
        place=Place(
            started_at=row.started_at,
            adjustment_id=row.adjustment_id,
            bill_id=row.bill_id,
            ratio_id=row.ratio_id,
        ),
        sku=sku(type_, row.model),
        price=float(exchange.convert(row.price, CURRENCY, day)),
        units=money.usage(int(row.billed), UNITS[type_]),
        notes=_notes(row),
    )


def _notes(row: _Row) -> str:
    """The job; of an adjustment also what it is, and the period of the usage."""
    if row.kind == "charge":
        return row.job_id
    return f"{_WORDS[row.kind]} of {month_name(month_at(row.used_hour))}: {row.job_id}"
