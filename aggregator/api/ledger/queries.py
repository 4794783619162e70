"""What the Ledger API is asked: parameters, their bounds, and the cursor that stands for them."""

import re
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Literal, TypeAlias
from uuid import UUID

from aiohttp import web
from pydantic import BeforeValidator, Field, TypeAdapter, WithJsonSchema

from aggregator.api.cursor import read_parts, write_parts
from aggregator.api.instants import ANY_INSTANT_PATTERN, between_ends
from aggregator.api.parse import parse_query
from aggregator.api.problem import invalid
from aggregator.api.wire import UuidText, whole, wire
from aggregator.billing.ledger import LedgerAsked, Place

DEFAULT_LIMIT = 200
DEFAULT_PAGE_SIZE = 1000
_MAX_PAGE = 10**12
_MAX_CURSOR = 1024
_MAX_ID = 10**13 - 1
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIME = re.compile(
    r"(?!0000)[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,9})?)?"
    r"(Z|[+-][0-9]{2}:[0-9]{2})?"
)
_LAST_INSTANT = datetime.max.replace(tzinfo=UTC)
_TICK = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Moment:
    """An instant, or a whole UTC day: `end` is after the last instant of it."""

    start: datetime
    end: datetime


def _moment(value: object) -> Moment:
    if isinstance(value, str):
        try:
            if _DAY.fullmatch(value):
                return _day(date.fromisoformat(value))
            if _TIME.fullmatch(value):
                return _time(datetime.fromisoformat(value))
        except ValueError:
            pass
    raise ValueError("must be a date like 2026-02-06 or a time like 2026-02-06T04:00:00.000Z")


def _day(day: date) -> Moment:
    start = datetime.combine(day, datetime.min.time(), tzinfo=UTC)
    return Moment(start, _LAST_INSTANT if day == date.max else start + timedelta(days=1))


def _time(time: datetime) -> Moment:
    """What says no offset is in UTC."""
    instant = between_ends(time.replace(tzinfo=UTC) if time.tzinfo is None else time)
    return Moment(instant, instant + _TICK)


MomentText: TypeAlias = Annotated[
    Moment,
    BeforeValidator(_moment),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "format": "date"},
                {"type": "string", "format": "date-time", "pattern": ANY_INSTANT_PATTERN},
            ]
        }
    ),
]
Limit: TypeAlias = Annotated[
    int,
    BeforeValidator(whole(1, 500)),
    WithJsonSchema({"type": "integer", "minimum": 1, "maximum": 500}),
]
PageNumber: TypeAlias = Annotated[
    int,
    BeforeValidator(whole(1, _MAX_PAGE)),
    WithJsonSchema({"type": "integer", "minimum": 1, "maximum": _MAX_PAGE}),
]
PageSize: TypeAlias = Annotated[
    int,
    BeforeValidator(whole(10, 1000)),
    WithJsonSchema({"type": "integer", "minimum": 10, "maximum": 1000}),
]
CurrencyName: TypeAlias = Literal["USD", "VCU", "DIEM", "BUNDLED_CREDITS"]


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class UsageQuery:
    """A page of the ledger."""

    currency: Annotated[
        CurrencyName | None, Field(description="Everything is in USD; the others give nothing")
    ] = None
    start_date: Annotated[
        MomentText | None,
        Field(
            description="Only lines of this instant or later (ISO 8601); by default all, from the"
            " first one on"
        ),
    ] = None
    end_date: Annotated[
        MomentText | None,
        Field(
            description="Only lines of this instant, or of this day, or earlier (ISO 8601); by"
            " default all that there are by now"
        ),
    ] = None
    limit: Annotated[
        Limit | None, Field(description=f"Lines per page; default {DEFAULT_LIMIT}")
    ] = None
    page: Annotated[PageNumber | None, Field(description="Counted from 1; default 1")] = None
    sort_order: Annotated[
        Literal["asc", "desc"] | None, Field(description="By timestamp; default desc")
    ] = None
    user_id: Annotated[
        UuidText | None, Field(description="Only this user's, of what the token may see")
    ] = None


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryQuery:
    """A part of the ledger, oldest first."""

    currency: Annotated[
        CurrencyName | None, Field(description="Everything is in USD; the others give nothing")
    ] = None
    start_timestamp: Annotated[
        MomentText | None,
        Field(
            description="Only lines of this instant or later (ISO 8601); by default all, from the"
            " first one on"
        ),
    ] = None
    end_timestamp: Annotated[
        MomentText | None,
        Field(
            description="Only lines before this instant (ISO 8601); by default all, also those"
            " that are added while parts are asked for"
        ),
    ] = None
    page_size: Annotated[
        PageSize | None, Field(description=f"Lines per part; default {DEFAULT_PAGE_SIZE}")
    ] = None
    user_id: Annotated[
        UuidText | None, Field(description="Only this user's, of what the token may see")
    ] = None
    cursor: Annotated[
        str | None, Field(description="nextCursor of the part before; alone, it stands for all")
    ] = None


USAGE_QUERY = TypeAdapter(UsageQuery)
HISTORY_QUERY = TypeAdapter(HistoryQuery)


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryAsked:
    """Which lines, and after which of them this part begins."""

    which: LedgerAsked
    page_size: int
    is_usd: bool = True
    after: Place | None = None


def usage_asked(query: UsageQuery) -> LedgerAsked:
    """The lines that a page is of: both ends belong to them."""
    return LedgerAsked(
        user_id=query.user_id,
        start=_start(query.start_date),
        end=None if query.end_date is None else query.end_date.end,
    )


def parse_history(request: web.Request) -> HistoryAsked:
    """What a request asks of the history. Raises a Problem 400 that names the parameter."""
    query = parse_query(request, HISTORY_QUERY)
    if query.cursor is None:
        return HistoryAsked(
            which=LedgerAsked(
                user_id=query.user_id,
                start=_start(query.start_timestamp),
                end=_start(query.end_timestamp),
            ),
            page_size=query.page_size or DEFAULT_PAGE_SIZE,
            is_usd=query.currency in {None, "USD"},
        )
    given = [each.name for each in fields(query) if getattr(query, each.name) is not None]
    if given != ["cursor"]:
        raise invalid({"cursor": ["must be sent alone: it stands for all other parameters"]})
    return read_cursor(query.cursor)


def write_cursor(asked: HistoryAsked, place: Place) -> str:
    """A question and a place as opaque text."""
    which = asked.which
    parts = (
        None if which.user_id is None else str(which.user_id),
        None if which.end is None else which.end.isoformat(),
        asked.page_size,
        place.started_at.isoformat(),
        place.adjustment_id,
        str(place.bill_id),
        place.ratio_id,
    )
    return write_parts(parts)


def read_cursor(text: str) -> HistoryAsked:
    """The question; a Problem 400 for what `write_cursor` did not write."""
    return read_parts(text, _history_at, giver="an answer", longest=_MAX_CURSOR)


def _history_at(parts: list[Any]) -> HistoryAsked:
    user, end, size, at, adjustment, bill, ratio = parts
    return HistoryAsked(
        which=LedgerAsked(
            user_id=None if user is None else UUID(str(user)),
            end=None if end is None else _instant(end),
        ),
        page_size=whole(10, 1000)(str(size)),
        after=Place(
            started_at=_instant(at),
            adjustment_id=whole(0, _MAX_ID)(str(adjustment)),
            bill_id=UUID(str(bill)),
            ratio_id=whole(0, _MAX_ID)(str(ratio)),
        ),
    )


def _start(moment: Moment | None) -> datetime | None:
    return None if moment is None else moment.start


def _instant(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    if found.tzinfo is None:
        raise ValueError("no instant")
    return found.astimezone(UTC)
