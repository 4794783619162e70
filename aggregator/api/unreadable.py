"""What is no HTTP, or more of it than is read: refused in the words of the API that was asked.

The library's parser gives no request then, so nothing that surrounds a handler runs; at most
the path is known. What was sent is neither repeated nor logged.
"""

import logging
import re
from http import HTTPStatus
from typing import Final
from uuid import uuid4

from aiohttp import web
from aiohttp.http_exceptions import (
    BadStatusLine,
    HttpProcessingError,
    InvalidURLError,
    LineTooLong,
)

from aggregator import log
from aggregator.api.middleware import DIALECTS, HTTP_METRICS, protect
from aggregator.api.problem import Problem

MAX_LINE_BYTES: Final = 8190
"""Of the path with its query, and of a header."""

_LINE = re.compile(rb"\S{1,40} +(?:[A-Za-z]+://[^\s/?#]*)?(/[!-\"$->@-~]{0,400})")
_WORDS = re.compile(r"[A-Za-z' `-]{1,80}")
_log = logging.getLogger(__name__)


def path_of(data: bytes) -> str | None:
    """The path of a request that begins so, as far as it can be read; None: there is none."""
    match = _LINE.match(data)
    return match[1].decode("ascii") if match else None


def refusal(
    app: web.Application, path: str, remote: str | None, error: HttpProcessingError
) -> web.Response:
    """The answer, after which the connection is closed; it is counted and logged like others."""
    request_id = uuid4().hex
    problem = Problem(HTTPStatus.BAD_REQUEST, _reason(error))
    response = app[DIALECTS].of(path).render(problem, request_id)
    protect(response, request_id)
    response.force_close()
    _count(app, request_id, remote, error)
    return response


def _reason(error: HttpProcessingError) -> str:
    """What is wrong, without what was sent."""
    match error:
        case LineTooLong():
            return f"the path with its query, or a header, has more than {MAX_LINE_BYTES} bytes"
        case InvalidURLError():
            return "the path or the query holds characters that must be percent-encoded"
        case BadStatusLine():
            return "a request must begin with a line like GET /api/Bills HTTP/1.1"
        case _:
            words = error.message.partition(":\n")[0].rstrip(".")
            told = f": {words}" if _WORDS.fullmatch(words) else ""
            return f"this is not a request as HTTP/1.1 has it{told}"


def _count(
    app: web.Application, request_id: str, remote: str | None, error: HttpProcessingError
) -> None:
    app[HTTP_METRICS].requests.labels(
        method="other", path="other", status=HTTPStatus.BAD_REQUEST.value
    ).inc()
    outside = log.REQUEST_ID.set(request_id)
    _log.info(
        "request unreadable",
        extra={
            "action": "http_request_unreadable",
            "remote": remote,
            "status": HTTPStatus.BAD_REQUEST.value,
            "error": type(error).__name__,
        },
    )
    log.REQUEST_ID.reset(outside)
