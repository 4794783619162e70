"""Answers of one piece: compressed where that pays, and tagged by their content.

Who sends a tag back that is still right gets 304 and no body. As it is of the content, it is
right whatever the answer depends on, be it time, prices or the caller's scope.
"""

import hashlib
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from aiohttp import ETag, web

JSON: Final = "application/json"

_COMPRESS_FROM = 1400  # bytes; below, a packet is sent either way


def answer_json(
    request: web.Request,
    body: bytes,
    *,
    status: HTTPStatus = HTTPStatus.OK,
    headers: Mapping[str, str] | None = None,
    is_kept: bool = True,
) -> web.Response:
    """One value; not `is_kept`: of this moment alone, without a tag."""
    if is_kept and status is HTTPStatus.OK and request.method in {"GET", "HEAD"}:
        return answer_body(request, body, media_type=JSON, headers=headers)
    response = web.Response(
        status=status, body=body, content_type=JSON, charset="utf-8", headers=headers
    )
    if len(body) >= _COMPRESS_FROM:
        offer_compression(request, response)
    return response


def answer_body(
    request: web.Request,
    body: bytes,
    *,
    media_type: str,
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """A whole text, unless the client has it already."""
    tag = ETag(value=hashlib.sha256(body).hexdigest()[:32], is_weak=True)
    said = {**(headers or {}), "Cache-Control": "private, no-cache"}
    if _has(request, tag):
        response = web.Response(status=HTTPStatus.NOT_MODIFIED, headers=said)
    else:
        response = web.Response(body=body, content_type=media_type, charset="utf-8", headers=said)
        if len(body) >= _COMPRESS_FROM:
            offer_compression(request, response)
    response.etag = tag
    return response


def offer_compression(request: web.Request, response: web.StreamResponse) -> None:
    """Gzip if the client says that it takes it."""
    response.headers["Vary"] = "Accept-Encoding"
    if not _takes_gzip(request.headers.get("Accept-Encoding", "")):
        return
    if request.method == "HEAD" and not isinstance(response, web.Response):
        response.headers["Content-Encoding"] = "gzip"  # of a stream of which nothing is sent
    else:
        response.enable_compression(web.ContentCoding.gzip)


def _has(request: web.Request, tag: ETag) -> bool:
    """Whether the client names the tag, or any; weak ones are compared by their value."""
    return any(each.value in {tag.value, "*"} for each in request.if_none_match or ())


def _takes_gzip(accepted: str) -> bool:
    for choice in accepted.lower().split(","):
        coding, _, quality = choice.partition(";")
        if coding.strip() in {"gzip", "*"}:
            return quality.replace(" ", "") not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}
    return False
