"""The document and its reader: /openapi.json, and Swagger UI at /docs from our own files.

Swagger UI is third-party code (see LICENSE beside it), so its page may load scripts and
styles from this server only, and may talk to this server only.
"""

import hashlib
import json
from http import HTTPStatus
from importlib.resources import files

from aiohttp import web
from pydantic import TypeAdapter

from aggregator.api.answer import answer_json, offer_compression
from aggregator.api.problem import Problem
from aggregator.api.route import Answer, Route

DOCUMENT = web.AppKey("DOCUMENT", dict[str, object])

_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_FILES = {
    "index.html": "text/html",
    "start.js": "text/javascript",
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon-32x32.png": "image/png",
}


async def get_document(request: web.Request) -> web.StreamResponse:
    """The OpenAPI document."""
    return answer_json(request, json.dumps(request.app[DOCUMENT]).encode())


async def get_page(request: web.Request) -> web.StreamResponse:
    """The reader's page."""
    return _file(request, "index.html")


async def get_file(request: web.Request) -> web.StreamResponse:
    """A file that the page needs."""
    return _file(request, request.match_info["file"])


async def get_root(_request: web.Request) -> web.StreamResponse:
    """Show whoever opens the bare URL where to look."""
    raise web.HTTPFound("/docs")


def _file(request: web.Request, name: str) -> web.StreamResponse:
    media_type = _FILES.get(name)
    if media_type is None:
        raise Problem(HTTPStatus.NOT_FOUND, "there is no such file")
    body = (files("aggregator.api") / "swagger" / name).read_bytes()
    tag = hashlib.sha256(body).hexdigest()[:32]
    headers = {
        "Content-Security-Policy": _PAGE_POLICY,
        "Cache-Control": "no-cache",
        "ETag": f'"{tag}"',
    }
    if any(each.value == tag for each in request.if_none_match or ()):
        return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
    response = web.Response(body=body, content_type=media_type, headers=headers)
    if media_type.startswith("text/"):
        response.charset = "utf-8"
        offer_compression(request, response)
    return response


_TAG = "Documentation"

ROUTES = (
    Route(
        method="GET",
        path="/openapi.json",
        handler=get_document,
        operation_id="getDocument",
        tag=_TAG,
        summary="This document",
        role=None,
        answers={
            HTTPStatus.OK: Answer(description="OpenAPI 3.1", adapter=TypeAdapter(dict[str, object]))
        },
    ),
    Route(
        method="GET",
        path="/docs",
        handler=get_page,
        operation_id="getDocs",
        tag=_TAG,
        summary="Swagger UI",
        role=None,
        answers={
            HTTPStatus.OK: Answer(
                description="A page", adapter=TypeAdapter(str), media_type="text/html"
            )
        },
    ),
    Route(
        method="GET",
        path="/docs/{file}",
        handler=get_file,
        operation_id="getDocsFile",
        tag=_TAG,
        summary="A file of Swagger UI",
        role=None,
        answers={},
        is_documented=False,
    ),
    Route(
        method="GET",
        path="/",
        handler=get_root,
        operation_id="getRoot",
        tag=_TAG,
        summary="To /docs",
        role=None,
        answers={},
        is_documented=False,
    ),
)
