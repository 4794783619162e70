"""From a request to checked values: queries and bodies, or a problem that names the field.

JSON is read strictly: numbers stay exact, NaN and Infinity are no numbers, a property
that comes twice is an error, and the body is bounded before it is read. A large one is
read in a thread, one at a time: the service goes on answering meanwhile.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal, InvalidOperation
from functools import cache
from http import HTTPStatus
from typing import NoReturn, TypeVar

from aiohttp import web
from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from aggregator.api.problem import Problem, invalid
from aggregator.api.wire import entries

Model = TypeVar("Model")

SMALL_BODY = 64 << 10
LARGE_BODY = 4 << 20
MAX_PROPERTIES = 100
"""Of a body itself; what it holds has bounds of its own."""

_LARGE_BODIES = ThreadPoolExecutor(max_workers=1, thread_name_prefix="large-body")

_WORDS = {
    "missing": "is required",
    "unexpected_keyword_argument": "is not known here",
    "string_type": "must be a string",
    "string_unicode": "must not hold lone surrogates",
    "bool_type": "must be true or false",
    "dataclass_type": "must be an object",
    "list_type": "must be an array",
}


def parse_query(request: web.Request, adapter: TypeAdapter[Model]) -> Model:
    """The parameters that the model knows, whatever their case; others are ignored.

    An empty one counts as absent. One that comes twice is refused, since either could be
    meant.
    """
    known = {name.lower(): name for name in parameter_names(adapter)}
    found: dict[str, str] = {}
    for given, value in request.query.items():
        name = known.get(given.lower())
        if name is None or not value:
            continue
        if name in found:
            raise invalid({name: ["is given twice"]})
        found[name] = value
    return _validated(adapter, found)


def parse_part(request: web.Request, name: str, adapter: TypeAdapter[Model]) -> Model:
    """A variable part of the path; 400 with the reason."""
    return _validated(adapter, request.match_info[name], whole=name)


async def parse_body(
    request: web.Request, adapter: TypeAdapter[Model], *, limit: int = SMALL_BODY
) -> Model:
    """The JSON body as the model; 413, 415 or 400 with the reason."""
    _check_media_type(request)
    text = await _read(request, limit)
    if len(text) <= SMALL_BODY:
        return parse_json(text, adapter)
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_LARGE_BODIES, parse_json, text, adapter)


def parse_json(text: bytes, adapter: TypeAdapter[Model]) -> Model:
    """The text as the model; 400 with the reason."""
    value = _decode(text)
    if entries(value) > MAX_PROPERTIES:
        raise invalid({"body": [f"may have at most {MAX_PROPERTIES} properties"]})
    return _validated(adapter, value)


@cache
def parameter_names(adapter: TypeAdapter[Model]) -> Sequence[str]:
    """The names under which a query's fields are sent; to make a schema takes a millisecond."""
    return tuple(adapter.json_schema()["properties"])


def _check_media_type(request: web.Request) -> None:
    kind = request.content_type if "Content-Type" in request.headers else ""
    is_json = kind == "application/json" or (
        kind.startswith("application/") and kind.endswith("+json")
    )
    if not is_json or (request.charset or "utf-8").lower() not in {"utf-8", "utf8"}:
        raise Problem(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "send JSON in UTF-8, as Content-Type: application/json",
        )
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "send the body uncompressed")


async def _read(request: web.Request, limit: int) -> bytes:
    too_large = Problem(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body may have at most {limit} bytes"
    )
    if (request.content_length or 0) > limit:
        raise too_large
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > limit:
            raise too_large
    return bytes(body)


def _decode(body: bytes) -> object:
    try:
        return json.loads(
            body.decode("utf-8-sig"),
            parse_float=_decimal,
            parse_int=_decimal,
            parse_constant=_no_constant,
            object_pairs_hook=_object,
        )
    except UnicodeDecodeError as error:
        raise invalid({"body": ["is not UTF-8"]}) from error
    except RecursionError as error:
        raise invalid({"body": ["is nested too deeply"]}) from error
    except json.JSONDecodeError as error:
        reason = f"is not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        raise invalid({"body": [reason]}) from error


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation as error:
        raise invalid({"body": ["holds a number that is out of range"]}) from error


def _no_constant(name: str) -> NoReturn:
    raise invalid({"body": [f"is not JSON: {name} is no number"]})


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        twice = sorted(name for name, count in counts.items() if count > 1)
        raise invalid({name: ["is given twice"] for name in twice})
    return found


def _validated(adapter: TypeAdapter[Model], value: object, *, whole: str = "body") -> Model:
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        reasons: dict[str, list[str]] = {}
        for each in error.errors(include_url=False, include_input=False):
            reasons.setdefault(_field(each) or whole, []).append(_reason(each))
        raise invalid(reasons) from error


def _field(detail: ErrorDetails) -> str:
    """Where, as `value` or `ratios.cpu`; "": the whole."""
    path = ""
    for part in detail["loc"]:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path


def _reason(detail: ErrorDetails) -> str:
    words = _WORDS.get(detail["type"], detail["msg"])
    return words.removeprefix("Value error, ").removeprefix("Assertion failed, ")
