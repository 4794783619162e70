"""Errors as RFC 9457 problems: raised anywhere below a handler, rendered in one place.

A problem says what was wrong with the request in words that help to repair it, never what
went wrong inside.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from itertools import islice
from typing import Annotated

from aiohttp import web
from pydantic import Field, TypeAdapter

from aggregator.api.wire import wire

MEDIA_TYPE = "application/problem+json"

MAX_FAULTS = 20
"""Fields at fault that one answer names; the others are counted."""

_MAX_NAME = 100


@wire
@dataclass(frozen=True, slots=True, kw_only=True)
class ProblemDetails:
    """An error (RFC 9457)."""

    type: Annotated[str, Field(description="Always about:blank: the status says it all")]
    title: Annotated[str, Field(description="The status in words")]
    status: Annotated[int, Field(description="The status of the answer", ge=400, le=599)]
    detail: Annotated[str, Field(description="What is wrong, and what to do about it")]
    request_id: Annotated[str, Field(description="Names the request in our log")]
    errors: Annotated[
        dict[str, list[str]], Field(description="What is wrong with each parameter or property")
    ]


PROBLEM_DETAILS = TypeAdapter(ProblemDetails)


class Problem(Exception):  # noqa: N818 - the field's own word
    """Ends a request with a status and a reason; `errors` names the fields at fault."""

    def __init__(
        self,
        status: HTTPStatus,
        detail: str,
        *,
        errors: Mapping[str, Sequence[str]] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Keep what `render` shows."""
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = errors or {}
        self.headers = headers or {}


def invalid(errors: Mapping[str, Sequence[str]]) -> Problem:
    """A request whose parameters or properties are at fault; the first of them are named."""
    named: dict[str, list[str]] = {}
    for field, reasons in islice(errors.items(), MAX_FAULTS):
        named.setdefault(_shortened(field), []).extend(reasons)
    said = "; ".join(f"{field}: {', '.join(reasons)}" for field, reasons in named.items())
    more = len(errors) - MAX_FAULTS
    if more > 0:
        said += f"; and {more} more like these"
    return Problem(HTTPStatus.BAD_REQUEST, said, errors=named)


def refused(field: str, reason: str) -> Problem:
    """A request that is well formed but cannot be done: 409, with the field at fault."""
    return Problem(HTTPStatus.CONFLICT, f"{field}: {reason}", errors={field: [reason]})


def render(problem: Problem, request_id: str) -> web.Response:
    """The answer that tells a client of a problem."""
    details = ProblemDetails(
        type="about:blank",
        title=problem.status.phrase,
        status=problem.status.value,
        detail=_encodable(problem.detail),
        request_id=request_id,
        errors={
            _encodable(field): [_encodable(reason) for reason in reasons]
            for field, reasons in problem.errors.items()
        },
    )
    return web.Response(
        status=problem.status.value,
        body=PROBLEM_DETAILS.dump_json(details),
        content_type=MEDIA_TYPE,
        headers=problem.headers,
    )


def translated(error: web.HTTPException) -> Problem:
    """Aiohttp's own errors (no such route, wrong method) as problems."""
    status = HTTPStatus(error.status)
    match status:
        case HTTPStatus.NOT_FOUND:
            return Problem(status, "there is nothing at this path; /docs lists what there is")
        case HTTPStatus.METHOD_NOT_ALLOWED:
            allow = error.headers.get("Allow", "")
            detail = f"this path answers to {allow.replace(',', ', ')} only"
            return Problem(status, detail, headers={"Allow": allow})
        case _:
            return Problem(status, error.reason or status.phrase)


def _shortened(field: str) -> str:
    return field if len(field) <= _MAX_NAME else field[: _MAX_NAME - 1] + "…"


def _encodable(text: str) -> str:
    """Write lone surrogates, which UTF-8 has not, as they stand in JSON."""
    return text.encode("utf-8", "backslashreplace").decode()
