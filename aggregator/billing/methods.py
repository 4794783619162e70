"""Methods: which of allocated, used and effective is billed, per type; versioned like a ratio.

A change holds the price lock, as one of a price does: what is rated keeps its method.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from aggregator.billing.audit import Author, Entry, Subject, record
from aggregator.billing.database import Connection, Database, rows_of
from aggregator.billing.ratios import clock_of
from aggregator.model import PRICE_LOCK, Method, ResourceType
from aggregator.rating.versions import (
    Declaration,
    Version,
    declare,
    effect_of,
    held_at,
    next_minute,
)
from aggregator.store.queries import query

_LOCK_PRICES = query("lock_prices")
_LIST_LIVE_METHODS = query("list_live_methods")
_LIST_METHOD_HISTORY = query("list_method_history")
_CLOSE_METHOD = query("close_method")
_INSERT_METHOD = query("insert_method")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredMethod:
    """The method of a type; `starts_at`: when it takes effect; None: it is in force."""

    type: str
    method: str
    starts_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PastMethod:
    """A version with its whole story; `starts_at` None: from the beginning."""

    type: str
    method: str
    starts_at: datetime | None
    ends_at: datetime | None
    created_at: datetime
    created_by: str
    reason: str | None
    closed_at: datetime | None
    closed_by: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodDifference:
    """What a change does; `effective_at` None: nothing."""

    type: ResourceType
    old: Method
    new: Method
    effective_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    method_id: int
    type: str
    method: str
    starts_at: datetime
    ends_at: datetime | None

    def version(self) -> Version[Method]:
        return Version(
            version_id=self.method_id,
            value=Method(self.method),
            starts_at=self.starts_at,
            ends_at=self.ends_at,
        )


async def list_methods(database: Database) -> Sequence[DeclaredMethod]:
    """The method of each type, and those that begin later, by type and start."""
    async with database.reading() as connection:
        now = await clock_of(connection)
        rows = await _live(connection, now)
    return [
        DeclaredMethod(
            type=row.type,
            method=row.method,
            starts_at=row.starts_at if row.starts_at > now else None,
        )
        for row in rows
        if row.version().ends_after(next_minute(now))
    ]


async def list_method_history(database: Database, type_: str | None) -> Sequence[PastMethod]:
    """Every version of a type, or of all, the newest declaration first within its type."""
    async with database.reading() as connection:
        return await rows_of(connection, _LIST_METHOD_HISTORY, {"type": type_}, PastMethod)


async def set_method(
    database: Database,
    type_: ResourceType,
    method: Method,
    author: Author,
    start: datetime | None = None,
) -> MethodDifference:
    """Bill a type by a method, from `start` or from the next minute on. Raises StartError."""
    wanted = Declaration(value=method, start=start)
    async with database.changing() as connection:
        await connection.execute(_LOCK_PRICES, {"lock": PRICE_LOCK})
        now = await clock_of(connection)
        versions = [row.version() for row in await _live(connection, now, type_)]
        before = held_at(versions, effect_of(wanted, now))
        assert before is not None, "each type has a method at any time"
        change = declare(versions, wanted, now)
        who = asdict(author)
        for version_id, ends_at in change.closes if change else ():
            row = {"version_id": version_id, "ends_at": ends_at}
            await connection.execute(_CLOSE_METHOD, row | who)
        for opening in change.opens if change else ():
            row = {"type": type_.value, "method": opening.value.value}
            times = {"starts_at": opening.starts_at, "ends_at": opening.ends_at}
            await connection.execute(_INSERT_METHOD, row | times | who)
        difference = MethodDifference(
            type=type_,
            old=before.value,
            new=method,
            effective_at=change.opens[0].starts_at if change else None,
        )
        await record(connection, [_entry(difference)] if change else [], author)
    return difference


def _entry(difference: MethodDifference) -> Entry:
    return Entry(
        subject=Subject.METHOD,
        key=difference.type.value,
        action="change",
        old_value=difference.old.value,
        new_value=difference.new.value,
        effective_at=difference.effective_at,
    )


async def _live(
    connection: Connection, since: datetime, type_: ResourceType | None = None
) -> Sequence[_Row]:
    asked = {"since": since, "type": type_ and type_.value}
    return await rows_of(connection, _LIST_LIVE_METHODS, asked, _Row)
