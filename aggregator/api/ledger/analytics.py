"""The Ledger API's sums for dashboards, remembered for ten minutes.

What somebody asked is remembered with what they may see, so nobody is shown another's.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from http import HTTPStatus
from typing import Annotated, Any, Final, TypeAlias

from aiohttp import web
from pydantic import BeforeValidator, Field, TypeAdapter, WithJsonSchema

from aggregator.api.answer import answer_json
from aggregator.api.auth import Role
from aggregator.api.instants import Day
from aggregator.api.ledger.remembered import REMEMBERED
from aggregator.api.ledger.routes import LEDGER_TAG, needing_rates
from aggregator.api.parse import parse_query
from aggregator.api.problem import invalid
from aggregator.api.route import BASE_CURRENCY, CALLER, DATABASE, Answer, Route
from aggregator.api.wire import Double, UuidText, wire
from aggregator.billing.ledger_analytics import TOP, Analytics, Days, Share, analyse
from aggregator.rating.money import number

DEFAULT_DAYS: Final = 7
MAX_DAYS: Final = 90

_LOOKBACK = re.compile(r"([1-9][0-9]{0,1})d")
_LOOKBACK_PATTERN = r"^([1-9]|[1-8][0-9]|90)d$"


def _lookback(value: object) -> int:
    match = _LOOKBACK.fullmatch(value) if isinstance(value, str) else None
    if match is None or int(match[1]) > MAX_DAYS:
        raise ValueError(f"must be days like 7d, at most {MAX_DAYS}d")
    return int(match[1])


Lookback: TypeAlias = Annotated[
    int,
    BeforeValidator(_lookback),
    WithJsonSchema({"type": "string", "pattern": _LOOKBACK_PATTERN}),
]


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class AnalyticsQuery:
    """The days to sum up."""

    lookback: Annotated[
        Lookback | None,
        Field(description=f"So many UTC days, today included; default {DEFAULT_DAYS}d"),
    ] = None
    start_date: Annotated[
        Day | None, Field(description=f"The first day, of {MAX_DAYS} at most; with endDate")
    ] = None
    end_date: Annotated[Day | None, Field(description="The last day; with startDate")] = None
    user_id: Annotated[
        UuidText | None, Field(description="Only this user's, of what the token may see")
    ] = None


ANALYTICS_QUERY = TypeAdapter(AnalyticsQuery)

_Table: TypeAlias = Annotated[
    list[dict[str, int | float]],
    WithJsonSchema(
        {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"date": {"type": "integer"}},
                "required": ["date"],
                "additionalProperties": {"type": "number"},
            },
        }
    ),
]


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class DaySum:
    """What a UTC day came to."""

    date: Annotated[str, Field(json_schema_extra={"format": "date"})]
    usd: Annotated[Double, Field(alias="USD")]
    diem: Annotated[Double, Field(alias="DIEM", description="Always 0")]


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSum:
    """What one SKU came to."""

    model_name: Annotated[str, Field(description="The SKU")]
    unit_type: str
    model_type: Annotated[str | None, Field(description="cpu, mem, gpu, npu or storage")]
    total_usd: Double
    total_diem: Annotated[Double, Field(description="Always 0")]
    total_units: Annotated[Double, Field(description="Unit-hours")]


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class KeySum:
    """What one project came to: jobs run for projects, not for API keys."""

    api_key_id: Annotated[None, Field(description="Always null")]
    description: Annotated[str, Field(description="The project")]
    total_usd: Double
    total_diem: Annotated[Double, Field(description="Always 0")]
    total_units: Annotated[Double, Field(description="Unit-hours, of whatever units")]


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class AnalyticsAnswer:
    """What the days came to."""

    lookback: Annotated[str, Field(description="Like 7d, or startDate:endDate")]
    by_date: Annotated[list[DaySum], Field(description="The last day first")]
    by_model: Annotated[list[ModelSum], Field(description="What costs most first")]
    by_model_daily: Annotated[_Table, Field(description="USD of the top models; date in ms")]
    top_models: Annotated[list[str], Field(description=f"{TOP} at most")]
    by_key: Annotated[list[KeySum], Field(description="What costs most first")]
    by_key_daily: Annotated[_Table, Field(description="USD of the top keys; date in ms")]
    top_key_names: Annotated[list[str], Field(description=f"{TOP} at most")]


ANALYTICS_ANSWER = TypeAdapter(AnalyticsAnswer)


async def get_usage_analytics(request: web.Request) -> web.StreamResponse:
    """What some days came to, perhaps as of some minutes ago."""
    query = parse_query(request, ANALYTICS_QUERY)
    days, lookback = _days(query)
    scope = request[CALLER].scope
    key = (scope, query.user_id, lookback)
    body = request.app[REMEMBERED].get(key)
    if body is None:
        with needing_rates():
            found = await analyse(
                request.app[DATABASE],
                scope,
                user_id=query.user_id,
                days=days,
                base=request.app[BASE_CURRENCY],
            )
        body = ANALYTICS_ANSWER.dump_json(_answer(found, lookback))
        request.app[REMEMBERED].put(key, body)
    return answer_json(request, body)


def _days(query: AnalyticsQuery) -> tuple[Days | int, str]:
    """The days, and how they are named in the answer."""
    first, last = query.start_date, query.end_date
    if first is None and last is None:
        days = query.lookback or DEFAULT_DAYS
        return days, f"{days}d"
    if query.lookback is not None:
        raise invalid({"lookback": ["must be sent without startDate and endDate"]})
    if first is None or last is None:
        missing = "startDate" if first is None else "endDate"
        raise invalid({missing: ["is required with the other date"]})
    if last < first:
        raise invalid({"endDate": ["must not be before startDate"]})
    if last - first >= timedelta(days=MAX_DAYS):
        raise invalid({"startDate": [f"must be at most {MAX_DAYS} days with endDate"]})
    return Days(first=first, last=last), f"{first}:{last}"


def _answer(found: Analytics, lookback: str) -> AnalyticsAnswer:
    return AnalyticsAnswer(
        lookback=lookback,
        by_date=[
            DaySum(date=str(day), usd=number(usd), diem=0) for day, usd in found.by_day.items()
        ],
        by_model=[_model_sum(each) for each in found.models],
        by_model_daily=_table(found.models_by_day),
        top_models=_names(found.models),
        by_key=[_key_sum(each) for each in found.projects],
        by_key_daily=_table(found.projects_by_day),
        top_key_names=_names(found.projects),
    )


def _model_sum(share: Share) -> ModelSum:
    return ModelSum(
        model_name=share.name,
        unit_type=share.unit,
        model_type=share.type,
        total_usd=number(share.usd),
        total_diem=0,
        total_units=number(share.units),
    )


def _key_sum(share: Share) -> KeySum:
    return KeySum(
        api_key_id=None,
        description=share.name,
        total_usd=number(share.usd),
        total_diem=0,
        total_units=number(share.units),
    )


def _names(shares: Sequence[Share]) -> list[str]:
    return [each.name for each in shares[:TOP]]


def _table(by_day: Mapping[date, Mapping[str, float]]) -> list[dict[str, int | float]]:
    """A line for each day; a name that is `date` gives way to the date itself."""
    return [
        {**{name: number(usd) for name, usd in sums.items()}, "date": _ms(day)}
        for day, sums in by_day.items()
    ]


def _ms(day: date) -> int:
    return int(datetime.combine(day, datetime.min.time(), tzinfo=UTC).timestamp()) * 1000


_EXAMPLE: dict[str, Any] = {
    "lookback": "7d",
    "byDate": [{"date": "2026-02-06", "USD": 5, "DIEM": 0}],
    "byModel": [
        {
            "modelName": "gpu-nvidia-h200-device-hour",
            "unitType": "device-hour",
            "modelType": "gpu",
            "totalUsd": 5,
            "totalDiem": 0,
            "totalUnits": 2,
        }
    ],
    "byModelDaily": [{"gpu-nvidia-h200-device-hour": 5, "date": 1770336000000}],
    "topModels": ["gpu-nvidia-h200-device-hour"],
    "byKey": [
        {
            "apiKeyId": None,
            "description": "vision",
            "totalUsd": 5,
            "totalDiem": 0,
            "totalUnits": 2,
        }
    ],
    "byKeyDaily": [{"vision": 5, "date": 1770336000000}],
    "topKeyNames": ["vision"],
}

ROUTES = (
    Route(
        method="GET",
        path="/api/v1/billing/usage-analytics",
        handler=get_usage_analytics,
        operation_id="getBillingUsageAnalytics",
        tag=LEDGER_TAG,
        summary="What some days came to, by day, SKU and project",
        description="Of whole UTC days; remembered for 10 minutes.",
        role=Role.SCOPED,
        query=ANALYTICS_QUERY,
        answers={
            HTTPStatus.OK: Answer(
                description="Sums in USD", adapter=ANALYTICS_ANSWER, example=_EXAMPLE
            )
        },
    ),
)
