"""Currencies: dated rates from the base currency, changed by day, never for a day that had one."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from decimal import Decimal

from aggregator.billing.audit import Author, Entry, Subject, record
from aggregator.billing.database import Connection, Database, rows_of
from aggregator.billing.ratios import clock_of
from aggregator.model import DECLARATION_LOCK
from aggregator.rating.currency import CURRENCIES, Exchange, Rate, RateError, declare_rate
from aggregator.rating.money import plain
from aggregator.store.queries import query

_LOCK_DECLARATIONS = query("lock_declarations")
_LIST_CURRENCY_RATES = query("list_currency_rates")
_CLOSE_CURRENCY_RATE = query("close_currency_rate")
_INSERT_CURRENCY_RATE = query("insert_currency_rate")


@dataclass(frozen=True, slots=True, kw_only=True)
class DatedRate:
    """A rate with its story; equal days: replaced before it took effect."""

    currency_rate_id: int
    base: str
    currency: str
    rate: Decimal
    starts_on: date
    ends_on: date | None
    created_at: datetime
    created_by: str
    reason: str | None
    closed_at: datetime | None
    closed_by: str | None

    def pure(self) -> Rate:
        """Without its story."""
        return Rate(
            rate_id=self.currency_rate_id,
            currency=self.currency,
            rate=self.rate,
            starts_on=self.starts_on,
            ends_on=self.ends_on,
        )


async def list_rates(
    database: Database, base: str, currency: str | None = None
) -> Sequence[DatedRate]:
    """All rates from a base currency, by currency, the newest day first."""
    async with database.reading() as connection:
        return await _rates(connection, base, currency)


async def exchange_of(connection: Connection, base: str) -> Exchange:
    """All rates from a base currency, to convert with."""
    return Exchange(base=base, rates=[each.pure() for each in await _rates(connection, base)])


async def set_rate(
    database: Database,
    base: str,
    currency: str,
    rate: Decimal,
    *,
    author: Author,
    start: date | None = None,
) -> date | None:
    """Make `rate` that of the days from `start` (today) on; its first day, None if it was.

    Raises RateError.
    """
    if currency not in CURRENCIES:
        raise RateError(f"{currency!r} is no known currency; those are {', '.join(CURRENCIES)}")
    if currency == base:
        raise RateError(f"{base} is the base currency, whose rate is always 1")
    async with database.changing() as connection:
        await connection.execute(_LOCK_DECLARATIONS, {"lock": DECLARATION_LOCK})
        today = (await clock_of(connection)).astimezone(UTC).date()
        day = start or today
        rates = [each.pure() for each in await _rates(connection, base, currency)]
        change = declare_rate(rates, rate, day, today)
        if change is None:
            return None
        who = asdict(author)
        if change.closes is not None:
            close = {"currency_rate_id": change.closes, "ends_on": day}
            await connection.execute(_CLOSE_CURRENCY_RATE, close | who)
        row = {"base": base, "currency": currency, "rate": rate, "starts_on": day}
        row |= {"ends_on": change.ends_on}
        await connection.execute(_INSERT_CURRENCY_RATE, row | who)
        old = next((each.rate for each in rates if each.holds(day)), None)
        entry = Entry(
            subject=Subject.CURRENCY,
            key=f"{base}/{currency}",
            action="add" if old is None else "change",
            old_value=None if old is None else plain(old),
            new_value=plain(rate),
            effective_at=datetime.combine(day, datetime.min.time(), tzinfo=UTC),
        )
        await record(connection, [entry], author)
    return day


async def _rates(
    connection: Connection, base: str, currency: str | None = None
) -> Sequence[DatedRate]:
    asked = {"base": base, "currency": currency}
    return await rows_of(connection, _LIST_CURRENCY_RATES, asked, DatedRate)
