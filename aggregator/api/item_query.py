"""The question that lists of items answer: which items, of which time, which page."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

from aiohttp import web
from pydantic import Field, TypeAdapter

from aggregator.api.cursor import read_parts, write_parts
from aggregator.api.instants import Bound
from aggregator.api.parse import parse_query
from aggregator.api.wire import Count, Flag, MethodName, UuidText, wire
from aggregator.billing.item_lists import (
    Clip,
    ItemFilter,
    ItemsAsked,
    Page,
    Position,
    storable,
)
from aggregator.clock import utc_now
from aggregator.model import Method

HOURLY_DAYS = 31
_HOURLY = timedelta(days=HOURLY_DAYS)
_MAX_CURSOR = 8192


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class ItemQuery:
    """Which items; ours beyond userId and type are optional and off by default."""

    user_id: Annotated[UuidText | None, Field(description="User Id")] = None
    type: Annotated[
        str | None, Field(description="Usage type like cpu, mem, gpu, npu; unknown gives []")
    ] = None
    job_id: Annotated[str | None, Field(description="Job Id")] = None
    job: Annotated[str | None, Field(description="Job Id or job name")] = None
    vc_name: Annotated[str | None, Field(description="Name of the virtual cluster")] = None
    node: Annotated[str | None, Field(description="IP of the node")] = None
    running: Annotated[
        Flag | None, Field(description="Only running jobs, or only those that are not")
    ] = None
    start_time: Annotated[
        Bound | None, Field(description="Only what counts from the hour of this instant on")
    ] = None
    end_time: Annotated[
        Bound | None,
        Field(
            description="Only what counts before the end of the hour that this instant ends; "
            "items are then shown as of that end"
        ),
    ] = None
    granularity: Annotated[
        Literal["hour"] | None,
        Field(
            description="hour: an item for each clock hour; without startTime those of the"
            f" {HOURLY_DAYS} days before endTime, or before now"
        ),
    ] = None
    method: Annotated[
        MethodName | None,
        Field(
            description="What usage and fee come to by this billing method, at the prices of their "
            "time; without it, by those in force at that time"
        ),
    ] = None
    limit: Annotated[
        Count | None,
        Field(description="At most so many items; the header Link leads to the next ones"),
    ] = None
    cursor: Annotated[
        str | None, Field(description="Where a page begins, as the header Link has it")
    ] = None


ITEM_QUERY = TypeAdapter(ItemQuery)


def parse_items(request: web.Request) -> ItemsAsked:
    """What a request asks of items. Raises a Problem 400 that names the parameter."""
    asked = parse_query(request, ITEM_QUERY)
    return ItemsAsked(
        which=ItemFilter(
            user_id=asked.user_id,
            type=asked.type,
            job_id=asked.job_id,
            job=asked.job,
            vc=asked.vc_name,
            node=asked.node,
            is_running=asked.running,
        ),
        clip=_clip(asked, utc_now()),
        page=Page(limit=asked.limit, after=read_cursor(asked.cursor) if asked.cursor else None),
        method=Method(asked.method) if asked.method else None,
    )


def next_link(request: web.Request, following: Position | None) -> dict[str, str]:
    """The header that leads to the next page; none on the last."""
    if following is None:
        return {}
    kept = [(name, value) for name, value in request.query.items() if name.lower() != "cursor"]
    url = request.rel_url.with_query([*kept, ("cursor", write_cursor(following))])
    return {"Link": f'<{url.raw_path_qs}>; rel="next"'}


def write_cursor(position: Position) -> str:
    """A place as opaque text."""
    return write_parts(
        (position.at.isoformat(), position.job_id, position.type, str(position.bill_id))
    )


def read_cursor(text: str) -> Position:
    """The place; a Problem 400 for what `write_cursor` did not write."""
    return read_parts(text, _position, giver="a Link header", longest=_MAX_CURSOR)


def _position(parts: list[Any]) -> Position:
    at, job_id, type_, bill_id = parts
    if not (storable(job_id) and storable(type_)):
        raise ValueError("no text of a row")
    instant = datetime.fromisoformat(at)
    if instant.tzinfo is None:
        raise ValueError("no instant")
    return Position(at=instant, job_id=job_id, type=type_, bill_id=UUID(str(bill_id)))


def _clip(asked: ItemQuery, now: datetime) -> Clip:
    """The range that was asked for; hour by hour it begins somewhere."""
    start, end = asked.start_time, asked.end_time
    if asked.granularity is None:
        return Clip(start=start, end=end)
    return Clip(start=start or (end or now) - _HOURLY, end=end, is_hourly=True)
