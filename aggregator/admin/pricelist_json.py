"""Price lists as JSON: an object of values by key."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from aggregator.admin.client import Json, Number
from aggregator.admin.errors import UsageError
from aggregator.admin.output import json_text
from aggregator.admin.pricelist_entry import FIELDS, Entry


@dataclass(frozen=True, slots=True)
class _Pairs:
    """A JSON object that still knows a key that came twice."""

    pairs: list[tuple[str, "_Value"]]


_Value: TypeAlias = "_Pairs | list[_Value] | str | bool | None"


def write(prices: Mapping[str, Json]) -> str:
    """Values by key as text."""
    return json_text(dict(prices), indent="\n") + "\n"


def read(text: str, name: str) -> Iterable[Entry]:
    """The lines of a text; UsageError where it is no such object."""
    try:
        prices: _Value = json.loads(
            text, parse_float=Number, parse_int=Number, object_pairs_hook=_Pairs
        )
    except json.JSONDecodeError as error:
        place = f"{name}, line {error.lineno}, column {error.colno}"
        raise UsageError(f"{place}: {error.msg}") from error
    except RecursionError as error:
        raise UsageError(f"{name}: is nested too deeply") from error
    if not isinstance(prices, _Pairs):
        raise UsageError(f'{name}: must be an object like {{"cpu": 0.25, "gpu": 2}}')
    keys: set[str] = set()
    for key, value in prices.pairs:
        where = f"{name}, key {key!r}"
        if key in keys:
            raise UsageError(f"{where}, column key: {key!r} is given twice")
        keys.add(key)
        yield from (_entry(key, each, where) for each in _listed(value))


def _listed(value: _Value) -> list[_Value]:
    return value if isinstance(value, list) else [value]


def _entry(key: str, value: _Value, where: str) -> Entry:
    alone: list[tuple[str, _Value]] = [("value", value)]
    pairs = value.pairs if isinstance(value, _Pairs) else alone
    fields: dict[str, str] = {}
    for field, said in pairs:
        if field not in FIELDS or field in fields:
            raise UsageError(f"{where}: {field!r} is not one of {', '.join(FIELDS)}, each once")
        if not isinstance(said, str):
            kind = "a number" if field == "value" else "a text"
            raise UsageError(f"{where}: the {field} must be {kind}")
        fields[field] = str(said)
    return Entry(
        key=key,
        fields=fields,
        where=where,
        places={column: f"{where}, column {column}" for column in ("key", *FIELDS)},
    )
