"""How the Cost API says that something is wrong: as Kubernetes does, in a `Status`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from types import MappingProxyType
from typing import Annotated, Final, Literal

from aiohttp import web
from pydantic import Field, TypeAdapter

from aggregator.api.answer import JSON
from aggregator.api.dialect import Dialect
from aggregator.api.problem import Problem
from aggregator.api.wire import wire

_REASONS: Final[Mapping[int, str]] = MappingProxyType(
    {
        HTTPStatus.BAD_REQUEST: "BadRequest",
        HTTPStatus.UNAUTHORIZED: "Unauthorized",
        HTTPStatus.FORBIDDEN: "Forbidden",
        HTTPStatus.NOT_FOUND: "NotFound",
        HTTPStatus.METHOD_NOT_ALLOWED: "MethodNotAllowed",
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "RequestEntityTooLarge",
        HTTPStatus.TOO_MANY_REQUESTS: "TooManyRequests",
        HTTPStatus.SERVICE_UNAVAILABLE: "ServiceUnavailable",
    }
)
"""Kubernetes' own words, by which its clients tell errors apart."""


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """An error, as Kubernetes shows one."""

    kind: Literal["Status"] = "Status"
    api_version: Literal["v1"] = "v1"
    metadata: Annotated[dict[str, str], Field(description="Always empty", max_length=0)] = field(
        default_factory=dict[str, str]
    )
    status: Literal["Failure"] = "Failure"
    message: Annotated[str, Field(description="What is wrong, and what to do about it")]
    reason: Annotated[str, Field(description="The status in one word")]
    code: Annotated[int, Field(description="The status of the answer", ge=400, le=599)]


STATUS = TypeAdapter(Status)


def render(problem: Problem, _request_id: str) -> web.Response:
    """The answer that tells a client of a problem; the header X-Request-Id names the request."""
    status = Status(
        message=problem.detail, reason=reason_of(problem.status), code=problem.status.value
    )
    return web.Response(
        status=problem.status.value,
        body=STATUS.dump_json(status),
        content_type=JSON,
        headers=problem.headers,
    )


def reason_of(status: HTTPStatus) -> str:
    """The word for a status; of those that have none of their own, that of their class."""
    is_ours = status >= HTTPStatus.INTERNAL_SERVER_ERROR
    return _REASONS.get(status, "InternalError" if is_ours else "BadRequest")


COST = Dialect(name="cost", prefixes=("/platform",), render=render, error=STATUS)
