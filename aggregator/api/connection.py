"""A connection: the library's, with our limits, and with our words for what is no HTTP."""

import asyncio
import logging
from typing import Final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from aggregator.api.unreadable import MAX_LINE_BYTES, path_of, refusal

_KEEPALIVE_SECONDS: Final = 75.0
_LINGER_SECONDS: Final = 5.0

_log = logging.getLogger(__name__)
_unheard = logging.getLogger(f"{__name__}.unheard")
_unheard.setLevel(logging.CRITICAL)  # the library's line about each request: they are logged by us


class Connection(web.RequestHandler):
    """Bodies are never inflated; what cannot be parsed is answered like everything else."""

    __slots__ = ("_app", "_path")

    def __init__(self, server: web.Server, app: web.Application) -> None:
        """Of a server that serves the application."""
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            logger=_log,
            access_log=_unheard,
            auto_decompress=False,
            keepalive_timeout=_KEEPALIVE_SECONDS,
            lingering_time=_LINGER_SECONDS,
            max_line_size=MAX_LINE_BYTES,
            max_field_size=MAX_LINE_BYTES,
        )
        self._app = app
        self._path = ""

    def data_received(self, data: bytes) -> None:
        """Keep the path of what begins like a request: if it is none, no more is known of it."""
        self._path = path_of(data) or self._path
        super().data_received(data)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what could not be parsed, and nothing to a client that is gone."""
        if isinstance(exc, ConnectionError):
            raise exc
        if isinstance(exc, HttpProcessingError) and request.writer.output_size == 0:
            return refusal(self._app, self._path, request.remote, exc)
        return super().handle_error(request, status, exc, message)
