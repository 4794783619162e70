"""What the Cost API is asked and what it answers."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Final, Literal, TypeAlias

from aiohttp import web
from pydantic import BeforeValidator, Field, TypeAdapter, WithJsonSchema

from aggregator.api.instants import Day
from aggregator.api.parse import parse_query
from aggregator.api.problem import invalid
from aggregator.api.wire import Double, wire
from aggregator.billing.cost import (
    COST_UNITS,
    Cost,
    CostPage,
    CostsAsked,
    Grain,
    Quantity,
    Step,
)
from aggregator.model import ResourceType
from aggregator.rating.currency import CURRENCIES
from aggregator.rating.money import number

MAX_DAYS: Final = 1_096
"""Three years, one of them a leap year."""

MAX_PAGE: Final = 2**31 - 1
MAX_PAGE_SIZE: Final = 500

Kind: TypeAlias = Literal[
    "project", "namespace", "cluster", "project_all", "namespace_all", "cluster_all"
]
ItemName: TypeAlias = Literal["Cpu", "Memory", "Storage"]
MethodName: TypeAlias = Literal["Effective", "Request", "Usage", "ProjectQuota"]

_TYPES: Final[Mapping[ItemName, ResourceType]] = {
    "Cpu": ResourceType.CPU,
    "Memory": ResourceType.MEM,
    "Storage": ResourceType.STORAGE,
}
_QUANTITIES: Final[Mapping[MethodName, Quantity]] = {
    "Effective": Quantity.EFFECTIVE,
    "Request": Quantity.ALLOCATED,
    "Usage": Quantity.USED,
    "ProjectQuota": Quantity.RESERVED,
}
_GRAINS: Final[Mapping[Kind, Grain]] = {
    "project": "project",
    "project_all": "project",
    "namespace": "namespace",
    "namespace_all": "namespace",
    "cluster": "cluster",
    "cluster_all": "cluster",
}
_NUMBER = re.compile(r"0*([0-9]{1,10})")
_DIGITS = re.compile(r"[0-9]*[1-9][0-9]*")


def _page(value: object) -> object:
    found = _NUMBER.fullmatch(value) if isinstance(value, str) else None
    if found is None or not 1 <= int(found[1]) <= MAX_PAGE:
        raise ValueError(f"must be a whole number from 1 to {MAX_PAGE}")
    return int(found[1])


def _page_size(value: object) -> object:
    """A number of any length: what is too large counts as the largest."""
    if not isinstance(value, str) or not _DIGITS.fullmatch(value):
        raise ValueError("must be a whole number, at least 1")
    found = _NUMBER.fullmatch(value)
    return min(int(found[1]), MAX_PAGE_SIZE) if found else MAX_PAGE_SIZE


PageNumber: TypeAlias = Annotated[
    int,
    BeforeValidator(_page),
    WithJsonSchema({"type": "integer", "minimum": 1, "maximum": MAX_PAGE}),
]
CurrencyCode: TypeAlias = Annotated[str, WithJsonSchema({"type": "string", "enum": [*CURRENCIES]})]
PageSize: TypeAlias = Annotated[
    int, BeforeValidator(_page_size), WithJsonSchema({"type": "integer", "minimum": 1})
]


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class CostQuery:
    """Which costs, of which time, which page."""

    start: Annotated[Day, Field(description="Start time, the first UTC day, like 2025-06-01")]
    end: Annotated[
        Day,
        Field(
            description="End time, the last UTC day, like 2025-06-30; with start at most "
            f"{MAX_DAYS} days"
        ),
    ]
    step: Annotated[
        Step | None,
        Field(
            description="Statistical step, default is month; weeks begin on Monday; the first "
            "and the last one are clipped to the range"
        ),
    ] = None
    kind: Annotated[
        Kind | None,
        Field(
            description="Statistical kind, default is project_all; project, namespace and cluster "
            "are the one of that name, which is then required"
        ),
    ] = None
    name: Annotated[
        str | None, Field(description="Statistical name, relative to the statistical kind")
    ] = None
    item: Annotated[ItemName | None, Field(description="Billing item, default is Cpu")] = None
    method: Annotated[
        MethodName | None,
        Field(
            description="Billing method, default is Effective; ProjectQuota is what is reserved "
            "for projects x hours, used or not, also in hours to come, as far as it is known: "
            "of a whole month from its first day on; there is none of a namespace or a cluster"
        ),
    ] = None
    current_page: Annotated[PageNumber | None, Field(description="Default is 1")] = None
    page_size: Annotated[
        PageSize | None,
        Field(description=f"Default is 20; more than {MAX_PAGE_SIZE} counts as {MAX_PAGE_SIZE}"),
    ] = None


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class CostUsageItem:
    """Usage of one project, namespace or cluster in one step."""

    project: Annotated[str, Field(description='Project; "" of clusters')]
    cluster: Annotated[str, Field(description='Cluster; "" of projects')]
    namespace: Annotated[str, Field(description='Namespace; "" of projects and clusters')]
    item: Annotated[ItemName, Field(description="Billing item")]
    method: Annotated[MethodName, Field(description="Billing method")]
    usage: Annotated[Double, Field(description="Usage: core-hours of Cpu, else GiB-hours")]
    currency: Annotated[CurrencyCode, Field(description="What prices are in")]
    start: Annotated[str, Field(description="First day, example: 20250601", pattern="^[0-9]{8}$")]
    end: Annotated[str, Field(description="Last day, example: 20250630", pattern="^[0-9]{8}$")]


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class CostUsageResponse:
    """A page of usage."""

    page_size: int
    current_page: int
    total: Annotated[int, Field(description="Total items, on all pages")]
    items: Annotated[
        list[CostUsageItem],
        Field(description="By start, then by cluster, project and namespace, as bytes"),
    ]


COST_QUERY = TypeAdapter(CostQuery)
COST_USAGE = TypeAdapter(CostUsageResponse)


@dataclass(frozen=True, slots=True, kw_only=True)
class CostRequest:
    """A question by the words of the API, and what they mean."""

    item: ItemName
    method: MethodName
    asked: CostsAsked


def parse_costs(request: web.Request, project: str | None) -> CostRequest:
    """What a request asks. Raises a Problem 400 that names the parameter."""
    query = parse_query(request, COST_QUERY)
    kind: Kind = query.kind or "project_all"
    _check(query, kind)
    item: ItemName = query.item or "Cpu"
    method: MethodName = query.method or "Effective"
    asked = CostsAsked(
        type=_TYPES[item],
        quantity=_QUANTITIES[method],
        first=query.start,
        last=query.end,
        step=query.step or "month",
        grain=_GRAINS[kind],
        name=None if kind.endswith("_all") else query.name,
        within=project,
        page=query.current_page or 1,
        page_size=query.page_size or 20,
    )
    return CostRequest(item=item, method=method, asked=asked)


def cost_usage(request: CostRequest, page: CostPage, currency: str) -> CostUsageResponse:
    """The answer."""
    return CostUsageResponse(
        page_size=request.asked.page_size,
        current_page=request.asked.page,
        total=page.total,
        items=[_item(request, cost, currency) for cost in page.costs],
    )


def _check(query: CostQuery, kind: Kind) -> None:
    """Refuse what no single parameter tells of."""
    if query.end < query.start:
        raise invalid({"end": ["is before start"]})
    if (days := (query.end - query.start).days + 1) > MAX_DAYS:
        reason = f"is day {days} of the range, which may have at most {MAX_DAYS}: ask in parts"
        raise invalid({"end": [reason]})
    if not kind.endswith("_all") and query.name is None:
        raise invalid({"name": [f"is required with the kind {kind}; {kind}_all needs none"]})


def _item(request: CostRequest, cost: Cost, currency: str) -> CostUsageItem:
    return CostUsageItem(
        project=cost.project,
        cluster=cost.cluster,
        namespace=cost.namespace,
        item=request.item,
        method=request.method,
        usage=number(cost.hours(COST_UNITS[request.asked.type])),
        currency=currency,
        start=_compact(cost.first),
        end=_compact(cost.last),
    )


def _compact(day: date) -> str:
    """Like 20250601; `strftime` pads no year."""
    return day.isoformat().replace("-", "")
