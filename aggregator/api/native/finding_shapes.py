"""What `check` finds wrong with the ratios, as the administrators' endpoints show it."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, TypeAdapter

from aggregator.api.instants import UtcTime, optional_utc_text
from aggregator.api.wire import Double, wire
from aggregator.billing.check import Findings, ShadowedKey, UnpricedClass
from aggregator.rating.money import number


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class IdleKeyLine:
    """A ratio that prices nothing."""

    key: str
    reason: str


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowLine:
    """A virtual cluster's plain price that is used instead of a model's price."""

    key: str
    instead_of: str
    remedy: Annotated[str, Field(description="The key that would give the model its price")]


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class UnpricedLine:
    """A class of usage without a price, now or in its past."""

    type: str
    model: str | None
    vc: str
    items: Annotated[int, Field(description="Bill items with unpriced usage")]
    hours: Annotated[Double, Field(description="Unpriced unit-hours")]
    first_at: UtcTime | None
    last_at: UtcTime | None
    priced_by: Annotated[str | None, Field(description="The key that prices it from now on")]
    is_closed: Annotated[
        bool,
        Field(
            description="Some of these items begin in a closed period: a price that their usage"
            " gets by re-rating is booked into the open one"
        ),
    ]


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class RatioFindings:
    """What is wrong with the declared ratios; three empty lists: nothing."""

    matching_nothing: list[IdleKeyLine]
    shadowed: list[ShadowLine]
    unpriced: list[UnpricedLine]


RATIO_FINDINGS = TypeAdapter(RatioFindings)


def ratio_findings(found: Findings) -> RatioFindings:
    """All findings."""
    return RatioFindings(
        matching_nothing=[
            IdleKeyLine(key=each.key, reason=each.reason) for each in found.matching_nothing
        ],
        shadowed=[
            ShadowLine(key=each.key, instead_of=each.instead_of, remedy=each.remedy)
            for each in found.shadowed
        ],
        unpriced=[_unpriced_line(each) for each in found.unpriced],
    )


def _unpriced_line(each: UnpricedClass) -> UnpricedLine:
    return UnpricedLine(
        type=each.type,
        model=each.model,
        vc=each.vc,
        items=each.items,
        hours=number(each.hours),
        first_at=optional_utc_text(each.first_at),
        last_at=optional_utc_text(each.last_at),
        priced_by=each.priced_by,
        is_closed=each.is_closed,
    )


def shadow_warning(shadow: ShadowedKey) -> str:
    """The warning that APIS asks for, with its remedy."""
    return (
        f"{shadow.key} is used instead of {shadow.instead_of} in that virtual cluster; "
        f"set {shadow.remedy} to give the model its own price there"
    )
