"""What the administrators' endpoints read and write of ratios; prices are exact strings."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, Strict, TypeAdapter

from aggregator.api.instants import Minute, UtcTime, optional_utc_text, utc_text
from aggregator.api.native.finding_shapes import shadow_warning
from aggregator.api.wire import (
    MAX_KEYS,
    ExactNumber,
    ExactRatioValue,
    Flag,
    PriceList,
    RatioText,
    ReasonText,
    bounded_list,
    wire,
)
from aggregator.billing.check import ShadowedKey
from aggregator.billing.ratio_plan import Difference
from aggregator.billing.ratios import Declared, PastVersion
from aggregator.rating.ratio import parse

RatioStart = Annotated[
    Minute,
    Field(
        description="A whole minute in the future, or a whole hour in the past where isRetroactive;"
        " null: as soon as may be"
    ),
]
RatioEnd = Annotated[
    Minute,
    Field(
        description="When the value of before comes back; no other one may begin before. null: it"
        " holds until the next one that is declared"
    ),
]
Retroactive = Annotated[
    bool,
    Strict(),
    Field(description="Ranges may begin in the past; usage rated meanwhile is to be rated again"),
]


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class RatioLine:
    """A declared ratio, and what its key says."""

    key: str
    value: ExactNumber
    type: Annotated[str | None, Field(description="Null: the key matches no usage")]
    model: str | None
    vc: str | None
    starts_at: Annotated[
        UtcTime | None, Field(description="When it takes effect; null: it is in force")
    ]
    ends_at: Annotated[
        UtcTime | None, Field(description="When it ends; null: when something changes it")
    ]
    is_scheduled: Annotated[bool, Field(description="It begins later than the next minute")]


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleQuery:
    """Which ratios."""

    scheduled: Annotated[Flag | None, Field(description="Also those that begin later")] = None


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class RatioChange:
    """A ratio to declare."""

    key: RatioText
    value: Annotated[ExactRatioValue, Field(description="Price per API unit and hour")]
    reason: ReasonText | None = None
    starts_at: RatioStart | None = None
    ends_at: RatioEnd | None = None
    is_retroactive: Retroactive = False


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduledRatio:
    """A line of a price list that holds over a range of its own."""

    key: RatioText
    value: Annotated[ExactRatioValue, Field(description="Price per API unit and hour")]
    starts_at: RatioStart | None = None
    ends_at: RatioEnd | None = None


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class RatioImport:
    """A price list to declare, all or nothing."""

    ratios: Annotated[
        PriceList, Field(description="Prices per API unit and hour, by key, as soon as may be")
    ] = field(default_factory=dict[str, Decimal])
    scheduled: Annotated[
        list[ScheduledRatio],
        BeforeValidator(bounded_list),
        Field(description="Prices that hold over ranges", max_length=MAX_KEYS),
    ] = field(default_factory=list[ScheduledRatio])
    is_retroactive: Retroactive = False
    if_match: Annotated[
        str | None,
        Field(description="The ETag of a dry run: refused if a ratio changed since", max_length=99),
    ] = None
    replaces_all: Annotated[
        bool, Strict(), Field(description="Also delete every key that is not in the list")
    ] = False
    is_dry_run: Annotated[bool, Strict(), Field(description="Only say what it would do")] = False
    reason: ReasonText | None = None


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class RatioDifference:
    """What a change does, or would do, to one key."""

    key: str
    action: Literal["add", "change", "delete", "keep"]
    old: ExactNumber | None
    new: ExactNumber | None
    effective_at: Annotated[UtcTime | None, Field(description="Null where nothing changes")]
    effective_until: Annotated[
        UtcTime | None, Field(description="Null: until something changes it")
    ]
    warnings: Annotated[list[str], Field(description="Consequences that may surprise")]


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class RatioVersion:
    """A version of a ratio; startsAt = endsAt: replaced before it took effect."""

    key: str
    value: ExactNumber
    starts_at: UtcTime
    ends_at: UtcTime | None
    created_at: UtcTime
    created_by: str
    reason: str | None
    closed_at: UtcTime | None
    closed_by: str | None


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class KeyQuery:
    """One ratio key."""

    key: RatioText | None = None


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class DeletionQuery:
    """Which ratio to delete, and why."""

    key: RatioText
    reason: ReasonText | None = None


RATIO_LINES = TypeAdapter(list[RatioLine])
RATIO_CHANGE = TypeAdapter(RatioChange)
RATIO_IMPORT = TypeAdapter(RatioImport)
RATIO_DIFFERENCE = TypeAdapter(RatioDifference)
RATIO_DIFFERENCES = TypeAdapter(list[RatioDifference])
RATIO_VERSIONS = TypeAdapter(list[RatioVersion])
KEY_QUERY = TypeAdapter(KeyQuery)
DELETION_QUERY = TypeAdapter(DeletionQuery)
SCHEDULE_QUERY = TypeAdapter(ScheduleQuery)


def ratio_line(ratio: Declared) -> RatioLine:
    """A ratio with the parts of its key."""
    meaning = parse(ratio.key)
    return RatioLine(
        key=ratio.key,
        value=ratio.value,
        type=meaning.type.value if meaning else None,
        model=meaning.model if meaning else None,
        vc=meaning.vc if meaning else None,
        starts_at=optional_utc_text(ratio.starts_at),
        ends_at=optional_utc_text(ratio.ends_at),
        is_scheduled=ratio.is_scheduled,
    )


def ratio_difference(change: Difference, shadows: Sequence[ShadowedKey] = ()) -> RatioDifference:
    """A change, with a warning for each shadow that it leaves."""
    return RatioDifference(
        key=change.key,
        action=change.action,
        old=change.old,
        new=change.new,
        effective_at=optional_utc_text(change.effective_at),
        effective_until=optional_utc_text(change.effective_until),
        warnings=[shadow_warning(each) for each in shadows],
    )


def ratio_version(version: PastVersion) -> RatioVersion:
    """A version with its whole story."""
    return RatioVersion(
        key=version.key,
        value=version.value,
        starts_at=utc_text(version.starts_at),
        ends_at=optional_utc_text(version.ends_at),
        created_at=utc_text(version.created_at),
        created_by=version.created_by,
        reason=version.reason,
        closed_at=optional_utc_text(version.closed_at),
        closed_by=version.closed_by,
    )
