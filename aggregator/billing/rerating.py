"""Re-rating: what an order would change, the orders, and how far each of them is.

An order is a row that the rater finds; prices are those of the table of ratios. Nothing is
changed here but that an order is added.
"""

import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from decimal import Decimal
from fractions import Fraction

from aggregator.billing.audit import Author, Entry, Subject, record
from aggregator.billing.database import Connection, Database, Listing, listing_of, rows_of
from aggregator.billing.periods import SET_CLOSE_LIMITS
from aggregator.billing.ratios import clock_of
from aggregator.model import Period, ResourceType
from aggregator.rating import money
from aggregator.rating.ratio import parse, why_nothing, why_unstorable
from aggregator.store.queries import query
from aggregator.units import UNITS

_INSERT_RERATE = query("insert_rerate")
_IS_RATIO_KEY = query("is_ratio_key")
_LIST_RERATES = query("list_rerates")
_LIST_RERATE_BOUNDARIES = query("list_rerate_boundaries")
_PREVIEW_RERATE = query("preview_rerate")

_log = logging.getLogger(__name__)


class OrderError(ValueError):
    """An order that cannot be carried out; `field` is what is wrong with it."""

    def __init__(self, field: str, reason: str) -> None:
        """Keep where, and why."""
        super().__init__(reason)
        self.field = field


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """The hours to rate again; `key`: only the usage that it covers."""

    range: Period
    key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobDifference:
    """What the charges of a job that would change come to, before and after, by type."""

    cluster: str
    job_id: str
    job_name: str
    username: str | None
    vc: str
    types: Sequence[str]
    befores: Sequence[Decimal]
    afters: Sequence[Decimal]
    charges: int

    @property
    def before(self) -> float:
        """Money, rounded once."""
        return float(self._exact(self.befores))

    @property
    def after(self) -> float:
        """Money, rounded once."""
        return float(self._exact(self.afters))

    @property
    def difference(self) -> float:
        """After without before, rounded once."""
        return float(self.exact_difference)

    @property
    def exact_difference(self) -> Fraction:
        """After without before."""
        return self._exact(self.afters) - self._exact(self.befores)

    def _exact(self, amounts: Sequence[Decimal]) -> Fraction:
        parts = zip(self.types, amounts, strict=True)
        return sum(
            (money.exact_fee(amount, UNITS[ResourceType(type_)]) for type_, amount in parts),
            start=Fraction(0),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rerate:
    """An order, and how far it is: by meters, which are looked at in their order."""

    rerate_id: int
    starts_at: datetime
    ends_at: datetime
    key: str | None
    reason: str
    created_at: datetime
    created_by: str
    last_meter_id: int
    through_meter_id: int
    charge_count: int
    line_count: int
    finished_at: datetime | None

    @property
    def percent(self) -> int:
        """The part that is done, rounded down; 100 when all is."""
        if self.finished_at is not None:
            return 100
        return min(99, 100 * self.through_meter_id // max(1, self.last_meter_id))


@asynccontextmanager
async def preview_rerate(
    database: Database, order: Order
) -> AsyncGenerator[Listing[JobDifference]]:
    """Open the list of what an order would do now, by job. Raises OrderError."""
    async with database.reading() as connection:
        await connection.execute(SET_CLOSE_LIMITS)
        await _check(connection, order)
        parameters = _parameters(order)
        cursor = await connection.execute(_LIST_RERATE_BOUNDARIES, parameters)
        parameters["boundaries"] = [at for (at,) in await cursor.fetchall()]
        async with listing_of(connection, _PREVIEW_RERATE, parameters, JobDifference) as rows:
            yield rows


async def order_rerate(database: Database, order: Order, author: Author) -> Rerate:
    """Order the rater to rate hours again. Raises OrderError."""
    if not author.reason:
        raise OrderError("reason", "is required: it is kept for ever beside what changes")
    async with database.changing() as connection:
        await _check(connection, order)
        row = {**_parameters(order), **asdict(author)}
        cursor = await connection.execute(_INSERT_RERATE, row)
        (rerate_id,) = await cursor.fetchone() or (None,)
        (added,) = await _orders(connection, rerate_id)
        entry = Entry(
            subject=Subject.RERATE,
            key=str(rerate_id),
            action="order",
            old_value=None,
            new_value=order.key,
            effective_at=order.range.start,
            effective_until=order.range.end,
        )
        await record(connection, [entry], author)
    fields = {"rerate": rerate_id, "key": order.key, "actor": author.actor}
    _log.info("re-rating ordered", extra={"action": "rerate_ordered", **fields})
    return added


async def list_rerates(database: Database, rerate_id: int | None = None) -> Sequence[Rerate]:
    """Every order, the newest first, or the one of an id."""
    async with database.reading() as connection:
        return await _orders(connection, rerate_id)


async def _orders(connection: Connection, rerate_id: int | None) -> Sequence[Rerate]:
    return await rows_of(connection, _LIST_RERATES, {"rerate_id": rerate_id}, Rerate)


async def _check(connection: Connection, order: Order) -> None:
    check_range(order.range, await clock_of(connection))
    if order.key is None:
        return
    if parse(order.key) is None:
        raise OrderError("key", f"matches no usage: {why_nothing(order.key)}")
    known = not why_unstorable(order.key)
    if known:
        cursor = await connection.execute(_IS_RATIO_KEY, {"key": order.key})
        (known,) = await cursor.fetchone() or (False,)
    if not known:
        raise OrderError("key", "is no ratio's, nor ever was; `nodemeter ratios list` shows them")


def check_range(range_: Period, now: datetime) -> None:
    """Whether the hours can be rated again; pure. Raises OrderError."""
    for field, instant in (("from", range_.start), ("to", range_.end)):
        if instant.minute or instant.second or instant.microsecond:
            raise OrderError(field, "must be a whole hour, since charges know hours")
        if instant > now:
            raise OrderError(field, "lies in the future: nothing of it is rated yet")
    if range_.end <= range_.start:
        raise OrderError("to", "must be after the start of the range")


def _parameters(order: Order) -> dict[str, object]:
    meaning = parse(order.key) if order.key else None
    return {
        "starts_at": order.range.start,
        "ends_at": order.range.end,
        "key": order.key,
        "type": meaning and meaning.type.value,
        "model": meaning and meaning.model,
        "vc": meaning and meaning.vc,
    }
