"""Accepts the HTTP connections: so many at once, and each must soon make a request.

Until its time is over, a connection that says nothing, or not all of a request, keeps nobody
out: where there are too many, the one that is silent for longest has to go. Where all have
made requests, whoever comes is told that there are too many.
"""

import asyncio
from typing import Final

from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_parser import RawRequestMessage

from aggregator.api.connection import Connection
from aggregator.api.tls import server_context
from aggregator.settings import HttpSettings

_PATIENCE_SECONDS: Final = 20
_REFUSAL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\n"
    b"Connection: close\r\nRetry-After: 5\r\n"
    b"Content-Type: text/plain\r\nContent-Length: 21\r\n\r\n"
    b"too many connections\n"
)


class _Refusal(asyncio.Protocol):
    """Says that there are too many, and hangs up."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """There is one more."""
        assert isinstance(transport, asyncio.Transport)
        transport.write(_REFUSAL)
        transport.close()


async def listen(
    runner: web.AppRunner,
    settings: HttpSettings,
    max_connections: int,
    patience_seconds: float = _PATIENCE_SECONDS,
) -> asyncio.Server:
    """Accept from now on; the caller closes the server.

    Raises `OSError`, or `NodemeterError` where HTTPS has no certificate.
    """
    assert runner.server is not None
    door = _Door(runner.app, runner.server, max_connections, patience_seconds)
    loop = asyncio.get_running_loop()
    where = (settings.host, settings.port)
    if settings.tls_cert is None:
        return await loop.create_server(door.accept, *where)
    context = server_context(settings.tls_cert, settings.tls_key or settings.tls_cert)
    patience = patience_seconds  # for the handshake as for a request
    return await loop.create_server(
        door.accept, *where, ssl=context, ssl_handshake_timeout=patience
    )


class _Door:
    """Knows who has not made a request yet; the library has no clock for that."""

    def __init__(
        self, app: web.Application, server: web.Server, most: int, patience_seconds: float
    ) -> None:
        self._app = app
        self._server = server
        self._most = most
        self._patience_seconds = patience_seconds
        self._silent: dict[web.RequestHandler, asyncio.TimerHandle] = {}
        self._make_request = server.request_factory
        server.request_factory = self._hear

    def accept(self) -> asyncio.BaseProtocol:
        """Make the protocol of a new connection."""
        if len(self._server.connections) >= self._most and not self._evict():
            return _Refusal()
        handler = Connection(self._server, self._app)
        loop = asyncio.get_running_loop()
        self._silent[handler] = loop.call_later(self._patience_seconds, self._leave, handler)
        return handler

    def _hear(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: web.RequestHandler,
        writer: AbstractStreamWriter,
        task: "asyncio.Task[None]",
    ) -> web.BaseRequest:
        """Whoever makes a request has said something."""
        if timer := self._silent.pop(protocol, None):
            timer.cancel()
        return self._make_request(message, payload, protocol, writer, task)

    def _evict(self) -> bool:
        """Hang up on who is silent for longest; False = nobody is."""
        here = set(self._server.connections)
        for handler in self._silent:
            if handler in here:
                self._leave(handler)
                return True
        return False

    def _leave(self, handler: web.RequestHandler) -> None:
        self._silent.pop(handler).cancel()
        handler.force_close()
