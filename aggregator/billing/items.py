"""What is billed: items with their usage and fee, and the users and nodes behind them."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import NamedTuple
from uuid import UUID

from aggregator.billing.database import (
    NODE_LOST_AFTER,
    Database,
    Listing,
    listing_of,
    rows_of,
)
from aggregator.billing.scope import Scope
from aggregator.model import BillId, ResourceType, hour_id
from aggregator.rating import money
from aggregator.store.queries import query
from aggregator.units import UNITS, Unit

_LIST_USERS = query("list_users")
_LIST_NODES = query("list_nodes")


class Item(NamedTuple):
    """One bill item, or what of it is within a range of hours.

    Quantities are in base unit x ms, `amount` is undivided. `price` is that of the only ratio
    version so far; None while there is none, when the usage is unpriced, or when there are
    several (`is_mixed`). Lists are ordered by `started_at`; `hour` is set where items are
    shown hour by hour.

    As lists are long, it is a tuple, made of a row three times as fast as a frozen dataclass;
    and what is only shown stays the database's text: ids, and instants in UTC like
    `2026-02-06 04:00:00.5+00`.
    """

    bill_id: str
    node: str
    job_id: str
    job_name: str
    user_id: str
    username: str | None
    vc: str
    type: str
    model: str | None
    quota: int
    started_at: str
    ended_at: str
    hour: datetime | None
    billed: Decimal
    amount: Decimal
    price: Decimal | None
    is_mixed: bool
    is_running: bool

    @property
    def item_id(self) -> str:
        """The id under which it is shown, the same whatever is asked of it."""
        if self.hour is None:
            return self.bill_id
        return str(hour_id(BillId(UUID(self.bill_id)), self.hour))

    @property
    def unit(self) -> Unit:
        """The unit in which the item is shown."""
        return UNITS[self.type]

    @property
    def quota_units(self) -> float:
        """The quota in the unit of the APIs."""
        return _quota_units(self.quota, self.type)

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
        return self._fee_of(self.usage)

    @property
    def figures(self) -> tuple[float, float, float]:
        """Quota, usage and fee as they are shown; the usage is divided once for both."""
        usage = money.usage(int(self.billed), UNITS[self.type])
        return (
            money.number(_quota_units(self.quota, self.type)),
            money.number(usage),
            money.number(self._fee_of(usage)),
        )

    def _fee_of(self, usage: float) -> float:
        if self.is_mixed:
            return money.fee(self.amount, self.unit)
        return 0.0 if self.price is None else money.fee_at(usage, self.price)


class Measured(NamedTuple):
    """What of an item is not on its bill: where it belongs to, and all that was measured."""

    cluster: str
    project: str
    namespace: str
    kind: str
    allocated: Decimal
    used: Decimal
    effective: Decimal
    unpriced: Decimal
    length_ms: Decimal
    observed_ms: Decimal

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


@lru_cache(maxsize=4096)
def _quota_units(quota: int, type_: str) -> float:
    """The few quotas that there are, each divided once."""
    return money.quota(quota, UNITS[type_])


@asynccontextmanager
async def list_users(database: Database, scope: Scope) -> AsyncGenerator[Listing[User]]:
    """Open the list of users, by name."""
    async with (
        database.reading() as connection,
        listing_of(connection, _LIST_USERS, scope.parameters(), User) as rows,
    ):
        yield rows


async def list_nodes(database: Database, scope: Scope) -> Sequence[Node]:
    """Every node that ever spoke and is within the scope, by name."""
    parameters = {"lost_after": NODE_LOST_AFTER, **scope.parameters()}
    async with database.reading() as connection:
        return await rows_of(connection, _LIST_NODES, parameters, Node)
