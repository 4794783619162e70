"""Billing periods, as the administrators' endpoints show and close them."""

from dataclasses import asdict, dataclass
from http import HTTPStatus
from typing import Annotated, Literal, TypeAlias

from aiohttp import web
from pydantic import Field, Strict, TypeAdapter

from aggregator.api.answer import answer_json
from aggregator.api.auth import Role
from aggregator.api.instants import Month, UtcTime, utc_text
from aggregator.api.parse import parse_body, parse_query
from aggregator.api.problem import Problem
from aggregator.api.route import CALLER, DATABASE, Answer, Route
from aggregator.api.wire import Double, Flag, ReasonText, Seconds, wire
from aggregator.billing.audit import Author
from aggregator.billing.closing import (
    BacklogError,
    PeriodError,
    UnpricedError,
    close_period,
)
from aggregator.billing.periods import PeriodState, TypeTotal, get_period, list_periods
from aggregator.rating.money import number
from aggregator.rating.month import MonthError, month_name, parse_month

CLOSE_SECONDS = 1500.0

PeriodStateName: TypeAlias = Literal["closed", "open", "running", "future"]


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodLine:
    """A calendar month in UTC."""

    period: str
    state: Annotated[
        PeriodStateName,
        Field(
            description="open: it is over and can be closed; running: it is not over; future: it "
            "has not begun"
        ),
    ]
    starts_at: UtcTime
    ends_at: UtcTime
    closed_at: UtcTime | None
    closed_by: str | None
    reason: str | None
    digest: Annotated[str | None, Field(description="SHA-256 of its bookings and item totals")]
    charges: Annotated[int | None, Field(description="Null while it is open")]
    adjustments: int | None
    items: int | None


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodTotal:
    """What a type comes to in a period."""

    type: str
    unit: str
    items: int
    usage: Annotated[Double, Field(description="Billed unit-hours")]
    unpriced: Annotated[Double, Field(description="The part of it without a ratio")]
    fee: Double
    adjusted: Annotated[Double, Field(description="The part of the fee that adjustments are")]


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodView(PeriodLine):
    """A period with what it comes to."""

    totals: list[PeriodTotal]
    recomputed: Annotated[
        str | None, Field(description="Digest of what is stored now, where it was asked for")
    ]


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodQuery:
    """How to look at a period."""

    verify: Annotated[Flag | None, Field(description="Compute the digest anew")] = None


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodClosing:
    """Which period to close."""

    period: Month
    reason: ReasonText | None = None
    wait_seconds: Annotated[
        Seconds, Field(description="How long to wait for the rater to catch up")
    ] = 30
    with_unpriced: Annotated[
        bool, Strict(), Field(description="Also if usage of it has no price, which stays so")
    ] = False


PERIOD_LINES = TypeAdapter(list[PeriodLine])
PERIOD_LINE = TypeAdapter(PeriodLine)
PERIOD_VIEW = TypeAdapter(PeriodView)
PERIOD_QUERY = TypeAdapter(PeriodQuery)
PERIOD_CLOSING = TypeAdapter(PeriodClosing)


async def get_periods(request: web.Request) -> web.StreamResponse:
    """Every period, closed or open."""
    periods = await list_periods(request.app[DATABASE])
    return answer_json(request, PERIOD_LINES.dump_json([period_line(each) for each in periods]))


async def get_one_period(request: web.Request) -> web.StreamResponse:
    """One period with what it comes to."""
    try:
        period = parse_month(request.match_info["period"])
    except MonthError as error:
        raise Problem(HTTPStatus.NOT_FOUND, f"the period {error}") from error
    asked = parse_query(request, PERIOD_QUERY)
    found = await get_period(request.app[DATABASE], period, verify=asked.verify is True)
    view = PeriodView(
        **asdict(period_line(found.state)),
        totals=[_total(each) for each in found.totals],
        recomputed=found.recomputed,
    )
    return answer_json(request, PERIOD_VIEW.dump_json(view))


async def post_closing(request: web.Request) -> web.StreamResponse:
    """Close a period, or say why not."""
    form = await parse_body(request, PERIOD_CLOSING)
    author = Author(actor=request[CALLER].name, reason=form.reason)
    try:
        closed = await close_period(
            request.app[DATABASE],
            form.period,
            author,
            wait_seconds=form.wait_seconds,
            is_unpriced_allowed=form.with_unpriced,
        )
    except BacklogError as error:
        raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, str(error)) from error
    except UnpricedError as error:
        words = {"withUnpriced": [str(each) for each in error.found]}
        raise Problem(HTTPStatus.CONFLICT, str(error), errors=words) from error
    except PeriodError as error:
        words = {"period": [str(error)]}
        raise Problem(HTTPStatus.CONFLICT, str(error), errors=words) from error
    state = PeriodState(range=closed.range, closed=closed, is_over=True)
    return answer_json(request, PERIOD_LINE.dump_json(period_line(state)))


def period_line(state: PeriodState) -> PeriodLine:
    """A period, whatever its state."""
    closed = state.closed
    return PeriodLine(
        period=month_name(state.range),
        state=_state_name(state),
        starts_at=utc_text(state.range.start),
        ends_at=utc_text(state.range.end),
        closed_at=utc_text(closed.closed_at) if closed else None,
        closed_by=closed.closed_by if closed else None,
        reason=closed.reason if closed else None,
        digest=closed.digest if closed else None,
        charges=closed.charge_count if closed else None,
        adjustments=closed.adjustment_count if closed else None,
        items=closed.item_count if closed else None,
    )


def _state_name(state: PeriodState) -> PeriodStateName:
    if state.closed:
        return "closed"
    if state.is_over:
        return "open"
    return "running" if state.has_begun else "future"


def _total(total: TypeTotal) -> PeriodTotal:
    return PeriodTotal(
        type=total.type,
        unit=total.unit.name,
        items=total.items,
        usage=number(total.hours(total.billed)),
        unpriced=number(total.hours(total.unpriced)),
        fee=number(total.money(total.amount)),
        adjusted=number(total.money(total.adjusted)),
    )


_TAG = "Administration"

ROUTES = (
    Route(
        method="GET",
        path="/api/admin/v1/periods",
        handler=get_periods,
        operation_id="listPeriods",
        tag=_TAG,
        summary="Billing periods: calendar months in UTC, closed or open",
        role=Role.VIEWER,
        answers={HTTPStatus.OK: Answer(description="The earliest first", adapter=PERIOD_LINES)},
    ),
    Route(
        method="POST",
        path="/api/admin/v1/periods/close",
        handler=post_closing,
        operation_id="closePeriod",
        tag=_TAG,
        summary="Close a period",
        description="From then on no query about its hours ever answers otherwise: usage that is "
        "told later, and re-rating, are booked into the open period. A period with usage without a "
        "price is not closed unless `withUnpriced` is true. Closing a closed period changes "
        "nothing and answers the same.",
        role=Role.ADMIN,
        body=PERIOD_CLOSING,
        answers={HTTPStatus.OK: Answer(description="The closed period", adapter=PERIOD_LINE)},
        problems=(HTTPStatus.CONFLICT,),
        timeout_seconds=CLOSE_SECONDS,
    ),
    Route(
        method="GET",
        path="/api/admin/v1/periods/{period}",
        handler=get_one_period,
        operation_id="getPeriod",
        tag=_TAG,
        summary="A period and what it comes to",
        role=Role.VIEWER,
        query=PERIOD_QUERY,
        path_parameters={"period": "A month like 2026-10"},
        answers={HTTPStatus.OK: Answer(description="The period", adapter=PERIOD_VIEW)},
        problems=(HTTPStatus.NOT_FOUND,),
        timeout_seconds=CLOSE_SECONDS,
    ),
)
