"""How the Hourly API says that something is wrong, and what its callers may still ask for."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final

from aiohttp import web
from pydantic import Field, TypeAdapter

from aggregator.api.dialect import Dialect
from aggregator.api.limits import Allowance
from aggregator.api.problem import Problem
from aggregator.api.wire import wire


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class HourlyFault:
    """What is wrong."""

    status: Annotated[int, Field(description="The status of the answer", ge=400, le=599)]
    message: Annotated[str, Field(description="What is wrong, and what to do about it")]
    id: Annotated[str, Field(description="Names the request in our log")]
    details: Annotated[dict[str, list[str]], Field(description="What is wrong with each parameter")]


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class HourlyError:
    """An error; only an answer with the status 200 is none."""

    error: HourlyFault


def render(problem: Problem, request_id: str) -> web.Response:
    """The answer that tells a client of a problem."""
    fault = {
        "status": problem.status.value,
        "message": problem.detail,
        "id": request_id,
        "details": {field: list(reasons) for field, reasons in problem.errors.items()},
    }
    return web.Response(
        status=problem.status.value,
        body=json.dumps({"error": fault}).encode(),  # in ASCII, whatever it quotes
        content_type="application/json",
        charset="utf-8",
        headers=problem.headers,
    )


def limit_headers(allowance: Allowance) -> Mapping[str, str]:
    """What is left of a minute's requests; nothing where there is no limit."""
    if not allowance.limit:
        return {}
    return {
        "x-ratelimit-limit": str(allowance.limit),
        "x-ratelimit-remaining": str(allowance.remaining),
        "x-ratelimit-reset": str(allowance.reset_seconds),
    }


HOURLY: Final = Dialect(
    name="hourly",
    prefixes=("/v1/billing/usage", "/v1/teams"),
    render=render,
    error=TypeAdapter(HourlyError),
    limit_headers=limit_headers,
)
