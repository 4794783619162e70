"""How values look on the wire, each with the schema that the document shows for it.

Models are dataclasses with snake_case fields that are read and written in camelCase; what
they do not name is refused.
"""

import re
from collections.abc import Callable, Sized
from decimal import Decimal
from typing import Annotated, Literal, TypeAlias, TypeVar
from uuid import UUID

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    WithJsonSchema,
    with_config,
)
from pydantic.alias_generators import to_camel

from aggregator.rating import money
from aggregator.rating.price import MAX_DECIMALS, VALUE_LIMIT, checked
from aggregator.rating.ratio import MAX_KEY_LENGTH, why_unstorable

Model = TypeVar("Model")

MAX_KEYS = 10_000
"""In one price list."""

MAX_WAIT_SECONDS = 300
"""That a request may be told to wait for something to be done."""

CONFIG = ConfigDict(alias_generator=to_camel, serialize_by_alias=True, extra="forbid")


def wire(kind: type[Model]) -> type[Model]:
    """Mark a dataclass as a shape of the wire."""
    return with_config(CONFIG)(kind)


def entries(value: object) -> int:
    """How many properties a JSON object has; 0 of what is no object."""
    is_object = not isinstance(value, str | list)
    return len(value) if is_object and isinstance(value, Sized) else 0


def bounded_list(value: object) -> object:
    """The value, unless it is a list of more than one price list may hold."""
    if isinstance(value, Sized) and (count := len(value)) > MAX_KEYS:
        raise ValueError(f"may hold at most {MAX_KEYS} prices, not {count}")
    return value


def _exact(value: object) -> Decimal:
    """A price as it was sent: a JSON number, or a string of decimal digits."""
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        value = Decimal(value)
    return _number(value)


def _number(value: object) -> Decimal:
    """A price as a JSON number, which the parser has left a Decimal."""
    if not isinstance(value, Decimal):
        raise ValueError("must be a number")  # noqa: TRY004 - pydantic collects ValueError
    return checked(value)


def _key(text: str) -> str:
    if reason := why_unstorable(text):
        raise ValueError(reason)
    return text


def _bounded(value: object) -> object:
    """Before anything of it is looked at."""
    if (count := entries(value)) > MAX_KEYS:
        raise ValueError(f"may hold at most {MAX_KEYS} prices, not {count}")
    return value


def _uuid(value: object) -> object:
    if isinstance(value, str) and _UUID.fullmatch(value):
        return UUID(value)
    raise ValueError("must be a UUID like 01234567-89ab-cdef-0123-456789abcdef")


def _boolean(value: object) -> object:
    found = {"true": True, "false": False}.get(value.lower()) if isinstance(value, str) else None
    if found is None:
        raise ValueError("must be true or false")
    return found


def whole(least: int, most: int, *, beyond: str = "") -> Callable[[object], int]:
    """What takes a whole number of a query, within bounds, and raises ValueError otherwise.

    `beyond` says how what lies beyond them is had.
    """

    def check(value: object) -> int:
        if isinstance(value, str) and _WHOLE.fullmatch(value) and least <= int(value) <= most:
            return int(value)
        raise ValueError(f"must be a whole number from {least} to {most}{beyond}")

    return check


def _seconds(value: object) -> int:
    if not isinstance(value, Decimal) or value % 1 or not 0 <= value <= MAX_WAIT_SECONDS:
        raise ValueError(f"must be a whole number of seconds, at most {MAX_WAIT_SECONDS}")
    return int(value)


def _id(value: object) -> int:
    if isinstance(value, str) and _ID.fullmatch(value):
        return int(value)
    raise ValueError("must be a number like 7")


_ID = re.compile(r"[1-9][0-9]{0,17}")
_WHOLE = re.compile(r"[0-9]{1,13}")
_DIGITS = re.compile(rf"[0-9]{{1,15}}(?:\.[0-9]{{1,{MAX_DECIMALS}}})?")
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_PLAIN = {"type": "string", "pattern": rf"^{_DIGITS.pattern}$"}
_PRICE = {"type": "number", "minimum": 0, "exclusiveMaximum": VALUE_LIMIT}
_TEXT = {
    "type": "string",
    "minLength": 1,
    "maxLength": MAX_KEY_LENGTH,
    "pattern": r"^[^\u0000-\u001F\u007F-\u009F]+$",
}
Double: TypeAlias = Annotated[int | float, WithJsonSchema({"type": "number", "format": "double"})]
"""Made by `money.number`, so that whole numbers print without `.0`."""

ExactNumber: TypeAlias = Annotated[
    Decimal, PlainSerializer(money.plain, return_type=str), WithJsonSchema(_PLAIN)
]
"""All digits, as a string, since a JSON number is a double to most readers."""

RatioValue: TypeAlias = Annotated[
    Decimal,
    BeforeValidator(_number),
    WithJsonSchema(_PRICE | {"format": "double"}),
]
"""A price to set, kept to the digit that was sent."""

ExactRatioValue: TypeAlias = Annotated[
    Decimal,
    BeforeValidator(_exact),
    WithJsonSchema({"anyOf": [_PRICE, _PLAIN]}),
]
"""A price to set, as a number or as a string."""

RatioText: TypeAlias = Annotated[
    str,
    AfterValidator(_key),
    WithJsonSchema(_TEXT),
]
"""A ratio's key; any text that is printable and not too long."""

PriceList: TypeAlias = Annotated[
    dict[RatioText, ExactRatioValue],
    BeforeValidator(_bounded),
    WithJsonSchema(
        {
            "type": "object",
            "propertyNames": _TEXT,
            "additionalProperties": {"anyOf": [_PRICE, _PLAIN]},
            "maxProperties": MAX_KEYS,
        }
    ),
]
"""Keys and the prices to set."""

ReasonText: TypeAlias = Annotated[
    str,
    AfterValidator(_key),
    WithJsonSchema(_TEXT | {"description": "Why, for the history"}),
]
"""Words that are kept beside a change."""

NodeText: TypeAlias = Annotated[
    str,
    AfterValidator(_key),
    WithJsonSchema(_TEXT | {"description": "Name of the node, as its agent says it"}),
]
"""A node's name."""

UuidText: TypeAlias = Annotated[
    UUID, BeforeValidator(_uuid), WithJsonSchema({"type": "string", "format": "uuid"})
]
"""A UUID in its one common form."""

ShownUuid: TypeAlias = Annotated[str, WithJsonSchema({"type": "string", "format": "uuid"})]
"""A UUID that the database has written."""

Flag: TypeAlias = Annotated[bool, BeforeValidator(_boolean), WithJsonSchema({"type": "boolean"})]
"""`true` or `false` in a query."""

TypeName: TypeAlias = Literal["cpu", "mem", "gpu", "npu", "storage"]
"""A usage type."""

MethodName: TypeAlias = Literal["effective", "request", "usage"]
"""What of a usage is billed."""

Count: TypeAlias = Annotated[
    int,
    BeforeValidator(whole(1, MAX_KEYS)),
    WithJsonSchema({"type": "integer", "minimum": 1, "maximum": MAX_KEYS}),
]
"""How many rows a query asks for."""

Seconds: TypeAlias = Annotated[
    int,
    BeforeValidator(_seconds),
    WithJsonSchema({"type": "integer", "minimum": 0, "maximum": MAX_WAIT_SECONDS}),
]
"""How long a client is ready to wait; in a body."""

PositiveId: TypeAlias = Annotated[
    int,
    BeforeValidator(_id),
    WithJsonSchema({"type": "integer", "minimum": 1, "maximum": 10**18 - 1}),
]
"""A number that we gave; in a query."""
