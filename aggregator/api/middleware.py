"""What happens around every handler: request ids, the caller, errors, headers, the log.

No request ends in a traceback. The database being away is 503, a slow answer is 503, and
what nobody foresaw is a 500 that says nothing but the id under which the log tells more.
"""

import asyncio
import logging
import re
from collections.abc import Mapping
from http import HTTPStatus
from uuid import uuid4

from aiohttp import web

from aggregator import log
from aggregator.api.auth import Role, asked_name, authorize
from aggregator.api.cors import set_cors_headers
from aggregator.api.dialect import Dialects
from aggregator.api.door import ALLOWANCE, Door
from aggregator.api.http_metrics import HttpMetrics
from aggregator.api.problem import Problem, translated
from aggregator.api.route import CALLER, REQUEST_ID, Handler, Route
from aggregator.clock import monotonic
from aggregator.errors import DatabaseError, QueryTooLongError, SchemaMissingError

ROUTES = web.AppKey("ROUTES", Mapping[Handler, Route])
HTTP_METRICS = web.AppKey("HTTP_METRICS", HttpMetrics)
DOOR = web.AppKey("DOOR", Door)
DIALECTS = web.AppKey("DIALECTS", Dialects)

_RETRY_SECONDS = "5"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_log = logging.getLogger(__name__)

SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


@web.middleware
async def log_request(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Name the request, in every line that is logged for it, and write one about its end."""
    given = request.headers.get("X-Request-Id", "")
    request[REQUEST_ID] = given if _REQUEST_ID.fullmatch(given) else uuid4().hex
    outside = log.REQUEST_ID.set(request[REQUEST_ID])
    began = monotonic()
    status = 499  # the client left
    try:
        response = await handler(request)
        status = response.status
        return response
    finally:
        _count(request, status, monotonic() - began)
        log.REQUEST_ID.reset(outside)


@web.middleware
async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn whatever a handler raises into an answer; so also what the answer itself raises."""
    try:
        return await _answered(request, handler)
    except (web.HTTPException, ConnectionError):
        raise  # a redirection; or the client is gone: nobody to answer
    except Exception:  # noqa: BLE001 - the last resort, logged
        _log.exception("request failed", extra={"action": "request_failed"})
        words = "this is our fault; the log tells more under the request's id"
        return _rendered(request, Problem(HTTPStatus.INTERNAL_SERVER_ERROR, words))


async def _answered(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except Problem as problem:
        return _rendered(request, problem)
    except web.HTTPException as error:
        if error.status < HTTPStatus.BAD_REQUEST:
            raise
        return _rendered(request, translated(error))
    except (SchemaMissingError, QueryTooLongError) as error:
        return _rendered(request, _unavailable(str(error)))
    except DatabaseError as error:
        return _rendered(request, _unavailable(f"{error}; try again"))
    except TimeoutError:
        return _rendered(request, _unavailable("the answer took too long"))


@web.middleware
async def admit(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let in who may, for as long as the operation may take."""
    asked_name(request)  # what is no HTTP is refused, also where everybody may ask
    route = request.app[ROUTES].get(request.match_info.handler)
    role = Role.SCOPED if route is None else route.role
    if role is not None:
        await _admit(request, role)
    elif route is None or route.is_limited:
        request.app[DOOR].count_stranger(request)
    async with asyncio.timeout(route.timeout_seconds if route else None):
        return await handler(request)


async def _admit(request: web.Request, role: Role) -> None:
    """Let in a caller who may ask, and who may ask now."""
    door = request.app[DOOR]
    caller = request[CALLER] = await door.caller(request)
    door.count(request, caller)
    authorize(caller, role)


async def set_headers(request: web.Request, response: web.StreamResponse) -> None:
    """What every answer carries, and what depends on who asked."""
    protect(response, request.get(REQUEST_ID, ""))
    set_cors_headers(request, response)
    if ALLOWANCE in request:
        dialect = request.app[DIALECTS].of(request.path)
        response.headers.update(dialect.limit_headers(request[ALLOWANCE]))


def protect(response: web.StreamResponse, request_id: str) -> None:
    """What every answer carries, unless its handler said otherwise."""
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers.setdefault("Cache-Control", "no-store")
    response.headers["Server"] = "nodemeter"  # in place of the library's, with its version
    response.headers["X-Request-Id"] = request_id


def _rendered(request: web.Request, problem: Problem) -> web.Response:
    """The problem in the form of the API that was asked."""
    return request.app[DIALECTS].of(request.path).render(problem, request[REQUEST_ID])


def _unavailable(detail: str) -> Problem:
    status = HTTPStatus.SERVICE_UNAVAILABLE
    return Problem(status, detail, headers={"Retry-After": _RETRY_SECONDS})


def _count(request: web.Request, status: int, seconds: float) -> None:
    route = request.app[ROUTES].get(request.match_info.handler)
    path = route.path if route else "other"
    metrics = request.app[HTTP_METRICS]
    metrics.requests.labels(method=_method(request), path=path, status=status).inc()
    metrics.seconds.labels(path=path).observe(seconds)
    _log.info(
        "request",
        extra={
            "action": "http_request",
            "remote": request.remote,
            "method": _method(request),
            "path": request.rel_url.raw_path[:200],
            "status": status,
            "seconds": round(seconds, 6),
        },
    )


def _method(request: web.Request) -> str:
    """The method, if it is one that we know: a client must not invent metrics."""
    return request.method if request.method in {"GET", "HEAD", "POST", "DELETE"} else "other"
