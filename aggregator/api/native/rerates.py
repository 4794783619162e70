"""Re-rating, as the administrators' endpoints order and show it."""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated

from aiohttp import web
from pydantic import Field, TypeAdapter

from aggregator.api.answer import answer_json
from aggregator.api.auth import Role
from aggregator.api.instants import Minute, UtcTime, optional_utc_text, utc_text
from aggregator.api.lists import answer_array
from aggregator.api.parse import parse_body, parse_query
from aggregator.api.problem import Problem
from aggregator.api.route import CALLER, DATABASE, Answer, Route
from aggregator.api.wire import Double, PositiveId, RatioText, ReasonText, wire
from aggregator.billing.audit import Author
from aggregator.billing.rerating import (
    JobDifference,
    Order,
    OrderError,
    Rerate,
    list_rerates,
    order_rerate,
    preview_rerate,
)
from aggregator.model import Period
from aggregator.rating.money import number


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class RerateRange:
    """Which hours to rate again."""

    start: Annotated[Minute, Field(alias="from", description="A whole hour")]
    end: Annotated[Minute, Field(alias="to", description="A whole hour that is over")]
    key: Annotated[
        RatioText | None, Field(description="Only the usage that this ratio can price")
    ] = None

    def to_order(self) -> Order:
        """The same to the use case. Raises OrderError."""
        if self.end <= self.start:
            raise OrderError("to", "must be after the start of the range")
        return Order(range=Period(start=self.start, end=self.end), key=self.key)


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class RerateOrder(RerateRange):
    """An order to rate hours again."""

    reason: ReasonText


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class RerateQuery:
    """Which order."""

    id: PositiveId | None = None


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class RerateLine:
    """An order, and how far it is."""

    id: int
    start: Annotated[UtcTime, Field(alias="from")]
    end: Annotated[UtcTime, Field(alias="to")]
    key: str | None
    reason: str
    created_at: UtcTime
    created_by: str
    percent: Annotated[int, Field(ge=0, le=100)]
    checked: Annotated[int, Field(description="Charges looked at so far")]
    lines: Annotated[int, Field(description="Appended so far: two for each charge that changes")]
    finished_at: UtcTime | None


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class RerateDifference:
    """What the charges of a job that an order changes come to."""

    cluster: str
    job_id: str
    job_name: str
    username: str | None
    vc_name: str
    charges: Annotated[int, Field(description="How many of them change")]
    before: Double
    after: Double
    difference: Double


RERATE_RANGE = TypeAdapter(RerateRange)
RERATE_ORDER = TypeAdapter(RerateOrder)
RERATE_QUERY = TypeAdapter(RerateQuery)
RERATE_LINE = TypeAdapter(RerateLine)
RERATE_LINES = TypeAdapter(list[RerateLine])
RERATE_DIFFERENCES = TypeAdapter(list[RerateDifference])


async def post_preview(request: web.Request) -> web.StreamResponse:
    """What an order would do, by job."""
    form = await parse_body(request, RERATE_RANGE)
    try:
        async with preview_rerate(request.app[DATABASE], form.to_order()) as rows:
            return await answer_array(request, rows, rerate_difference, RERATE_DIFFERENCES)
    except OrderError as error:
        raise _problem(error) from error


async def post_order(request: web.Request) -> web.StreamResponse:
    """Order the rater to rate hours again."""
    form = await parse_body(request, RERATE_ORDER)
    author = Author(actor=request[CALLER].name, reason=form.reason)
    try:
        added = await order_rerate(request.app[DATABASE], form.to_order(), author)
    except OrderError as error:
        raise _problem(error) from error
    return answer_json(
        request, RERATE_LINE.dump_json(rerate_line(added)), status=HTTPStatus.ACCEPTED
    )


async def get_rerates(request: web.Request) -> web.StreamResponse:
    """Every order, or one."""
    asked = parse_query(request, RERATE_QUERY)
    orders = await list_rerates(request.app[DATABASE], asked.id)
    return answer_json(request, RERATE_LINES.dump_json([rerate_line(each) for each in orders]))


def rerate_line(order: Rerate) -> RerateLine:
    """An order as it stands."""
    return RerateLine(
        id=order.rerate_id,
        start=utc_text(order.starts_at),
        end=utc_text(order.ends_at),
        key=order.key,
        reason=order.reason,
        created_at=utc_text(order.created_at),
        created_by=order.created_by,
        percent=order.percent,
        checked=order.charge_count,
        lines=order.line_count,
        finished_at=optional_utc_text(order.finished_at),
    )


def rerate_difference(job: JobDifference) -> RerateDifference:
    """A job's difference in money."""
    return RerateDifference(
        cluster=job.cluster,
        job_id=job.job_id,
        job_name=job.job_name,
        username=job.username,
        vc_name=job.vc,
        charges=job.charges,
        before=number(job.before),
        after=number(job.after),
        difference=number(job.difference),
    )


def _problem(error: OrderError) -> Problem:
    words = {error.field: [str(error)]}
    return Problem(HTTPStatus.CONFLICT, f"{error.field}: {error}", errors=words)


_TAG = "Administration"

ROUTES = (
    Route(
        method="POST",
        path="/api/admin/v1/rerates/preview",
        handler=post_preview,
        operation_id="previewRerate",
        tag=_TAG,
        summary="What re-rating would do, by job; nothing is changed",
        role=Role.VIEWER,
        body=RERATE_RANGE,
        answers={
            HTTPStatus.OK: Answer(
                description="Jobs of which a charge would change", adapter=RERATE_DIFFERENCES
            )
        },
        problems=(HTTPStatus.CONFLICT,),
        timeout_seconds=900.0,
    ),
    Route(
        method="POST",
        path="/api/admin/v1/rerates",
        handler=post_order,
        operation_id="orderRerate",
        tag=_TAG,
        summary="Rate hours again by the ratios as they stand",
        description="The rater does it in the background. Charges whose price is another now "
        "are taken back and booked again; those of a closed period in the hour of the booking.",
        role=Role.ADMIN,
        body=RERATE_ORDER,
        answers={HTTPStatus.ACCEPTED: Answer(description="The order", adapter=RERATE_LINE)},
        problems=(HTTPStatus.CONFLICT,),
    ),
    Route(
        method="GET",
        path="/api/admin/v1/rerates",
        handler=get_rerates,
        operation_id="listRerates",
        tag=_TAG,
        summary="Orders of re-rating, and how far each is",
        role=Role.VIEWER,
        query=RERATE_QUERY,
        answers={HTTPStatus.OK: Answer(description="The newest first", adapter=RERATE_LINES)},
    ),
)
