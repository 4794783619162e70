"""How a fee came about, as the administrators' endpoint shows it: exact, to be recomputed."""

from dataclasses import dataclass
from decimal import Decimal
from http import HTTPStatus
from typing import Annotated

from aiohttp import web
from pydantic import Field, PlainSerializer, TypeAdapter, WithJsonSchema

from aggregator.api.answer import answer_json
from aggregator.api.auth import Role
from aggregator.api.instants import UtcTime, optional_utc_text, utc_text
from aggregator.api.native.item_shapes import UsageDetail, usage_detail
from aggregator.api.parse import parse_query
from aggregator.api.problem import Problem
from aggregator.api.route import CALLER, DATABASE, Answer, Route
from aggregator.api.wire import Double, ExactNumber, UuidText, wire
from aggregator.billing.explain import Explanation, Segment, explain
from aggregator.rating import money

SignedNumber = Annotated[
    Decimal,
    PlainSerializer(money.plain, return_type=str),
    WithJsonSchema({"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]+)?$"}),
]


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainQuery:
    """One bill item."""

    id: UuidText


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentLine:
    """A charge, or an adjustment: quantities in base unit x ms, exactly and signed."""

    hour: UtcTime
    used_hour: Annotated[UtcTime, Field(description="Another one if its period was closed")]
    kind: Annotated[str, Field(description="charge, late, reversal or rerated")]
    starts_at: UtcTime
    ends_at: UtcTime
    method: Annotated[str, Field(description="In force then; several if it changed within")]
    allocated: SignedNumber
    used: SignedNumber
    effective: SignedNumber
    billed: SignedNumber
    length_ms: SignedNumber
    observed_ms: SignedNumber
    amount: Annotated[SignedNumber, Field(description="billed x price, undivided")]
    ratio_id: Annotated[int, Field(description="0: no ratio was in force")]
    key: str | None
    price: ExactNumber | None
    price_starts_at: UtcTime | None
    price_ends_at: UtcTime | None
    price_set_at: UtcTime | None
    price_set_by: str | None
    price_reason: str | None


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class ExplanationShape:
    """A fee, and all that it is made of.

    With the sums over the segments: under one version fee = double(billed / unitHour) x
    double(price), otherwise double(amount / unitHour).
    """

    item: UsageDetail
    fee: Double
    unit_hour: Annotated[int, Field(description="Base unit x ms in one unit-hour")]
    is_mixed: Annotated[bool, Field(description="It has several versions")]
    price: ExactNumber | None
    segments: list[SegmentLine]


EXPLAIN_QUERY = TypeAdapter(ExplainQuery)
EXPLANATION = TypeAdapter(ExplanationShape)


async def get_explanation(request: web.Request) -> web.StreamResponse:
    """How a fee came about."""
    asked = parse_query(request, EXPLAIN_QUERY)
    found = await explain(request.app[DATABASE], asked.id, request[CALLER].scope)
    if found is None:
        raise Problem(HTTPStatus.NOT_FOUND, "there is no bill item with this id")
    return answer_json(request, EXPLANATION.dump_json(_shape(found)))


def _shape(found: Explanation) -> ExplanationShape:
    return ExplanationShape(
        item=usage_detail((found.item, found.measured)),
        fee=money.number(found.item.fee),
        unit_hour=found.item.unit.unit_hour,
        is_mixed=found.item.is_mixed,
        price=found.item.price,
        segments=[_segment(each) for each in found.segments],
    )


def _segment(segment: Segment) -> SegmentLine:
    return SegmentLine(
        hour=utc_text(segment.hour),
        used_hour=utc_text(segment.used_hour),
        kind=segment.kind,
        starts_at=utc_text(segment.started_at),
        ends_at=utc_text(segment.ended_at),
        method=segment.method,
        allocated=segment.allocated,
        used=segment.used,
        effective=segment.effective,
        billed=segment.billed,
        length_ms=segment.length_ms,
        observed_ms=segment.observed_ms,
        amount=segment.amount,
        ratio_id=segment.ratio_id,
        key=segment.key,
        price=segment.price,
        price_starts_at=optional_utc_text(segment.price_starts_at),
        price_ends_at=optional_utc_text(segment.price_ends_at),
        price_set_at=optional_utc_text(segment.price_set_at),
        price_set_by=segment.price_set_by,
        price_reason=segment.price_reason,
    )


ROUTES = (
    Route(
        method="GET",
        path="/api/admin/v1/bills/explanation",
        handler=get_explanation,
        operation_id="explainBill",
        tag="Administration",
        summary="How the fee of a bill item came about",
        role=Role.SCOPED,
        query=EXPLAIN_QUERY,
        answers={
            HTTPStatus.OK: Answer(description="All that it is the sum of", adapter=EXPLANATION)
        },
        problems=(HTTPStatus.NOT_FOUND,),
        timeout_seconds=120.0,
    ),
)
