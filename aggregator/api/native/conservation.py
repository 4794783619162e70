"""What became of a node's capacity, as the administrators' endpoint shows it."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from http import HTTPStatus
from typing import Annotated

from aiohttp import web
from pydantic import Field, TypeAdapter

from aggregator.api.auth import Role
from aggregator.api.instants import Minute, UtcTime, utc_text
from aggregator.api.lists import answer_array
from aggregator.api.parse import parse_query
from aggregator.api.problem import Problem, invalid
from aggregator.api.route import DATABASE, Answer, Route
from aggregator.api.wire import Double, NodeText, wire
from aggregator.billing.conservation import (
    BackwardsError,
    ConservedHour,
    UnknownNodeError,
    list_conservation,
)
from aggregator.rating.money import number


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class ConservationQuery:
    """Which node, and which hours of it."""

    node: NodeText
    start: Annotated[
        Minute | None,
        Field(alias="from", description="The first hour; a day before the last if it is not said"),
    ] = None
    end: Annotated[
        Minute | None,
        Field(alias="to", description="The end; that of the last settled hour if it is not said"),
    ] = None


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class ConservationLine:
    """One hour of a type, in hours of the unit.

    jobs + idle + unattributed + down - excess + difference = capacity.
    """

    hour: UtcTime
    type: str
    device: Annotated[str | None, Field(description="A physical one; null: all of the node")]
    model: Annotated[str | None, Field(description="Null: unknown, or several")]
    unit: str
    capacity: Annotated[
        Double | None, Field(description="Null: the node did not account for the hour")
    ]
    jobs: Annotated[Double, Field(description="What jobs used; of devices, what they held")]
    idle: Annotated[Double, Field(description="What nobody used or held")]
    unattributed: Annotated[Double, Field(description="What was used by what is no job")]
    down: Annotated[Double, Field(description="What could not be used")]
    excess: Annotated[Double, Field(description="What jobs were given beyond what there is")]
    difference: Annotated[
        Double | None,
        Field(description="What is not accounted for; of devices always 0 in a settled hour"),
    ]


CONSERVATION_QUERY = TypeAdapter(ConservationQuery)
CONSERVATION_LINES = TypeAdapter(list[ConservationLine])


async def get_conservation(request: web.Request) -> web.StreamResponse:
    """The hours of one node."""
    asked = parse_query(request, CONSERVATION_QUERY)
    try:
        return await _answer(request, asked.node, asked.start, asked.end)
    except UnknownNodeError as error:
        raise Problem(HTTPStatus.NOT_FOUND, "there is no node of this name") from error
    except BackwardsError as error:
        raise invalid({"from": [str(error)]}) from error


async def _answer(
    request: web.Request, node: str, start: datetime | None, end: datetime | None
) -> web.StreamResponse:
    async with list_conservation(request.app[DATABASE], node, start, end) as hours:
        return await answer_array(request, hours, conservation_line, CONSERVATION_LINES)


def conservation_line(row: ConservedHour) -> ConservationLine:
    """An hour in the units of the APIs; each amount is rounded by itself."""

    def shown(quantity: Decimal) -> int | float:
        return number(row.hours(quantity))

    return ConservationLine(
        hour=utc_text(row.hour),
        type=row.type,
        device=row.device,
        model=row.model,
        unit=row.unit.name,
        capacity=None if row.capacity is None else shown(row.capacity),
        jobs=shown(row.jobs),
        idle=shown(row.idle),
        unattributed=shown(row.unattributed),
        down=shown(row.down),
        excess=shown(row.excess),
        difference=None if row.difference is None else shown(row.difference),
    )


ROUTES = (
    Route(
        method="GET",
        path="/api/admin/v1/nodes/conservation",
        handler=get_conservation,
        operation_id="listConservation",
        tag="Administration",
        summary="What became of all that a node has, hour by hour",
        description="Nodes account for their time some minutes late: until then the difference"
        " of an hour is not final.",
        role=Role.VIEWER,
        query=CONSERVATION_QUERY,
        answers={
            HTTPStatus.OK: Answer(
                description="By hour, type and device, the whole node first",
                adapter=CONSERVATION_LINES,
            )
        },
        problems=(HTTPStatus.NOT_FOUND,),
        timeout_seconds=600.0,
    ),
)
