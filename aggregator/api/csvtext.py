"""CSV as RFC 4180 has it, of which a spreadsheet computes nothing that users wrote. Pure."""

import csv
import io
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Final

from aiohttp import web
from pydantic.alias_generators import to_camel

MEDIA_TYPE: Final = "text/csv"

_COMPUTED = ("=", "+", "-", "@", "\t", "\r", "\n")


def wants_csv(request: web.Request) -> bool:
    """Whether the client would rather have CSV than JSON (RFC 9110, 12.5.1).

    Whoever takes both alike, as the Ledger's own example does, gets the default.
    """
    wishes = [_wish(part) for part in ",".join(request.headers.getall("Accept", ())).split(",")]
    csv_quality = max((quality for kind, quality in wishes if kind == MEDIA_TYPE), default=0.0)
    others = [quality for kind, quality in wishes if kind in {"application/json", "text/plain"}]
    return csv_quality > max(others, default=0.0)


def title(columns: Sequence[str]) -> Sequence[str]:
    """The names of columns as JSON has them."""
    return [to_camel(column) for column in columns]


def cells(shape: object, columns: Sequence[str]) -> Sequence[str]:
    """A shape's line: null is empty, a number is that of JSON in plain decimal digits."""
    return [_cell(getattr(shape, column)) for column in columns]


def lines(rows: Iterable[Sequence[str]]) -> bytes:
    """Lines of cells, each ended by CR LF."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def guarded(text: str) -> str:
    """A text that a spreadsheet takes as a text."""
    return f"'{text}" if text.startswith(_COMPUTED) else text


def _cell(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case int() | float():
            text = repr(value)
            return format(Decimal(text), "f") if "e" in text else text
        case _:
            return guarded(str(value))


def _wish(part: str) -> tuple[str, float]:
    """A media type and how much it is wished for; a quality that is none is 0."""
    kind, *parameters = part.split(";")
    quality = 1.0
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            text = value.strip()
            quality = (
                float(text) if text.replace(".", "", 1).isdecimal() and text.isascii() else 0.0
            )
    return kind.strip().lower(), quality
