"""The Hourly API: one hour with its teams, projects and resources, and the list of hours.

A team in the path must be there; one in a filter that is not leaves nothing. Nothing is
computed here.
"""

from dataclasses import replace
from http import HTTPStatus
from typing import Final

from aiohttp import web

from aggregator.api.answer import answer_json
from aggregator.api.auth import Role
from aggregator.api.hourly.queries import (
    HOUR,
    HOUR_LIST_QUERY,
    HOUR_QUERY,
    TEAM_HOUR_QUERY,
    parse_hour,
    parse_hour_list,
)
from aggregator.api.hourly.shapes import (
    HOUR_ANSWER,
    HOUR_LIST_ANSWER,
    hour_answer,
    hour_list_answer,
)
from aggregator.api.problem import Problem
from aggregator.api.route import CALLER, DATABASE, Answer, Route
from aggregator.billing.hour_lists import HoursAsked, list_hours
from aggregator.billing.hourly import HourAsked, list_vc_prices, vc_exists


async def get_hour(request: web.Request) -> web.StreamResponse:
    """What an hour cost."""
    return await _answer_hour(request, parse_hour(request))


async def get_team_hour(request: web.Request) -> web.StreamResponse:
    """What an hour cost one team."""
    asked = parse_hour(request)
    return await _answer_hour(request, replace(asked, vc=await _team(request)))


async def get_hours(request: web.Request) -> web.StreamResponse:
    """What each hour cost."""
    return await _answer_hours(request, parse_hour_list(request))


async def get_team_hours(request: web.Request) -> web.StreamResponse:
    """What each hour cost one team."""
    asked = parse_hour_list(request)
    return await _answer_hours(request, replace(asked, vc=await _team(request)))


async def _team(request: web.Request) -> str:
    """The team of the path, if it is there for the caller."""
    vc = request.match_info["teamId"]
    if not await vc_exists(request.app[DATABASE], vc, request[CALLER].scope):
        raise Problem(
            HTTPStatus.NOT_FOUND,
            "there is no team with this id",
            errors={"teamId": ["is no team that this caller may see"]},
        )
    return vc


async def _answer_hour(request: web.Request, asked: HourAsked) -> web.StreamResponse:
    found = await list_vc_prices(request.app[DATABASE], asked, request[CALLER].scope)
    shown = hour_answer(asked.hour, found)
    return answer_json(request, HOUR_ANSWER.dump_json(shown, exclude_none=True))


async def _answer_hours(request: web.Request, asked: HoursAsked) -> web.StreamResponse:
    page = await list_hours(request.app[DATABASE], asked, request[CALLER].scope)
    shown = hour_list_answer(page)
    return answer_json(request, HOUR_LIST_ANSWER.dump_json(shown, exclude_none=True))


_TAG: Final = "Hourly"
_TIMESTAMP = {"timestamp": "Unix timestamp of the billing hour, or any within it"}
_TEAM = {"teamId": "The ID of the team: a virtual cluster"}
_PRICE = {"total": 254, "cpu": 4, "memory": 0, "storage": 0, "gpu": 250}
_BYOC = {"price": {"total": 0, "vcpu": 0, "memory": 0, "gpuMemory": 0, "cluster": 0}}
_TEAMS = [
    {
        "id": "research",
        "name": "research",
        "price": _PRICE,
        "projects": [{"id": "vision", "name": "vision", "price": _PRICE}],
    }
]
_HOUR = {
    HTTPStatus.OK: Answer(
        description="The hour; zeros if nothing was used",
        adapter=HOUR_ANSWER,
        example={
            "data": {
                "timestamp": 1770379200,
                "paasUsage": {"price": _PRICE, "teams": _TEAMS},
                "byocUsage": _BYOC,
            }
        },
    )
}
_HOURS = {
    HTTPStatus.OK: Answer(
        description="The hours in which anything was charged, the most recent first",
        adapter=HOUR_LIST_ANSWER,
        example={
            "data": {
                "usage": [
                    {
                        "timestamp": 1770379200,
                        "paasUsage": {"price": _PRICE},
                        "byocUsage": _BYOC,
                    }
                ]
            },
            "pagination": {"hasNextPage": True, "count": 1, "cursor": "YmVmb3JlIDE3NzAzNzkyMDA="},
        },
    )
}

ROUTES = (
    Route(
        method="GET",
        path="/v1/billing/usage",
        handler=get_hours,
        operation_id="listHourlyUsage",
        tag=_TAG,
        summary="Lists hourly usage entries",
        role=Role.SCOPED,
        query=HOUR_LIST_QUERY,
        answers=_HOURS,
        problems=(HTTPStatus.BAD_REQUEST,),
    ),
    Route(
        method="GET",
        path="/v1/billing/usage/{timestamp}",
        handler=get_hour,
        operation_id="getHourlyUsage",
        tag=_TAG,
        summary="Usage details for a given billing hour",
        role=Role.SCOPED,
        path_parameters=_TIMESTAMP,
        path_types={"timestamp": HOUR},
        query=HOUR_QUERY,
        answers=_HOUR,
        problems=(HTTPStatus.BAD_REQUEST,),
    ),
    Route(
        method="GET",
        path="/v1/teams/{teamId}/billing/usage",
        handler=get_team_hours,
        operation_id="listTeamHourlyUsage",
        tag=_TAG,
        summary="Lists hourly usage entries of a team",
        role=Role.SCOPED,
        path_parameters=_TEAM,
        query=HOUR_LIST_QUERY,
        answers=_HOURS,
        problems=(HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND),
    ),
    Route(
        method="GET",
        path="/v1/teams/{teamId}/billing/usage/{timestamp}",
        handler=get_team_hour,
        operation_id="getTeamHourlyUsage",
        tag=_TAG,
        summary="Usage details of a team for a given billing hour",
        role=Role.SCOPED,
        path_parameters={**_TEAM, **_TIMESTAMP},
        path_types={"timestamp": HOUR},
        query=TEAM_HOUR_QUERY,
        answers=_HOUR,
        problems=(HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND),
    ),
)
