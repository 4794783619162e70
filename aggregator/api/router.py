"""Lays the table of routes out for the server.

Also what no route answers to is routed, to an error, so that each request of whatever kind
comes past all that surrounds a handler. The library answers such requests by itself.
"""

from collections.abc import Iterable, Sequence

from aiohttp import HttpVersion11, web

from aggregator.api.route import Handler, Route


def add_routes(app: web.Application, routes: Iterable[Route]) -> None:
    """Add the routes, and what answers to every other method and path."""
    of_patterns: dict[str, list[Route]] = {}
    for route in routes:
        of_patterns.setdefault(route.pattern, []).append(route)
    for pattern, own in of_patterns.items():
        resource = app.router.add_resource(pattern)
        allowed = [(method, route.handler) for route in own for method in _methods(route)]
        for method, handler in allowed:
            resource.add_route(method, handler, expect_handler=_expect)
        refuse = _other_method([method for method, _ in allowed])
        resource.add_route("*", refuse, expect_handler=_expect)
    app.router.add_resource(r"/{path:[\s\S]*}").add_route("*", _nothing, expect_handler=_expect)


async def _expect(request: web.Request) -> None:
    """Let a client send the body that it holds back; what else it expects is not looked at."""
    if request.version == HttpVersion11 and request.headers["Expect"].lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # the answer itself has not begun


def _methods(route: Route) -> Sequence[str]:
    """What a route answers to: whoever may get something may get its headers alone."""
    return ("GET", "HEAD") if route.method == "GET" else (route.method,)


def _other_method(allowed: Sequence[str]) -> Handler:
    async def refuse(request: web.Request) -> web.StreamResponse:
        raise web.HTTPMethodNotAllowed(request.method, allowed)

    return refuse


async def _nothing(_request: web.Request) -> web.StreamResponse:
    raise web.HTTPNotFound
