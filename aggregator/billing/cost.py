"""What projects, namespaces and clusters used or reserved, by days, weeks or months.

Usage is the sum of the daily rollups, so a day's is that of its bookings. What is reserved is
a quota times the time within each step that it holds, used or not, past or to come. A quota
is a project's as a whole: it is of no cluster and no namespace, of no user and no virtual
cluster, and who may see only those sees none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import StrEnum
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

from aggregator.billing.database import Database, Parameters, rows_of
from aggregator.billing.item_lists import storable
from aggregator.billing.scope import Scope
from aggregator.model import ResourceType
from aggregator.rating import money
from aggregator.rating.price import PER
from aggregator.store.queries import Query, query
from aggregator.units import UNITS, Unit

_LIST_COST_USAGE = query("list_cost_usage")
_LIST_COST_USAGE_OF_USER = query("list_cost_usage_of_user")
_LIST_COST_QUOTAS = query("list_cost_quotas")

Step: TypeAlias = Literal["day", "week", "month"]
Grain: TypeAlias = Literal["project", "namespace", "cluster"]


class Quantity(StrEnum):
    """What of a resource is summed."""

    EFFECTIVE = "effective"
    ALLOCATED = "allocated"
    USED = "used"
    RESERVED = "reserved"


def _unit(type_: ResourceType, name: str, per: str) -> Unit:
    return Unit(name=name, base_units=UNITS[type_].base_units * PER[per].api_units)


COST_UNITS: Final[Mapping[ResourceType, Unit]] = MappingProxyType(
    {
        ResourceType.CPU: _unit(ResourceType.CPU, "core", "core-hour"),
        ResourceType.MEM: _unit(ResourceType.MEM, "GiB", "GiB-hour"),
        ResourceType.STORAGE: _unit(ResourceType.STORAGE, "GiB", "GiB-hour"),
    }
)
"""The types that are asked for, each with the unit in which it is shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CostsAsked:
    """A question for sums.

    `grain`: what each sum is of; `name`: of the one of that name alone. `within`: only what
    is of this project. Both ends of the range are whole UTC days within it. `page` counts
    from 1.
    """

    type: ResourceType
    quantity: Quantity
    first: date
    last: date
    step: Step
    grain: Grain
    name: str | None
    within: str | None
    page: int
    page_size: int

    @property
    def matches_nothing(self) -> bool:
        """Whether nothing can match, whatever the database holds."""
        if self.quantity is Quantity.RESERVED and self.grain != "project":
            return True
        return any(text is not None and not storable(text) for text in (self.name, self.within))

    def parameters(self, scope: Scope) -> Parameters:
        """The parameters of both queries."""
        is_namespace = self.grain == "namespace"
        return {
            "type": self.type.value,
            "quantity": self.quantity.value,
            "first": self.first,
            "last": self.last,
            "step": self.step,
            "by_cluster": is_namespace or self.grain == "cluster",
            "by_project": is_namespace or self.grain == "project",
            "by_namespace": is_namespace,
            **{grain: self.name if grain == self.grain else None for grain in _GRAINS},
            "within": self.within,
            "offset": (self.page - 1) * self.page_size,
            "limit": self.page_size,
            **scope.parameters(),
        }


_GRAINS: Final[tuple[Grain, ...]] = ("cluster", "project", "namespace")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """One sum, of the days from `first` to `last`; "" is what it is not of.

    `quantity` is in base unit x ms.
    """

    cluster: str
    project: str
    namespace: str
    first: date
    last: date
    quantity: Decimal

    def hours(self, unit: Unit) -> float:
        """The sum in unit-hours."""
        return money.usage(int(self.quantity), unit)


@dataclass(frozen=True, slots=True, kw_only=True)
class CostPage:
    """A part of the sums in their order; `total` is how many there are on all pages."""

    total: int
    costs: Sequence[Cost]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """A line of a page; of a page with nothing on it the one line, which has the total alone."""

    total: int
    cluster: str | None
    project: str | None
    namespace: str | None
    first: date | None
    last: date | None
    quantity: Decimal | None

    def cost(self) -> Cost | None:
        if self.first is None or self.last is None or self.quantity is None:
            return None
        return Cost(
            cluster=self.cluster or "",
            project=self.project or "",
            namespace=self.namespace or "",
            first=self.first,
            last=self.last,
            quantity=self.quantity,
        )


async def list_costs(database: Database, asked: CostsAsked, scope: Scope) -> CostPage:
    """The page that was asked for: by days, then by cluster, project and namespace."""
    if asked.matches_nothing:
        return CostPage(total=0, costs=())
    statement = _statement(asked, scope)
    async with database.reading() as connection:
        # A plan for these very values: what is not asked for costs nothing then.
        rows = await rows_of(connection, statement, asked.parameters(scope), _Row, prepare=False)
    found = [cost for row in rows if (cost := row.cost())]
    return CostPage(total=rows[0].total, costs=found)


def _statement(asked: CostsAsked, scope: Scope) -> Query:
    """Classes of items are of no user, and few: who asks for one user's asks for items."""
    if asked.quantity is Quantity.RESERVED:
        return _LIST_COST_QUOTAS
    return _LIST_COST_USAGE if scope.user_id is None else _LIST_COST_USAGE_OF_USER
