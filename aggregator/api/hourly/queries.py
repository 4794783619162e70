"""What the Hourly API is asked: hours as Unix seconds, filters, and pages of the list."""

import base64
import binascii
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Final, TypeAlias

from aiohttp import web
from pydantic import BeforeValidator, Field, TypeAdapter, WithJsonSchema

from aggregator.api.parse import parse_part, parse_query
from aggregator.api.problem import invalid
from aggregator.api.wire import whole, wire
from aggregator.billing.hour_lists import HoursAsked
from aggregator.billing.hourly import HourAsked
from aggregator.clock import EPOCH

DEFAULT_PER_PAGE: Final = 50
MAX_PER_PAGE: Final = 100
MAX_PAGE: Final = 200
"""Pages are counted from the latest hour on, and what is counted is read."""

_MAX_SECONDS: Final = 99_999_999_999  # in the year 5138; milliseconds are longer
_SECONDS = re.compile(r"[0-9]{1,11}")
_TIMESTAMP_PATTERN = r"^[0-9]{1,11}(\.[0-9]{1,9})?$"
_TIMESTAMP = re.compile(_TIMESTAMP_PATTERN)
_CURSOR: Final = "before "


def _instant(text: str) -> datetime:
    return EPOCH + timedelta(seconds=int(text))


def _seconds(value: object) -> datetime:
    if isinstance(value, str) and _SECONDS.fullmatch(value):
        return _instant(value)
    raise ValueError("must be a Unix timestamp in whole seconds, like 1770379200")


def _hour(value: object) -> datetime:
    if isinstance(value, str) and _TIMESTAMP.fullmatch(value):
        return _instant(value.partition(".")[0]).replace(minute=0, second=0)
    raise ValueError("must be a Unix timestamp in seconds, like 1770379200")


def _place(value: object) -> datetime:
    """The hour after which a page comes; ValueError for what `write_cursor` did not write."""
    try:
        text = base64.b64decode(str(value), altchars=b"-_", validate=True).decode("ascii")
    except (ValueError, binascii.Error):
        text = ""
    seconds = text.removeprefix(_CURSOR)
    if not text.startswith(_CURSOR) or not _SECONDS.fullmatch(seconds):
        raise ValueError("is not one that an answer gave: begin without it")
    return _instant(seconds)


def write_cursor(hour: datetime) -> str:
    """Opaque text for the page of what is before an hour."""
    return base64.urlsafe_b64encode(f"{_CURSOR}{seconds_of(hour)}".encode()).decode()


def seconds_of(instant: datetime) -> int:
    """Unix seconds."""
    return (instant - EPOCH) // timedelta(seconds=1)


Hour: TypeAlias = Annotated[
    datetime,
    BeforeValidator(_hour),
    WithJsonSchema({"type": "string", "pattern": _TIMESTAMP_PATTERN}),
]
"""Any instant of an hour; the hour."""

Seconds: TypeAlias = Annotated[
    datetime,
    BeforeValidator(_seconds),
    WithJsonSchema({"type": "integer", "minimum": 0, "maximum": _MAX_SECONDS}),
]
PerPage: TypeAlias = Annotated[
    int,
    BeforeValidator(whole(1, MAX_PER_PAGE)),
    WithJsonSchema({"type": "integer", "minimum": 1, "maximum": MAX_PER_PAGE}),
]
PageNumber: TypeAlias = Annotated[
    int,
    BeforeValidator(whole(1, MAX_PAGE, beyond="; a cursor leads further")),
    WithJsonSchema({"type": "integer", "minimum": 1, "maximum": MAX_PAGE}),
]
Place: TypeAlias = Annotated[datetime, BeforeValidator(_place), WithJsonSchema({"type": "string"})]

_RESOURCE_TYPES: Final = (
    "job", "service", "addon", "volume", "opentofu-job", "llm-model-deployment", "external-addon"
)  # fmt: skip
ResourceTypeName: TypeAlias = Annotated[
    str,
    WithJsonSchema({"anyOf": [{"type": "string", "enum": _RESOURCE_TYPES}, {"type": "string"}]}),
]
"""Those of the original; answers show whatever kind a job was given, so any may be asked for."""


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class TeamHourQuery:
    """What of a team's hour."""

    project_id: Annotated[str | None, Field(description="The ID of the project to filter by")] = (
        None
    )
    resource_type: Annotated[
        ResourceTypeName | None,
        Field(
            description="The resource type to filter by (e.g. service, job, addon, volume): any"
            " that answers show, exactly as it is written"
        ),
    ] = None


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class HourQuery(TeamHourQuery):
    """What of an hour."""

    team_id: Annotated[
        str | None, Field(description="The ID of the team (virtual cluster) to filter by")
    ] = None


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class HourListQuery:
    """Which hours of the list."""

    per_page: Annotated[
        PerPage | None,
        Field(alias="per_page", description=f"Hours on a page; {DEFAULT_PER_PAGE} if not said"),
    ] = None
    page: Annotated[
        PageNumber | None,
        Field(description="The number of the page; a cursor goes before it, and costs less"),
    ] = None
    cursor: Annotated[
        Place | None, Field(description="Of the page before, for the one that follows it")
    ] = None
    start_time: Annotated[
        Seconds | None,
        Field(
            description="Only hours that begin at this Unix timestamp or later; without it the"
            " list ends where nothing was used for a year"
        ),
    ] = None
    end_time: Annotated[
        Seconds | None,
        Field(description="Only hours that begin before this; requires startTime"),
    ] = None


HOUR = TypeAdapter(Hour)
HOUR_QUERY = TypeAdapter(HourQuery)
TEAM_HOUR_QUERY = TypeAdapter(TeamHourQuery)
HOUR_LIST_QUERY = TypeAdapter(HourListQuery)


def parse_hour(request: web.Request) -> HourAsked:
    """Which hour, and what of it. Raises a Problem 400 that names the parameter."""
    hour = parse_part(request, "timestamp", HOUR)
    asked = parse_query(request, HOUR_QUERY)
    return HourAsked(
        hour=hour, vc=asked.team_id, project=asked.project_id, kind=asked.resource_type
    )


def parse_hour_list(request: web.Request) -> HoursAsked:
    """Which hours. Raises a Problem 400 that names the parameter."""
    asked = parse_query(request, HOUR_LIST_QUERY)
    if asked.end_time is not None and asked.start_time is None:
        raise invalid({"endTime": ["requires startTime"]})
    limit = asked.per_page or DEFAULT_PER_PAGE
    return HoursAsked(
        start=asked.start_time,
        end=_earlier(asked.end_time, asked.cursor),
        skip=0 if asked.cursor else ((asked.page or 1) - 1) * limit,
        limit=limit,
    )


def _earlier(one: datetime | None, other: datetime | None) -> datetime | None:
    return min((each for each in (one, other) if each is not None), default=None)
