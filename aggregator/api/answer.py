"""Answers: one JSON value, or an array that streams while memory stays flat."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import TypeVar

from aiohttp import web
from pydantic import TypeAdapter

from aggregator.billing.database import Listing
from aggregator.errors import DatabaseError

Row = TypeVar("Row")
Shape = TypeVar("Shape")

CHUNK_SECONDS = 30.0
"""How long a client may take for a chunk before it is let go."""

_COMPRESS_FROM = 1400  # bytes; below, a packet is sent either way
_JSON = "application/json"
_log = logging.getLogger(__name__)


def answer_json(
    request: web.Request,
    body: bytes,
    *,
    status: HTTPStatus = HTTPStatus.OK,
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """One value, compressed where that pays and the client can read it."""
    response = web.Response(
        status=status, body=body, content_type=_JSON, charset="utf-8", headers=headers
    )
    if len(body) >= _COMPRESS_FROM:
        offer_compression(request, response)
    return response


async def answer_array(
    request: web.Request,
    rows: Listing[Row],
    shape: Callable[[Row], Shape],
    adapter: TypeAdapter[list[Shape]],
    *,
    headers: Mapping[str, str] | None = None,
) -> web.StreamResponse:
    """A bare array: at once when it is one chunk, else streamed while it is read."""
    first = await rows.chunk()
    body = adapter.dump_json([shape(row) for row in first])
    following = await rows.chunk()
    if not following:
        return answer_json(request, body, headers=headers)
    response = web.StreamResponse(headers=headers)
    response.content_type, response.charset = _JSON, "utf-8"
    offer_compression(request, response)
    await response.prepare(request)
    try:
        await _write(response, body[:-1])
        while following:
            piece = adapter.dump_json([shape(row) for row in following])
            await _write(response, b"," + piece[1:-1])
            following = await rows.chunk()
        await _write(response, b"]")
    except (DatabaseError, TimeoutError) as error:
        raise _broken_off(request, error) from error
    return response


def offer_compression(request: web.Request, response: web.StreamResponse) -> None:
    """Gzip if the client says that it takes it."""
    response.headers["Vary"] = "Accept-Encoding"
    if _takes_gzip(request.headers.get("Accept-Encoding", "")):
        response.enable_compression(web.ContentCoding.gzip)


def _takes_gzip(accepted: str) -> bool:
    for choice in accepted.lower().split(","):
        coding, _, quality = choice.partition(";")
        if coding.strip() in {"gzip", "*"}:
            return quality.replace(" ", "") not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}
    return False


async def _write(response: web.StreamResponse, data: bytes) -> None:
    async with asyncio.timeout(CHUNK_SECONDS):
        await response.write(data)


def _broken_off(request: web.Request, error: Exception) -> ConnectionResetError:
    """Cut the connection, so that the client sees that the array is not whole."""
    _log.warning("answer broken off", extra={"action": "answer_broken_off", "error": str(error)})
    if request.transport is not None:
        request.transport.abort()
    return ConnectionResetError("the answer could not be completed")
