"""Which items are listed: by filters, within a scope, clipped to a range, page by page.

A range is of whole hours, since charges are; what it clips is made of bookings, never of raw
usage, and shown as of its end. Pages follow each other by what was last shown, so that
nothing is shown twice or left out while new items come.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar
from uuid import UUID

from psycopg import AsyncCursor
from psycopg.rows import BaseRowFactory, TupleRow, tuple_row

from aggregator.billing.database import (
    NODE_LOST_AFTER,
    SHORT_ROWS,
    Connection,
    Database,
    Listing,
    Parameters,
    ask,
    listing_made,
    maker_of,
    pairs_of,
    rows_of,
)
from aggregator.billing.items import Item, Measured
from aggregator.billing.scope import EVERYTHING, Scope
from aggregator.model import Method
from aggregator.store.queries import Query, query

_COUNT_UNPRICED_ITEMS = query("count_unpriced_items")
_COUNT_UNPRICED_ITEMS_BY_METHOD = query("count_unpriced_items_by_method")
_COUNT_UNPRICED_ITEMS_WITHIN = query("count_unpriced_items_within")
_LIST_ITEMS = query("list_items")
_LIST_ITEMS_BY_METHOD = query("list_items_by_method")
_LIST_ITEMS_WITHIN = query("list_items_within")
_LIST_MEASURED_ITEMS = query("list_measured_items")
_LIST_MEASURED_ITEMS_WITHIN = query("list_measured_items_within")

Shown = TypeVar("Shown")


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemFilter:
    """Which items; None is any."""

    user_id: UUID | None = None
    type: str | None = None
    job_id: str | None = None
    job: str | None = None
    """By id or by name."""
    vc: str | None = None
    node: str | None = None
    is_running: bool | None = None

    def parameters(self) -> Parameters:
        """The parameters of the queries that list and count items."""
        return {
            "user_id": self.user_id,
            "type": self.type,
            "job_id": self.job_id,
            "job": self.job,
            "vc": self.vc,
            "node": self.node,
            "is_running": self.is_running,
            "lost_after": NODE_LOST_AFTER,
        }

    @property
    def matches_nothing(self) -> bool:
        """Whether no item can match, whatever the database holds."""
        texts = (self.type, self.job_id, self.job, self.vc, self.node)
        return any(text is not None and not storable(text) for text in texts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """A part of time: the hours that [start, end) touches; None is no end.

    `is_hourly`: each of the hours by itself.
    """

    start: datetime | None = None
    end: datetime | None = None
    is_hourly: bool = False

    @property
    def is_everything(self) -> bool:
        """Whether nothing is clipped."""
        return self == Clip()

    @property
    def is_empty(self) -> bool:
        """Whether nothing can lie within."""
        return self.start is not None and self.end is not None and self.end <= self.start


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """The place of an item in the order of lists."""

    at: datetime
    job_id: str
    type: str
    bill_id: UUID

    @classmethod
    def of(cls, item: Item) -> "Position":
        """Where an item stands."""
        return cls(
            at=datetime.fromisoformat(item.started_at),
            job_id=item.job_id,
            type=item.type,
            bill_id=UUID(item.bill_id),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A part of a list: what comes after a place, at most `limit`; None is all."""

    limit: int | None = None
    after: Position | None = None

    def parameters(self) -> Parameters:
        """The parameters of the queries that list items."""
        after = self.after
        return {
            "limit": self.limit,
            "offset": 0,
            "after_at": after and after.at,
            "after_job": after and after.job_id,
            "after_type": after and after.type,
            "after_bill": after and after.bill_id,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemsAsked:
    """A question for items. `method`: by what is billed instead of the one in force."""

    which: ItemFilter = ItemFilter()
    clip: Clip = Clip()
    page: Page = Page()
    method: Method | None = None

    @property
    def statement(self) -> Query:
        """The query that answers it."""
        if not self.clip.is_everything:
            return _LIST_ITEMS_WITHIN
        return _LIST_ITEMS_BY_METHOD if self.method else _LIST_ITEMS

    @property
    def measured_statement(self) -> Query:
        """The query that gives the same items with all that was measured."""
        whole = self.clip.is_everything
        return _LIST_MEASURED_ITEMS if whole else _LIST_MEASURED_ITEMS_WITHIN

    @property
    def count_statement(self) -> Query:
        """The query that counts those of the answer that lack a price."""
        if not self.clip.is_everything:
            return _COUNT_UNPRICED_ITEMS_WITHIN
        return _COUNT_UNPRICED_ITEMS_BY_METHOD if self.method else _COUNT_UNPRICED_ITEMS

    @property
    def matches_nothing(self) -> bool:
        """Whether no item can match, whatever the database holds."""
        return self.clip.is_empty or self.which.matches_nothing

    @property
    def begins_at_once(self) -> bool:
        """Whether the first rows are read apart: a short page, or a list that costs no sums."""
        limit = self.page.limit
        return self.clip.is_everything if limit is None else limit <= SHORT_ROWS

    def parameters(self, scope: Scope) -> Parameters:
        """The parameters of whatever query answers it."""
        return {
            **self.which.parameters(),
            **self.page.parameters(),
            **scope.parameters(),
            "starts_at": self.clip.start,
            "ends_at": self.clip.end,
            "is_hourly": self.clip.is_hourly,
            "method": self.method and self.method.value,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemListing(Generic[Shown]):
    """Items in the order of the Bill API.

    `unpriced_items`: how many of them lack a price, on all pages. `following`: where the next
    page begins; None: there is none.
    """

    unpriced_items: int
    rows: Listing[Shown]
    following: Position | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows(Generic[Shown]):
    """What a list is made of, and where of each row the item is."""

    statement: Query
    make: BaseRowFactory[Shown]
    item_of: Callable[[Shown], Item]


def list_items(
    database: Database, asked: ItemsAsked, scope: Scope
) -> AbstractAsyncContextManager[ItemListing[Item]]:
    """Open the list of items that match; all that is said of it is of one snapshot."""
    rows = _Rows(statement=asked.statement, make=maker_of(Item), item_of=lambda item: item)
    return _list(database, asked, scope, rows)


def list_measured_items(
    database: Database, asked: ItemsAsked, scope: Scope
) -> AbstractAsyncContextManager[ItemListing[tuple[Item, Measured]]]:
    """The same, with all that was measured of each."""
    make = pairs_of(Item, Measured)
    rows = _Rows(statement=asked.measured_statement, make=make, item_of=lambda pair: pair[0])
    return _list(database, asked, scope, rows)


@asynccontextmanager
async def _list(
    database: Database, asked: ItemsAsked, scope: Scope, rows: _Rows[Shown]
) -> AsyncGenerator[ItemListing[Shown]]:
    parameters = asked.parameters(scope)
    open_list = _begin if asked.begins_at_once else _read
    async with (
        database.reading() as connection,
        open_list(connection, asked, parameters, rows) as listing,
    ):
        yield listing


@asynccontextmanager
async def _begin(
    connection: Connection, asked: ItemsAsked, parameters: Parameters, rows: _Rows[Shown]
) -> AsyncGenerator[ItemListing[Shown]]:
    """Ask for the count and a short list at once; what is longer, and no page, goes on after."""
    most = asked.page.limit or SHORT_ROWS
    async with connection.pipeline():
        counting = await ask(connection, asked.count_statement, parameters, tuple_row)
        reading = await ask(
            connection, rows.statement, {**parameters, "limit": most + 1}, rows.make
        )
    unpriced = await _number(counting)
    found = await reading.fetchall()
    begun = found[:most]
    last = Position.of(rows.item_of(begun[-1])) if len(found) > most else None
    if last is None or asked.page.limit:
        yield ItemListing(unpriced_items=unpriced, rows=Listing(begun=begun), following=last)
        return
    rest = {**parameters, **Page(after=last).parameters()}
    async with listing_made(connection, rows.statement, rest, rows.make, begun=begun) as listing:
        yield ItemListing(unpriced_items=unpriced, rows=listing, following=None)


@asynccontextmanager
async def _read(
    connection: Connection, asked: ItemsAsked, parameters: Parameters, rows: _Rows[Shown]
) -> AsyncGenerator[ItemListing[Shown]]:
    """Read the list by a cursor from its beginning on."""
    unpriced = await _count_unpriced(connection, asked, parameters)
    following = await _following(connection, asked, parameters)
    async with listing_made(connection, rows.statement, parameters, rows.make) as listing:
        yield ItemListing(unpriced_items=unpriced, rows=listing, following=following)


async def count_unpriced_items(database: Database) -> int:
    """How many items have usage without a price."""
    asked = ItemsAsked()
    async with database.reading() as connection:
        return await _count_unpriced(connection, asked, asked.parameters(EVERYTHING))


def storable(text: str) -> bool:
    """Whether PostgreSQL could hold the text: no NUL, no lone surrogate."""
    return "\x00" not in text and not any("\ud800" <= char <= "\udfff" for char in text)


async def _following(
    connection: Connection, asked: ItemsAsked, parameters: Parameters
) -> Position | None:
    """The last place of the page, if there is anything after it."""
    if asked.page.limit is None:
        return None
    ends = {**parameters, "offset": asked.page.limit - 1, "limit": 2}
    rows = await rows_of(connection, asked.statement, ends, Item)
    return Position.of(rows[0]) if len(rows) == 2 else None


async def _count_unpriced(connection: Connection, asked: ItemsAsked, parameters: Parameters) -> int:
    return await _number(await ask(connection, asked.count_statement, parameters, tuple_row))


async def _number(cursor: AsyncCursor[TupleRow]) -> int:
    row = await cursor.fetchone()
    return int(row[0]) if row else 0
