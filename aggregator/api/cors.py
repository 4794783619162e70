"""Which web pages may ask from a browser: those of `[http] cors_origins`, by default none.

A page of another origin gets answers that its browser does not let it read, and none to
the question whether it may ask. A page that may ask still needs a token like anybody else.
"""

from http import HTTPStatus

from aiohttp import hdrs, web
from aiohttp.typedefs import Middleware

from aggregator.api.route import Handler
from aggregator.settings import HttpSettings

_METHODS = "GET, POST, DELETE"
_HEADERS = "Authorization, Content-Type, If-None-Match, X-Request-Id"
_EXPOSED = "ETag, Link, Retry-After, X-Request-Id, X-Unpriced-Items"
_KEPT_SECONDS = "600"


def admit_pages(settings: HttpSettings) -> Middleware:
    """What answers browsers that ask for a page of another origin."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not settings.cors_origins:
            return await handler(request)
        origin = request.headers.get(hdrs.ORIGIN, "")
        request[ALLOWED_ORIGIN] = origin if origin in settings.cors_origins else ""
        is_asking = hdrs.ACCESS_CONTROL_REQUEST_METHOD in request.headers
        if request[ALLOWED_ORIGIN] and request.method == "OPTIONS" and is_asking:
            return web.Response(status=HTTPStatus.NO_CONTENT, headers=_PERMISSION)
        return await handler(request)

    return middleware


def set_cors_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Let the browser show an answer to the page that asked, if it may."""
    if ALLOWED_ORIGIN not in request:
        return
    vary = response.headers.get(hdrs.VARY)
    response.headers[hdrs.VARY] = f"{vary}, Origin" if vary else "Origin"
    if origin := request[ALLOWED_ORIGIN]:
        response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
        response.headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = _EXPOSED
        response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"


_PERMISSION = {
    hdrs.ACCESS_CONTROL_ALLOW_METHODS: _METHODS,
    hdrs.ACCESS_CONTROL_ALLOW_HEADERS: _HEADERS,
    hdrs.ACCESS_CONTROL_MAX_AGE: _KEPT_SECONDS,
}

ALLOWED_ORIGIN = web.RequestKey("ALLOWED_ORIGIN", str)
"""The origin of a page that may ask; "": of one that may not. Missing: nobody's may."""
