"""What is billed: items with their usage and fee, and the users and nodes behind them."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from aggregator.billing.database import (
    NODE_LOST_AFTER,
    Connection,
    Database,
    Listing,
    Parameters,
    listing_of,
    rows_of,
)
from aggregator.model import ResourceType
from aggregator.rating import money
from aggregator.store.queries import query
from aggregator.units import UNITS, Unit

_COUNT_UNPRICED_ITEMS = query("count_unpriced_items")
_COUNT_UNPRICED_ITEMS_WITHIN = query("count_unpriced_items_within")
_LIST_ITEMS = query("list_items")
_LIST_ITEMS_WITHIN = query("list_items_within")
_LIST_USERS = query("list_users")
_LIST_NODES = query("list_nodes")


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
    start: datetime | None = None
    end: datetime | None = None
    """With either: only what counts in the hours that [start, end) touches."""

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
            "starts_at": self.start,
            "ends_at": self.end,
        }

    @property
    def is_clipped(self) -> bool:
        """Whether items are shown with a part of their time."""
        return self.start is not None or self.end is not None

    @property
    def matches_nothing(self) -> bool:
        """Whether no item can match, whatever the database holds."""
        if self.start and self.end and self.end <= self.start:
            return True
        texts = (self.type, self.job_id, self.job, self.vc, self.node)
        return any(text is not None and not _storable(text) for text in texts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One bill item: quantities in base unit x ms, instants in UTC, `amount` undivided.

    `price` is that of the only ratio version so far; None while there is none, when the
    usage is unpriced, or when there are several (`is_mixed`).
    """

    bill_id: UUID
    started_at: datetime
    ended_at: datetime
    cluster: str
    node: str
    job_id: str
    job_name: str
    user_id: UUID
    username: str | None
    vc: str
    project: str
    namespace: str
    kind: str
    type: str
    model: str | None
    quota: int
    allocated: Decimal
    used: Decimal
    effective: Decimal
    billed: Decimal
    unpriced: Decimal
    length_ms: Decimal
    observed_ms: Decimal
    amount: Decimal
    price: Decimal | None
    is_mixed: bool
    is_running: bool

    @property
    def unit(self) -> Unit:
        """The unit in which the item is shown."""
        return UNITS[ResourceType(self.type)]

    @property
    def quota_units(self) -> float:
        """The quota in the unit of the APIs."""
        return money.quota(self.quota, self.unit)

    def hours(self, quantity: Decimal) -> float:
        """Unit-hours of one of the item's quantities."""
        return money.usage(int(quantity), self.unit)

    @property
    def usage(self) -> float:
        """Billed unit-hours."""
        return self.hours(self.billed)

    @property
    def fee(self) -> float:
        """Money: usage times price under one version, else the exact sum; 0 if unpriced."""
        if self.is_mixed:
            return money.fee(self.amount, self.unit)
        return 0.0 if self.price is None else money.fee_at(self.usage, self.price)

    @property
    def coverage(self) -> float | None:
        """The observed part of the item's time; None while nothing of it is rated."""
        if not self.length_ms:
            return None
        return money.quotient(int(self.observed_ms), int(self.length_ms))


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Someone whose jobs were metered."""

    user_id: UUID
    username: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A host with an agent, as it last described itself."""

    name: str
    cluster: str
    address: str
    agent_version: str
    cpu_m: int
    mem_kib: int
    cpu_model: str
    devices: Sequence[dict[str, str]]
    first_seen_at: datetime
    last_seen_at: datetime
    is_alive: bool
    live_jobs: int

    @property
    def mem_units(self) -> float:
        """Memory in the unit of the APIs."""
        return money.quota(self.mem_kib, UNITS[ResourceType.MEM])


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemListing:
    """Items in the order of the Bill API, and how many of them lack a price."""

    unpriced_items: int
    rows: Listing[Item]


@asynccontextmanager
async def list_items(database: Database, which: ItemFilter) -> AsyncGenerator[ItemListing]:
    """Open the list of items that match; the count and the rows are of one snapshot."""
    parameters = which.parameters()
    statement = _LIST_ITEMS_WITHIN if which.is_clipped else _LIST_ITEMS
    async with database.reading() as connection:
        unpriced = await _count_unpriced(connection, which)
        async with listing_of(connection, statement, parameters, Item) as rows:
            yield ItemListing(unpriced_items=unpriced, rows=rows)


async def count_unpriced_items(database: Database) -> int:
    """How many items have usage without a price."""
    async with database.reading() as connection:
        return await _count_unpriced(connection, ItemFilter())


@asynccontextmanager
async def list_users(database: Database) -> AsyncGenerator[Listing[User]]:
    """Open the list of users, by name."""
    async with (
        database.reading() as connection,
        listing_of(connection, _LIST_USERS, {}, User) as rows,
    ):
        yield rows


async def list_nodes(database: Database) -> Sequence[Node]:
    """Every node that ever spoke, by name."""
    async with database.reading() as connection:
        return await rows_of(connection, _LIST_NODES, {"lost_after": NODE_LOST_AFTER}, Node)


async def _count_unpriced(connection: Connection, which: ItemFilter) -> int:
    statement = _COUNT_UNPRICED_ITEMS_WITHIN if which.is_clipped else _COUNT_UNPRICED_ITEMS
    cursor = await connection.execute(statement, which.parameters())
    row = await cursor.fetchone()
    return int(row[0]) if row else 0


def _storable(text: str) -> bool:
    """Whether PostgreSQL could hold the text: no NUL, no lone surrogate."""
    return "\x00" not in text and not any("\ud800" <= char <= "\udfff" for char in text)
