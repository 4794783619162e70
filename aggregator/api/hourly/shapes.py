"""What the Hourly API shows: prices in cents, each rounded by itself from the exact sum."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from aggregator.api.hourly.queries import seconds_of, write_cursor
from aggregator.api.wire import Double, wire
from aggregator.billing.hour_lists import HourPage, PricedHour
from aggregator.billing.hourly import JobPrices, KindPrices, Prices, ProjectPrices, VcPrices
from aggregator.rating.money import cents, number


def _never_null(schema: dict[str, Any]) -> None:
    """What is not said is absent, so null is no choice."""
    (shown,) = [each for each in schema.pop("anyOf") if each != {"type": "null"}]
    schema.pop("default", None)
    schema.update(shown)


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class PriceShape:
    """Prices in cents of the base currency."""

    total: Annotated[Double, Field(description="The total PaaS price, in cents")]
    cpu: Annotated[Double, Field(description="The CPU usage price, in cents")]
    memory: Annotated[Double, Field(description="The memory usage price, in cents")]
    storage: Annotated[Double, Field(description="The storage usage price, in cents")]
    gpu: Annotated[Double, Field(description="The GPU and NPU usage price, in cents")]


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class ByocPriceShape:
    """Prices in cents for nodes of the customer's own."""

    total: Annotated[Double, Field(description="The total BYOC price, in cents")]
    vcpu: Annotated[Double, Field(description="The vCPU usage price, in cents")]
    memory: Annotated[Double, Field(description="The memory usage price, in cents")]
    gpu_memory: Annotated[Double, Field(description="The GPU memory usage price, in cents")]
    cluster: Annotated[Double, Field(description="The cluster usage price, in cents")]


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class ByocUsageShape:
    """What nodes of the customer's own cost, whatever is filtered.

    Always zeros: all nodes are the operator's, none can be marked as a customer's.
    """

    price: ByocPriceShape


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceShape:
    """A job."""

    id: Annotated[str, Field(description="Identifier for the resource: the job's id")]
    name: Annotated[str, Field(description="The name of the resource")]
    price: PriceShape


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceTypeShape:
    """Jobs of one kind."""

    resource_type: Annotated[str, Field(description="job, service, addon, volume, etc.")]
    price: PriceShape
    resources: list[ResourceShape]


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectShape:
    """A project; its price is of what the filters leave of it."""

    id: Annotated[str, Field(description="Identifier for the project")]
    name: Annotated[str, Field(description="The name of the project")]
    price: PriceShape
    resource_types: Annotated[
        list[ResourceTypeShape] | None,
        Field(
            description="Present when a projectId or resourceType filter is applied",
            json_schema_extra=_never_null,
        ),
    ] = None


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class TeamShape:
    """A virtual cluster; its price is of what the filters leave of it."""

    id: Annotated[str, Field(description="Identifier for the team: the virtual cluster's name")]
    name: Annotated[str, Field(description="The name of the team")]
    price: PriceShape
    projects: Annotated[
        list[ProjectShape] | None,
        Field(
            description="Present when a teamId or projectId filter is applied, or when there is"
            " only one team",
            json_schema_extra=_never_null,
        ),
    ] = None


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class PaasUsageShape:
    """What the hour cost, by team."""

    price: PriceShape
    teams: list[TeamShape]


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class HourShape:
    """An hour in detail."""

    timestamp: Annotated[int, Field(description="The Unix timestamp of the billing hour")]
    paas_usage: PaasUsageShape
    byoc_usage: ByocUsageShape


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class HourAnswer:
    """The answer for an hour."""

    data: HourShape


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class PaasTotalShape:
    """What the hour cost."""

    price: PriceShape


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class UsageShape:
    """An hour of the list."""

    timestamp: Annotated[int, Field(description="The Unix timestamp of the billing hour")]
    paas_usage: PaasTotalShape
    byoc_usage: ByocUsageShape


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class UsageListShape:
    """Hours in which anything was charged."""

    usage: Annotated[list[UsageShape], Field(description="The most recent first")]


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class PaginationShape:
    """Where in the list the page is."""

    has_next_page: bool
    count: Annotated[int, Field(description="How many hours are on this page")]
    cursor: Annotated[
        str | None,
        Field(
            description="Leads to the next page; absent on the last",
            json_schema_extra=_never_null,
        ),
    ] = None


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class HourListAnswer:
    """The answer with a page of hours."""

    data: UsageListShape
    pagination: PaginationShape


HOUR_ANSWER = TypeAdapter(HourAnswer)
HOUR_LIST_ANSWER = TypeAdapter(HourListAnswer)

_NO_BYOC = ByocUsageShape(price=ByocPriceShape(total=0, vcpu=0, memory=0, gpu_memory=0, cluster=0))


def hour_answer(hour: datetime, vcs: Sequence[VcPrices]) -> HourAnswer:
    """An hour and its teams."""
    total = sum((each.prices for each in vcs), Prices())
    usage = PaasUsageShape(price=_price(total), teams=[_team(each) for each in vcs])
    shown = HourShape(timestamp=seconds_of(hour), paas_usage=usage, byoc_usage=_NO_BYOC)
    return HourAnswer(data=shown)


def hour_list_answer(page: HourPage) -> HourListAnswer:
    """A page of hours."""
    return HourListAnswer(
        data=UsageListShape(usage=[_usage(each) for each in page.hours]),
        pagination=PaginationShape(
            has_next_page=not page.is_last,
            count=len(page.hours),
            cursor=None if page.is_last else write_cursor(page.hours[-1].hour),
        ),
    )


def _usage(hour: PricedHour) -> UsageShape:
    return UsageShape(
        timestamp=seconds_of(hour.hour),
        paas_usage=PaasTotalShape(price=_price(hour.prices)),
        byoc_usage=_NO_BYOC,
    )


def _team(of_vc: VcPrices) -> TeamShape:
    projects = of_vc.projects
    return TeamShape(
        id=of_vc.vc,
        name=of_vc.vc,
        price=_price(of_vc.prices),
        projects=None if projects is None else [_project(each) for each in projects],
    )


def _project(of_project: ProjectPrices) -> ProjectShape:
    kinds = of_project.kinds
    return ProjectShape(
        id=of_project.project,
        name=of_project.project,
        price=_price(of_project.prices),
        resource_types=None if kinds is None else [_resource_type(each) for each in kinds],
    )


def _resource_type(of_kind: KindPrices) -> ResourceTypeShape:
    return ResourceTypeShape(
        resource_type=of_kind.kind,
        price=_price(of_kind.prices),
        resources=[_resource(each) for each in of_kind.jobs],
    )


def _resource(job: JobPrices) -> ResourceShape:
    return ResourceShape(id=job.job_id, name=job.job_name, price=_price(job.prices))


def _price(prices: Prices) -> PriceShape:
    return PriceShape(
        total=number(cents(prices.total)),
        cpu=number(cents(prices.cpu)),
        memory=number(cents(prices.memory)),
        storage=number(cents(prices.storage)),
        gpu=number(cents(prices.gpu)),
    )
