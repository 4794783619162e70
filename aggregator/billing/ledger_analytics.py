"""Sums of the ledger for dashboards: by day, by what was sold and by project, in USD.

Of whole UTC days, from the daily rollup; so what today came to until now is in it as well.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from uuid import UUID

from aggregator.billing.currencies import exchange_of
from aggregator.billing.database import Database, rows_of
from aggregator.billing.ledger import CURRENCY
from aggregator.billing.ratios import clock_of
from aggregator.billing.scope import Scope
from aggregator.model import ResourceType
from aggregator.rating import money
from aggregator.rating.currency import Exchange
from aggregator.rating.sku import sku, unit_name
from aggregator.store.queries import query
from aggregator.units import UNITS

TOP = 10
"""So many of each kind are shown day by day: those that cost most."""

_LIST_LEDGER_DAYS = query("list_ledger_days")

_LAST_DAY = date.max - timedelta(days=1)
"""Of which the end can be said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Days:
    """Whole UTC days, both ends included."""

    first: date
    last: date


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """What was charged on a day; `billed` has a price, `amount` is undivided."""

    day: datetime
    type: str
    model: str | None
    project: str
    billed: Decimal
    amount: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What one of a kind comes to: money, and unit-hours of whatever units."""

    name: str
    usd: float
    units: float
    type: str
    unit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Analytics:
    """All of it; what costs most, and the last day, come first."""

    by_day: Mapping[date, float]
    models: Sequence[Share]
    projects: Sequence[Share]
    models_by_day: Mapping[date, Mapping[str, float]]
    projects_by_day: Mapping[date, Mapping[str, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """A row in USD, not rounded."""

    day: date
    model: str
    project: str
    type: str
    unit: str
    usd: Fraction
    units: Fraction


async def analyse(
    database: Database,
    scope: Scope,
    *,
    user_id: UUID | None,
    days: Days | int,
    base: str,
) -> Analytics:
    """Sum up some days, or so many days until today. Raises NoRateError."""
    async with database.reading() as connection:
        if isinstance(days, int):
            today = (await clock_of(connection)).astimezone(UTC).date()
            days = Days(first=today - timedelta(days=days - 1), last=today)
        parameters = {
            **scope.parameters(),
            "user_id": user_id,
            "starts_at": _midnight(days.first),
            "ends_at": _midnight(min(days.last, _LAST_DAY)) + timedelta(days=1),
        }
        rows = await rows_of(connection, _LIST_LEDGER_DAYS, parameters, _Row)
        exchange = await exchange_of(connection, base)
    parts = [_part(row, exchange) for row in rows]
    models, projects = (_shares(parts, name) for name in (_model, _project))
    return Analytics(
        by_day={day: each[""] for day, each in _daily(parts, _all, [""]).items()},
        models=models,
        projects=projects,
        models_by_day=_daily(parts, _model, [each.name for each in models[:TOP]]),
        projects_by_day=_daily(parts, _project, [each.name for each in projects[:TOP]]),
    )


def _midnight(day: date) -> datetime:
    return datetime.combine(day, datetime.min.time(), tzinfo=UTC)


def _part(row: _Row, exchange: Exchange) -> _Part:
    type_ = ResourceType(row.type)
    day = row.day.astimezone(UTC).date()
    return _Part(
        day=day,
        model=sku(type_, row.model),
        project=row.project,
        type=row.type,
        unit=f"{unit_name(type_)}-hour",
        usd=money.exact_fee(exchange.convert(row.amount, CURRENCY, day), UNITS[type_]),
        units=Fraction(row.billed) / UNITS[type_].unit_hour,
    )


def _model(part: _Part) -> str:
    return part.model


def _project(part: _Part) -> str:
    return part.project


def _all(_part: _Part) -> str:
    return ""


def _shares(parts: Sequence[_Part], name: Callable[[_Part], str]) -> Sequence[Share]:
    """Each of a kind, what costs most first."""
    found: dict[str, list[_Part]] = {}
    for part in parts:
        found.setdefault(name(part), []).append(part)
    sums = {each: sum((part.usd for part in own), Fraction(0)) for each, own in found.items()}
    return [
        Share(
            name=each,
            usd=float(sums[each]),
            units=float(sum((part.units for part in found[each]), Fraction(0))),
            type=found[each][0].type,
            unit=found[each][0].unit,
        )
        for each in sorted(found, key=lambda each: (-sums[each], each))
    ]


def _daily(
    parts: Sequence[_Part], name: Callable[[_Part], str], names: Sequence[str]
) -> Mapping[date, Mapping[str, float]]:
    """What those of some names come to on each day with any usage, the last day first."""
    sums: dict[date, dict[str, Fraction]] = {}
    for part in sorted(parts, key=lambda part: part.day, reverse=True):
        of_day = sums.setdefault(part.day, dict.fromkeys(names, Fraction(0)))
        if name(part) in of_day:
            of_day[name(part)] += part.usd
    return {
        day: {each: float(value) for each, value in of_day.items()} for day, of_day in sums.items()
    }
