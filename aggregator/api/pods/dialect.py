"""How the Pods API says what is wrong: `{"message": …}`."""

from dataclasses import dataclass
from typing import Annotated, Final

from aiohttp import web
from pydantic import Field, TypeAdapter

from aggregator.api.answer import JSON
from aggregator.api.dialect import Dialect
from aggregator.api.problem import Problem
from aggregator.api.wire import wire


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class PodsError:
    """What is wrong."""

    message: Annotated[str, Field(description="What is wrong, and what to do about it")]


_PODS_ERROR: Final = TypeAdapter(PodsError)


def render(problem: Problem, _request_id: str) -> web.Response:
    """The answer that tells a client of a problem."""
    detail = problem.detail.encode("utf-8", "backslashreplace").decode()
    return web.Response(
        status=problem.status.value,
        body=_PODS_ERROR.dump_json(PodsError(message=detail)),
        content_type=JSON,
        charset="utf-8",
        headers=problem.headers,
    )


PODS: Final = Dialect(
    name="pods",
    prefixes=("/v1",),
    render=render,
    error=_PODS_ERROR,
)
"""Everything below the original's base that is not the Hourly API's."""
