"""What the administrators' endpoints read and write of quotas, in API units."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, Strict, TypeAdapter

from aggregator.api.instants import Minute, UtcTime, optional_utc_text, utc_text
from aggregator.api.wire import Double, ExactRatioValue, RatioText, ReasonText, TypeName, wire
from aggregator.billing.quotas import PastQuota, Quota, QuotaDifference, Reserved
from aggregator.model import ResourceType
from aggregator.rating import money
from aggregator.units import UNITS, Unit


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaLine:
    """What is reserved for a project, now or from a start on."""

    project: str
    type: str
    quantity: Double
    unit: str
    starts_at: UtcTime
    ends_at: UtcTime | None


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaVersionLine(QuotaLine):
    """A version of a project's quota."""

    created_at: UtcTime
    created_by: str
    reason: str | None
    closed_at: UtcTime | None
    closed_by: str | None


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaChange:
    """A quantity to reserve for a project."""

    project: RatioText
    type: TypeName
    quantity: Annotated[ExactRatioValue, Field(description="In m, Mi or devices")]
    starts_at: Annotated[
        Minute | None, Field(description="A whole minute in the future; null: as soon as may be")
    ] = None
    ends_at: Annotated[Minute | None, Field(description="When that of before comes back")] = None
    is_new: Annotated[
        bool, Strict(), Field(description="No job of the project need have run yet")
    ] = False
    reason: ReasonText | None = None


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaEffect:
    """What a change does, in the type's unit."""

    project: str
    type: str
    action: Literal["add", "change", "delete", "keep"]
    old: Double | None
    new: Double | None
    unit: str
    effective_at: Annotated[UtcTime | None, Field(description="Null: nothing changes")]


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class ReservedLine:
    """Quota x hours over a range."""

    project: str
    type: str
    unit: str
    hours: Annotated[Double, Field(description="Unit-hours, used or not")]


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectQuery:
    """One project; all if none is named."""

    project: RatioText | None = None


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaDeletion:
    """Which quota is to be reserved no longer."""

    project: RatioText
    type: TypeName
    reason: ReasonText | None = None


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class ReservedQuery:
    """A range, and one project or all."""

    start: Annotated[Minute, Field(alias="from")]
    end: Annotated[Minute, Field(alias="to")]
    project: RatioText | None = None


QUOTA_LINES = TypeAdapter(list[QuotaLine])
QUOTA_VERSIONS = TypeAdapter(list[QuotaVersionLine])
QUOTA_CHANGE = TypeAdapter(QuotaChange)
QUOTA_EFFECT = TypeAdapter(QuotaEffect)
RESERVED_LINES = TypeAdapter(list[ReservedLine])
PROJECT_QUERY = TypeAdapter(ProjectQuery)
QUOTA_DELETION = TypeAdapter(QuotaDeletion)
RESERVED_QUERY = TypeAdapter(ReservedQuery)


def quota_line(quota: Quota) -> QuotaLine:
    """A quota in its type's unit."""
    return QuotaLine(
        project=quota.project,
        type=quota.type,
        quantity=_shown(quota.quantity, quota.unit),
        unit=quota.unit.name,
        starts_at=utc_text(quota.starts_at),
        ends_at=optional_utc_text(quota.ends_at),
    )


def quota_version(quota: PastQuota) -> QuotaVersionLine:
    """A version with its whole story."""
    return QuotaVersionLine(
        project=quota.project,
        type=quota.type,
        quantity=_shown(quota.quantity, quota.unit),
        unit=quota.unit.name,
        starts_at=utc_text(quota.starts_at),
        ends_at=optional_utc_text(quota.ends_at),
        created_at=utc_text(quota.created_at),
        created_by=quota.created_by,
        reason=quota.reason,
        closed_at=optional_utc_text(quota.closed_at),
        closed_by=quota.closed_by,
    )


def quota_effect(done: QuotaDifference) -> QuotaEffect:
    """What a change does."""
    unit = UNITS[done.type]
    return QuotaEffect(
        project=done.project,
        type=done.type.value,
        action=done.action,
        old=None if done.old is None else _shown(done.old, unit),
        new=None if done.new is None else _shown(done.new, unit),
        unit=unit.name,
        effective_at=optional_utc_text(done.effective_at),
    )


def reserved_line(found: Reserved) -> ReservedLine:
    """What was reserved over a range, in unit-hours."""
    unit = UNITS[ResourceType(found.type)]
    return ReservedLine(
        project=found.project,
        type=found.type,
        unit=unit.name,
        hours=money.number(money.usage(int(found.reserved), unit)),
    )


def _shown(quantity: int, unit: Unit) -> int | float:
    return money.number(money.quota(quantity, unit))
