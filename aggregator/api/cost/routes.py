"""The Cost API: usage of the platform, and of one project.

The path of a project shows only what is of it, of whatever kind it is asked; one that is not
there, or that the caller may not see, has no usage. Nothing is computed here.
"""

from http import HTTPStatus
from typing import Final

from aiohttp import web

from aggregator.api.answer import answer_json
from aggregator.api.auth import Role
from aggregator.api.cost.shapes import COST_QUERY, COST_USAGE, cost_usage, parse_costs
from aggregator.api.route import BASE_CURRENCY, CALLER, DATABASE, Answer, Route
from aggregator.billing.cost import list_costs

_BASE = "/platform/cost.alauda.io/v1beta1"
_TAG = "Cost"


async def get_usage(request: web.Request) -> web.StreamResponse:
    """What was used or reserved on the platform."""
    return await _answer(request, None)


async def get_project_usage(request: web.Request) -> web.StreamResponse:
    """What was used by a project or reserved for it."""
    return await _answer(request, request.match_info["project"])


async def _answer(request: web.Request, project: str | None) -> web.StreamResponse:
    asked = parse_costs(request, project)
    page = await list_costs(request.app[DATABASE], asked.asked, request[CALLER].scope)
    shown = cost_usage(asked, page, request.app[BASE_CURRENCY])
    return answer_json(request, COST_USAGE.dump_json(shown))


_EXAMPLE: Final = {
    "pageSize": 20,
    "currentPage": 1,
    "total": 1,
    "items": [
        {
            "project": "vision",
            "cluster": "",
            "namespace": "",
            "item": "Cpu",
            "method": "Effective",
            "usage": 252.5,
            "currency": "USD",
            "start": "20260201",
            "end": "20260228",
        }
    ],
}
_ANSWERS = {
    HTTPStatus.OK: Answer(description="A page of usage", adapter=COST_USAGE, example=_EXAMPLE)
}

ROUTES = (
    Route(
        method="GET",
        path=f"{_BASE}/costs/usage",
        handler=get_usage,
        operation_id="getCostUsage",
        tag=_TAG,
        summary="Get metering and billing total usage",
        description="Retrieves metering and billing total usage for platform.",
        role=Role.SCOPED,
        query=COST_QUERY,
        answers=_ANSWERS,
        problems=(HTTPStatus.BAD_REQUEST,),
    ),
    Route(
        method="GET",
        path=f"{_BASE}/projects/{{project}}/costs/usage",
        handler=get_project_usage,
        operation_id="getProjectCostUsage",
        tag=_TAG,
        summary="Get metering and billing total usage of a project",
        description="Retrieves metering and billing total usage for project.",
        role=Role.SCOPED,
        query=COST_QUERY,
        answers=_ANSWERS,
        problems=(HTTPStatus.BAD_REQUEST,),
        path_parameters={"project": "Project, percent-encoded"},
    ),
)
