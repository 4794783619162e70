"""Quotes, as the administrators' endpoint gives them."""

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from http import HTTPStatus
from typing import Annotated

from aiohttp import web
from pydantic import BeforeValidator, Field, TypeAdapter

from aggregator.api.answer import answer_json
from aggregator.api.auth import Role
from aggregator.api.instants import Minute, UtcTime, utc_text
from aggregator.api.parse import parse_body
from aggregator.api.problem import refused
from aggregator.api.route import BASE_CURRENCY, DATABASE, Answer, Route
from aggregator.api.wire import (
    Double,
    ExactNumber,
    ExactRatioValue,
    RatioText,
    TypeName,
    bounded_list,
    wire,
)
from aggregator.billing.quote import Quote, QuotedLine, quote_job
from aggregator.model import ResourceType
from aggregator.rating import money
from aggregator.rating.price import EXACT
from aggregator.rating.quote import QuotePart, Wanted
from aggregator.units import UNITS

_MAX_HOURS = 10_000
_MAX_RESOURCES = 20
_LARGEST = 2**53
_HOUR_MS = Decimal(3_600_000)


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class QuoteResource:
    """A quantity of a resource."""

    type: TypeName
    model: Annotated[RatioText | None, Field(description="Device model")] = None
    quantity: Annotated[ExactRatioValue, Field(description="In m, Mi or devices")]


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class QuoteForm:
    """A job of given size and length."""

    resources: Annotated[
        list[QuoteResource],
        BeforeValidator(bounded_list),
        Field(min_length=1, max_length=_MAX_RESOURCES),
    ]
    hours: Annotated[ExactRatioValue, Field(description=f"More than 0, at most {_MAX_HOURS}")]
    vc: Annotated[RatioText | None, Field(description="Virtual cluster")] = None
    starts_at: Annotated[Minute | None, Field(description="Null: this minute")] = None


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class QuotePartLine:
    """What one version of a price is for."""

    key: Annotated[str | None, Field(description="Null: nothing prices it")]
    price: ExactNumber | None
    starts_at: UtcTime
    ends_at: UtcTime
    usage: Annotated[Double, Field(description="Unit-hours")]
    fee: Double | None


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class QuoteLineShape:
    """What a resource would cost."""

    type: str
    model: str | None
    unit: str
    quantity: Double
    usage: Annotated[Double, Field(description="Unit-hours")]
    fee: Annotated[Double | None, Field(description="Null: a part of it has no price")]
    parts: list[QuotePartLine]
    warnings: list[str]


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class QuoteShape:
    """What a job would cost at the prices that are declared."""

    starts_at: UtcTime
    ends_at: UtcTime
    currency: str
    lines: list[QuoteLineShape]
    total: Annotated[Double | None, Field(description="Null: a part of it has no price")]


QUOTE_FORM = TypeAdapter(QuoteForm)
QUOTE = TypeAdapter(QuoteShape)


async def post_quote(request: web.Request) -> web.StreamResponse:
    """What a job would cost."""
    form = await parse_body(request, QUOTE_FORM)
    ms = EXACT.multiply(form.hours, _HOUR_MS)
    if not 0 < form.hours <= _MAX_HOURS or ms != ms.to_integral_value():
        reason = f"must be more than 0, at most {_MAX_HOURS}, and whole in milliseconds"
        raise refused("hours", reason)
    wanted = [_wanted(form, number) for number in range(len(form.resources))]
    length = timedelta(milliseconds=int(ms))
    try:
        found = await quote_job(request.app[DATABASE], wanted, length, form.starts_at)
    except OverflowError as error:
        raise refused("startsAt", "is out of range") from error
    return answer_json(request, QUOTE.dump_json(_shape(found, request.app[BASE_CURRENCY])))


def _wanted(form: QuoteForm, number: int) -> Wanted:
    resource = form.resources[number]
    type_ = ResourceType(resource.type)
    base = EXACT.multiply(resource.quantity, Decimal(UNITS[type_].base_units))
    if not 0 < base <= _LARGEST or base != base.to_integral_value():
        reason = f"must be more than 0, a multiple of 1/{UNITS[type_].base_units}, and not huge"
        raise refused(f"resources[{number}].quantity", reason)
    return Wanted(type=type_, model=resource.model, vc=form.vc or "default", quantity=int(base))


def _shape(found: Quote, currency: str) -> QuoteShape:
    return QuoteShape(
        starts_at=utc_text(found.start),
        ends_at=utc_text(found.end),
        currency=currency,
        lines=[_line(each) for each in found.lines],
        total=None if found.total is None else money.number(found.total),
    )


def _line(quoted: QuotedLine) -> QuoteLineShape:
    line = quoted.line
    return QuoteLineShape(
        type=line.wanted.type.value,
        model=line.wanted.model,
        unit=line.wanted.unit.name,
        quantity=money.number(money.quota(line.wanted.quantity, line.wanted.unit)),
        usage=money.number(line.usage),
        fee=None if line.fee is None else money.number(line.fee),
        parts=[_part(quoted, each) for each in line.parts],
        warnings=list(quoted.warnings),
    )


def _part(quoted: QuotedLine, part: QuotePart) -> QuotePartLine:
    unit = quoted.line.wanted.unit
    version = part.version
    return QuotePartLine(
        key=None if version is None else quoted.keys[version.ratio_id],
        price=None if version is None else version.value,
        starts_at=utc_text(part.started_at),
        ends_at=utc_text(part.ended_at),
        usage=money.number(money.usage(part.billed, unit)),
        fee=None if version is None else money.number(money.fee(part.amount, unit)),
    )


ROUTES = (
    Route(
        method="POST",
        path="/api/admin/v1/quote",
        handler=post_quote,
        operation_id="quote",
        tag="Administration",
        summary="What a job of given size and length would cost",
        role=Role.VIEWER,
        description="By the rules of rating, at the prices of each part of its time; it is taken"
        " to use what it asks for.",
        body=QUOTE_FORM,
        answers={HTTPStatus.OK: Answer(description="Line by line", adapter=QUOTE)},
        problems=(HTTPStatus.CONFLICT,),
    ),
)
