"""What pods, models and storage were charged, bucket by bucket: exact until it is shown.

A pod is a job, by its id. Amounts are converted by the rate of the day on which they count.
The charges of a pod with several device models are split between them day by day (hour by
hour, where hours are asked for), so what a month comes to is the sum of its days. Months and
days are made of the daily rollups, hours of bookings, never of raw usage.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Final, Literal, NamedTuple, TypeAlias

from aggregator.billing.currencies import exchange_of
from aggregator.billing.database import Database, Listing, Parameters, listing_of
from aggregator.billing.item_lists import storable
from aggregator.billing.ratios import clock_of
from aggregator.billing.scope import Scope
from aggregator.rating import money
from aggregator.rating.bucket import Bucket, ceiling, floor
from aggregator.rating.currency import Exchange, NoRateError
from aggregator.store.queries import Query, query
from aggregator.units import COMMON, UNITS, common_factor

DEFAULT_DAYS: Final = 30
"""Before the end of a range that has no beginning."""

MAX_DAYS: Final[dict[Bucket, int]] = {
    "hour": 31,
    "day": 1830,
    "week": 36_600,
    "month": 36_600,
    "year": 36_600,
}
"""How long a range may be, by what it is cut into."""

USD: Final = "USD"

Of: TypeAlias = Literal["pods", "models", "storage"]

_KIB: Final = 1024
_GB: Final = 10**9
_DAY: Final = timedelta(days=1)
_HOUR: Final = timedelta(hours=1)
_BEGINNING: Final = datetime(1, 1, 1, tzinfo=UTC)
_END: Final = datetime(9999, 1, 1, tzinfo=UTC)

_DAILY: Final[dict[Of, Query]] = {
    "pods": query("list_daily_pods"),
    "models": query("list_daily_models"),
    "storage": query("list_daily_storage"),
}
_HOURLY: Final[dict[Of, Query]] = {
    "pods": query("list_hourly_pods"),
    "models": query("list_hourly_models"),
    "storage": query("list_hourly_storage"),
}


class RangeError(ValueError):
    """A range that cannot be answered; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A question: records of what, for which pods, of which time; None is any.

    `gpu`: of pods, those with this model; of models, this one. `start` and `end` are as they
    were sent; `span` makes whole buckets of them.
    """

    of: Of
    bucket: Bucket = "day"
    start: datetime | None = None
    end: datetime | None = None
    job_id: str | None = None
    gpu: str | None = None
    kind: str | None = None

    @property
    def matches_nothing(self) -> bool:
        """Whether there can be no record, whatever the database holds."""
        return any(text is not None and not storable(text) for text in (self.job_id, self.gpu))

    def span(self, now: datetime) -> "Span":
        """The whole buckets that the range touches. Raises RangeError."""
        end = self.end or now
        start = self.start or end - _DAY * DEFAULT_DAYS
        if self.start and self.end and end < start:
            raise RangeError("endTime lies before startTime")
        days = MAX_DAYS[self.bucket]
        if end - start > _DAY * days:
            raise RangeError(
                f"startTime and endTime may be at most {days} days apart where bucketSize is"
                f" {self.bucket}: ask for longer buckets, or for one part after another"
            )
        return Span(start=floor(start, self.bucket), end=ceiling(end, self.bucket))


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """[start, end), from the beginning of a bucket to the end of one; may be empty."""

    start: datetime
    end: datetime


class Record(NamedTuple):
    """One bucket of one pod or model; `amount` is undivided, in COMMON, of the currency shown."""

    starts_at: datetime
    id: str
    amount: Decimal
    billed_ms: Decimal
    disk_kib: Decimal
    unrated_at: datetime | None

    @property
    def money(self) -> float:
        """The amount; None of it may lack a rate."""
        return money.fee(self.amount, COMMON)

    @property
    def disk_gb(self) -> int:
        """The most that was held, in 10^9 bytes, rounded up."""
        return -(-int(self.disk_kib) * _KIB // _GB)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordListing:
    """Records by time, then id."""

    rows: Listing[Record]
    exchange: Exchange

    def rated(self, record: Record) -> Record:
        """The record itself. Raises NoRateError if a day of the whole list has no rate."""
        if record.unrated_at is not None:
            raise NoRateError(self.exchange.base, USD, record.unrated_at.date())
        return record


@asynccontextmanager
async def list_records(
    database: Database, asked: Asked, base: str, scope: Scope
) -> AsyncGenerator[RecordListing]:
    """Open the list of records that match, in USD. Raises RangeError."""
    async with database.reading() as connection:
        exchange = await exchange_of(connection, base)
        span = asked.span(await clock_of(connection))
        if asked.matches_nothing or span.end <= span.start:
            yield RecordListing(rows=Listing[Record](), exchange=exchange)
            return
        parameters = {**_parameters(asked, span, scope), **_rates(exchange)}
        statement = (_HOURLY if asked.bucket == "hour" else _DAILY)[asked.of]
        async with listing_of(connection, statement, parameters, Record) as rows:
            yield RecordListing(rows=rows, exchange=exchange)


def _parameters(asked: Asked, span: Span, scope: Scope) -> Parameters:
    """`by_class`: by classes of items, which are of no user and of no job."""
    return {
        "bucket": asked.bucket,
        "step": _HOUR if asked.bucket == "hour" else _DAY,
        "starts_at": span.start,
        "ends_at": span.end,
        "job_id": asked.job_id,
        "gpu": asked.gpu,
        "kind": asked.kind,
        "by_class": asked.job_id is None and scope.user_id is None,
        "types": list(UNITS),
        "factors": [Decimal(common_factor(each)) for each in UNITS],
        **scope.parameters(),
    }


def _rates(exchange: Exchange) -> Parameters:
    """The rates as the queries take them."""
    if exchange.base == USD:
        return {"rate_starts": [_BEGINNING], "rate_ends": [_END], "rates": [Decimal(1)]}
    rates = [each for each in exchange.rates if each.currency == USD]
    return {
        "rate_starts": [_midnight(each.starts_on) for each in rates],
        "rate_ends": [_midnight(each.ends_on) if each.ends_on else _END for each in rates],
        "rates": [each.rate for each in rates],
    }


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), tzinfo=UTC)
