"""How the Ledger API says that something is wrong: `{"error": …}`, and of parameters which."""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated

from aiohttp import web
from pydantic import TypeAdapter, WithJsonSchema

from aggregator.api.answer import JSON
from aggregator.api.dialect import Dialect
from aggregator.api.problem import Problem

_WORDS: Mapping[HTTPStatus, str] = {
    HTTPStatus.BAD_REQUEST: "Invalid request parameters",
    HTTPStatus.UNAUTHORIZED: "Authentication failed",
    HTTPStatus.FORBIDDEN: "Unauthorized access",
}
"""What the original says, whatever the reason."""

_REASONS = {
    "type": "object",
    "properties": {"_errors": {"type": "array", "items": {"type": "string"}}},
    "required": ["_errors"],
}
_SCHEMA = {
    "type": "object",
    "properties": {
        "error": {"type": "string"},
        "details": _REASONS
        | {
            "description": "What is wrong with each parameter",
            "additionalProperties": _REASONS,
        },
    },
    "required": ["error"],
    "additionalProperties": False,
}

LEDGER_ERROR: TypeAdapter[dict[str, object]] = TypeAdapter(
    Annotated[dict[str, object], WithJsonSchema(_SCHEMA)]
)


def render(problem: Problem, _request_id: str) -> web.Response:
    """The answer that tells a client of a problem; who asked wrongly learns what was wrong."""
    shown: dict[str, object] = {"error": _WORDS.get(problem.status, problem.detail)}
    if problem.status is HTTPStatus.BAD_REQUEST:
        general = [] if problem.errors else [problem.detail]
        shown["details"] = {
            "_errors": general,
            **{field: {"_errors": list(reasons)} for field, reasons in problem.errors.items()},
        }
    return web.Response(
        status=problem.status.value,
        body=json.dumps(shown, separators=(",", ":")).encode(),  # ASCII, also of lone surrogates
        content_type=JSON,
        charset="utf-8",
        headers=problem.headers,
    )


LEDGER = Dialect(
    name="ledger",
    prefixes=("/api/v1",),
    render=render,
    error=LEDGER_ERROR,
)
"""Everything below the original's base."""
