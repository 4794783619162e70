"""What each hour cost, the latest first, page by page.

Hours in which nothing counts are not listed. A page is looked for in windows that grow as
long as too little is found, so that it costs what it shows and not all of history.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from aggregator.billing.database import Connection, Database, Parameters, rows_of
from aggregator.billing.hourly import HOUR, Amounts
from aggregator.billing.ratios import clock_of
from aggregator.billing.scope import Scope
from aggregator.store.queries import query

_LIST_HOURS = query("list_hours")
_LIST_HOURS_OF_METERS = query("list_hours_of_meters")

REACH: Final = timedelta(days=366)
"""A list without a start ends where nothing counts for so long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HoursAsked:
    """A question for hours that begin in [start, end); None is no bound."""

    vc: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    skip: int = 0
    """How many hours of the list come before the page."""
    limit: int

    def parameters(self, scope: Scope) -> Parameters:
        """What is the same for every window."""
        return {"vc": self.vc, **scope.parameters()}


@dataclass(frozen=True, slots=True, kw_only=True)
class PricedHour(Amounts):
    """An hour in which something counts."""

    hour: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class HourPage:
    """Hours, the latest first; `is_last`: none comes after them."""

    hours: Sequence[PricedHour]
    is_last: bool


async def list_hours(database: Database, asked: HoursAsked, scope: Scope) -> HourPage:
    """A page of the hours within the scope; all of one snapshot."""
    wanted = asked.skip + asked.limit + 1
    async with database.reading() as connection:
        end = (await clock_of(connection)) + HOUR
        end = min(end, asked.end or end)
        found = await _latest(connection, asked.parameters(scope), asked.start, end, wanted)
    page = found[asked.skip : wanted - 1]
    return HourPage(hours=page, is_last=len(found) < wanted)


async def _latest(
    connection: Connection,
    parameters: Parameters,
    start: datetime | None,
    end: datetime,
    wanted: int,
) -> Sequence[PricedHour]:
    """The latest `wanted` hours of a range, or as many as there are."""
    is_part = any(value is not None for value in parameters.values())
    statement = _LIST_HOURS_OF_METERS if is_part else _LIST_HOURS
    found: list[PricedHour] = []
    last, span = end, wanted * HOUR
    while len(found) < wanted and (bound := start or last - REACH) < end:
        begin = end - min(span, end - bound)
        window = {"starts_at": begin, "ends_at": end, "limit": wanted - len(found)}
        found += await rows_of(
            connection, statement, {**parameters, **window}, PricedHour, prepare=False
        )
        last = found[-1].hour if found else last
        end, span = begin, span * 2
    return found
