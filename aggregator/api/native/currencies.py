"""Rates of currencies, as the administrators' endpoints read and write them."""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated

from aiohttp import web
from pydantic import Field, TypeAdapter

from aggregator.api.answer import answer_json
from aggregator.api.auth import Role
from aggregator.api.instants import Day, UtcTime, optional_utc_text, utc_text
from aggregator.api.parse import parse_body
from aggregator.api.problem import Problem, refused
from aggregator.api.route import BASE_CURRENCY, CALLER, DATABASE, Answer, Route
from aggregator.api.wire import ExactNumber, ExactRatioValue, RatioText, ReasonText, wire
from aggregator.billing.audit import Author
from aggregator.billing.currencies import DatedRate, list_rates, set_rate
from aggregator.rating.currency import RateError


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class RateLine:
    """How much of a currency one unit of the base currency is, over whole UTC days."""

    base: str
    currency: str
    rate: ExactNumber
    starts_on: str
    ends_on: Annotated[str | None, Field(description="Exclusive; null: until a later rate")]
    created_at: UtcTime
    created_by: str
    reason: str | None
    closed_at: UtcTime | None
    closed_by: str | None


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class RateForm:
    """A rate to declare."""

    currency: Annotated[RatioText, Field(description="Like EUR")]
    rate: Annotated[ExactRatioValue, Field(description="Of it for one of the base currency")]
    starts_on: Annotated[
        Day | None, Field(description="Today if it is not said; a past day only if it has no rate")
    ] = None
    reason: ReasonText | None = None


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class RateEffect:
    """What a declaration does."""

    base: str
    currency: str
    rate: ExactNumber
    starts_on: Annotated[str | None, Field(description="Null: nothing changes")]


RATE_LINES = TypeAdapter(list[RateLine])
RATE_FORM = TypeAdapter(RateForm)
RATE_EFFECT = TypeAdapter(RateEffect)


async def get_rates(request: web.Request) -> web.StreamResponse:
    """All rates from the base currency."""
    rates = await list_rates(request.app[DATABASE], request.app[BASE_CURRENCY])
    return answer_json(request, RATE_LINES.dump_json([_line(each) for each in rates]))


async def post_rate(request: web.Request) -> web.StreamResponse:
    """Declare a rate from a day on."""
    form = await parse_body(request, RATE_FORM)
    if not form.rate:
        raise refused("rate", "must be more than 0")
    base = request.app[BASE_CURRENCY]
    author = Author(actor=request[CALLER].name, reason=form.reason)
    try:
        day = await set_rate(
            request.app[DATABASE],
            base,
            form.currency,
            form.rate,
            author=author,
            start=form.starts_on,
        )
    except RateError as error:
        raise Problem(HTTPStatus.CONFLICT, str(error)) from error
    effect = RateEffect(
        base=base,
        currency=form.currency,
        rate=form.rate,
        starts_on=None if day is None else day.isoformat(),
    )
    return answer_json(request, RATE_EFFECT.dump_json(effect))


def _line(rate: DatedRate) -> RateLine:
    return RateLine(
        base=rate.base,
        currency=rate.currency,
        rate=rate.rate,
        starts_on=rate.starts_on.isoformat(),
        ends_on=None if rate.ends_on is None else rate.ends_on.isoformat(),
        created_at=utc_text(rate.created_at),
        created_by=rate.created_by,
        reason=rate.reason,
        closed_at=optional_utc_text(rate.closed_at),
        closed_by=rate.closed_by,
    )


_PATH = "/api/admin/v1/currencies"

ROUTES = (
    Route(
        method="GET",
        path=_PATH,
        handler=get_rates,
        operation_id="listCurrencyRates",
        tag="Administration",
        summary="Rates from the base currency, by day",
        role=Role.VIEWER,
        answers={
            HTTPStatus.OK: Answer(description="By currency, newest day first", adapter=RATE_LINES)
        },
    ),
    Route(
        method="POST",
        path=_PATH,
        handler=post_rate,
        operation_id="setCurrencyRate",
        tag="Administration",
        summary="Declare a rate from a day on",
        description="A day that has begun keeps the rate that it has.",
        role=Role.ADMIN,
        body=RATE_FORM,
        answers={HTTPStatus.OK: Answer(description="What it does", adapter=RATE_EFFECT)},
        problems=(HTTPStatus.CONFLICT,),
    ),
)
