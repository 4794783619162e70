"""Long answers: at once where they are short, else streamed while memory stays flat.

In JSON a bare array; in CSV (RFC 4180), for whoever asks for it, a header and a line for
each. A short answer carries a tag of its content: who has it already is told so and no more.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from aiohttp import web
from pydantic import TypeAdapter

from aggregator.api.answer import JSON, answer_body, offer_compression
from aggregator.api.csvtext import MEDIA_TYPE, cells, lines, title
from aggregator.billing.database import SHORT_ROWS, Listing
from aggregator.errors import DatabaseError

Row = TypeVar("Row")
Shape = TypeVar("Shape")

CHUNK_SECONDS: Final = 30.0
"""How long a client may take for a chunk before it is let go."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Form(Generic[Row]):
    """How a list is written: `encode` gives rows without what stands around and between."""

    media_type: str
    head: bytes
    joint: bytes
    tail: bytes
    encode: Callable[[Sequence[Row]], bytes]
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


def json_form(shape: Callable[[Row], Shape], adapter: TypeAdapter[list[Shape]]) -> Form[Row]:
    """A bare array of shapes."""

    def encode(rows: Sequence[Row]) -> bytes:
        return adapter.dump_json([shape(row) for row in rows])[1:-1]

    return Form(media_type=JSON, head=b"[", joint=b",", tail=b"]", encode=encode)


def csv_form(shape: Callable[[Row], object], columns: Sequence[str], filename: str) -> Form[Row]:
    """A table with the columns of a shape."""

    def encode(rows: Sequence[Row]) -> bytes:
        return lines(cells(shape(row), columns) for row in rows)

    return Form(
        media_type=MEDIA_TYPE,
        head=lines([title(columns)]),
        joint=b"",
        tail=b"",
        encode=encode,
        headers={"Content-Disposition": f"attachment; filename={filename}"},
    )


async def answer_list(
    request: web.Request,
    rows: Listing[Row],
    form: Form[Row],
    *,
    headers: Mapping[str, str] | None = None,
) -> web.StreamResponse:
    """The whole list: at once when it is short, else streamed while it is read."""
    said = {**form.headers, **(headers or {})}
    first = await rows.chunk(SHORT_ROWS)
    begin = form.head + (form.encode(first) if first else b"")
    following = await rows.chunk()
    if not following:
        return answer_body(request, begin + form.tail, media_type=form.media_type, headers=said)
    response = web.StreamResponse(headers=said)
    response.content_type, response.charset = form.media_type, "utf-8"
    offer_compression(request, response)
    await response.prepare(request)
    if request.method == "HEAD":
        return response
    try:
        await _write(response, begin)
        while following:
            await _write(response, form.joint + form.encode(following))
            following = await rows.chunk()
        await _write(response, form.tail)
    except (DatabaseError, TimeoutError) as error:
        raise _broken_off(request, error) from error
    return response


async def answer_array(
    request: web.Request,
    rows: Listing[Row],
    shape: Callable[[Row], Shape],
    adapter: TypeAdapter[list[Shape]],
    *,
    headers: Mapping[str, str] | None = None,
) -> web.StreamResponse:
    """A list in JSON."""
    return await answer_list(request, rows, json_form(shape, adapter), headers=headers)


async def _write(response: web.StreamResponse, data: bytes) -> None:
    async with asyncio.timeout(CHUNK_SECONDS):
        await response.write(data)


def _broken_off(request: web.Request, error: Exception) -> ConnectionResetError:
    """Cut the connection, so that the client sees that the array is not whole."""
    _log.warning("answer broken off", extra={"action": "answer_broken_off", "error": str(error)})
    if request.transport is not None:
        request.transport.abort()
    return ConnectionResetError("the answer could not be completed")
