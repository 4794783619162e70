"""What was booked for usage whose charges could not be edited, as the administrators see it."""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Literal
from uuid import UUID

from aiohttp import web
from pydantic import Field, TypeAdapter

from aggregator.api.auth import Role
from aggregator.api.instants import Month, UtcTime, utc_text
from aggregator.api.lists import answer_array
from aggregator.api.parse import parse_query
from aggregator.api.route import DATABASE, Answer, Route
from aggregator.api.wire import Double, ExactNumber, PositiveId, UuidText, wire
from aggregator.billing.adjustments import Adjustment, AdjustmentFilter, list_adjustments
from aggregator.rating.money import number


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class AdjustmentQuery:
    """Which adjustments."""

    period: Annotated[Month | None, Field(description="In which they count")] = None
    used_period: Annotated[Month | None, Field(description="Of the usage")] = None
    rerate: Annotated[PositiveId | None, Field(description="Id of a re-rating")] = None
    item: Annotated[UuidText | None, Field(description="Id of a bill item")] = None


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class AdjustmentLine:
    """What was booked for usage whose charge could not be edited."""

    id: int
    kind: Annotated[
        Literal["late", "reversal", "rerated"],
        Field(description="late: usage told after the close; reversal and rerated: re-rating"),
    ]
    period: Annotated[str, Field(description="In which it counts")]
    hour: UtcTime
    used_period: Annotated[str, Field(description="Of the usage")]
    used_hour: UtcTime
    start_time: UtcTime
    end_time: UtcTime
    booked_at: UtcTime
    rerate: Annotated[int | None, Field(description="Id of the re-rating; null: late usage")]
    item: UUID
    cluster: str
    job_id: str
    job_name: str
    username: str | None
    vc_name: str
    type: str
    device: str | None
    unit: str
    usage: Annotated[Double, Field(description="Unit-hours; below zero: taken back")]
    key: Annotated[str | None, Field(description="Of the ratio; null: there was none")]
    price: ExactNumber | None
    fee: Double


ADJUSTMENT_QUERY = TypeAdapter(AdjustmentQuery)
ADJUSTMENT_LINES = TypeAdapter(list[AdjustmentLine])


async def get_adjustments(request: web.Request) -> web.StreamResponse:
    """Adjustments, by when they were booked."""
    asked = parse_query(request, ADJUSTMENT_QUERY)
    which = AdjustmentFilter(
        booked=asked.period, used=asked.used_period, rerate_id=asked.rerate, bill_id=asked.item
    )
    async with list_adjustments(request.app[DATABASE], which) as rows:
        return await answer_array(request, rows, adjustment_line, ADJUSTMENT_LINES)


def adjustment_line(line: Adjustment) -> AdjustmentLine:
    """An adjustment in the units of the APIs."""
    return AdjustmentLine(
        id=line.adjustment_id,
        kind=line.kind,
        period=line.period,
        hour=utc_text(line.hour),
        used_period=line.used_period,
        used_hour=utc_text(line.used_hour),
        start_time=utc_text(line.started_at),
        end_time=utc_text(line.ended_at),
        booked_at=utc_text(line.booked_at),
        rerate=line.rerate_id,
        item=line.bill_id,
        cluster=line.cluster,
        job_id=line.job_id,
        job_name=line.job_name,
        username=line.username,
        vc_name=line.vc,
        type=line.type,
        device=line.model,
        unit=line.unit.name,
        usage=number(line.usage),
        key=line.key,
        price=line.price,
        fee=number(line.fee),
    )


ROUTES = (
    Route(
        method="GET",
        path="/api/admin/v1/adjustments",
        handler=get_adjustments,
        operation_id="listAdjustments",
        tag="Administration",
        summary="What was booked for usage whose charges could not be edited",
        role=Role.VIEWER,
        query=ADJUSTMENT_QUERY,
        answers={
            HTTPStatus.OK: Answer(description="By when they were booked", adapter=ADJUSTMENT_LINES)
        },
        timeout_seconds=600.0,
    ),
)
