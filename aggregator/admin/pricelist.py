"""Price lists as files, in and out.

CSV with the header `key,value` or `key,value,per`; or JSON, an object of values by key.
Reading is the inverse of writing. A fault names its line and column, and nothing of a
list with a fault is used.
"""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from aggregator.admin.client import Number
from aggregator.admin.errors import UsageError
from aggregator.admin.output import csv_text, json_text, unguarded
from aggregator.admin.prices import PriceWordsError, to_value
from aggregator.rating.money import plain
from aggregator.rating.ratio import why_unstorable


class Kind(StrEnum):
    """How a price list is written."""

    CSV = "csv"
    JSON = "json"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """A line of a price list, not yet understood."""

    where: str
    key: str
    value: str
    per: str | None = None


_COLUMNS = {"key", "value", "per"}


def kind_of(name: str) -> Kind:
    """The kind that a file's name tells; CSV if it tells none."""
    return Kind.JSON if name.lower().endswith(".json") else Kind.CSV


def write(prices: Mapping[str, Decimal], kind: Kind) -> str:
    """A price list as text, by key."""
    if kind is Kind.CSV:
        return csv_text(["key", "value"], ([k, Number(plain(v))] for k, v in prices.items()))
    return json_text({k: Number(plain(v)) for k, v in prices.items()}, indent="\n") + "\n"


def read(text: str, kind: Kind, name: str) -> Mapping[str, Decimal]:
    """The prices of a text; UsageError names the first fault's place."""
    entries = _csv_entries(text, name) if kind is Kind.CSV else _json_entries(text, name)
    prices: dict[str, Decimal] = {}
    for entry in entries:
        if entry.key in prices:
            raise UsageError(f"{entry.where}, column key: {entry.key!r} is given twice")
        if reason := why_unstorable(entry.key):
            raise UsageError(f"{entry.where}, column key: {reason}")
        try:
            prices[entry.key] = to_value(entry.key, entry.value, entry.per)
        except PriceWordsError as error:
            raise UsageError(f"{entry.where}, column {error.column}: {error}") from error
    return prices


def _csv_entries(text: str, name: str) -> Iterable[_Entry]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [title.strip() for title in next(reader, ())]
        _check_header(header, name)
        for row in reader:
            if row:
                yield _csv_entry(header, row, f"{name}, line {reader.line_num}")
    except csv.Error as error:
        raise UsageError(f"{name}, line {reader.line_num}: {error}") from error


def _check_header(header: Sequence[str], name: str) -> None:
    found = set(header)
    if len(found) != len(header) or not {"key", "value"} <= found <= _COLUMNS:
        raise UsageError(f"{name}, line 1: the header must be key,value or key,value,per")


def _csv_entry(header: Sequence[str], row: Sequence[str], where: str) -> _Entry:
    if len(row) != len(header):
        raise UsageError(f"{where}: has {len(row)} columns, the header has {len(header)}")
    fields = dict(zip(header, row, strict=True))
    return _Entry(
        where=where,
        key=unguarded(fields["key"]),
        value=fields["value"].strip(),
        per=fields.get("per", "").strip() or None,
    )


def _json_entries(text: str, name: str) -> Iterable[_Entry]:
    try:
        prices: object = json.loads(
            text, parse_float=Number, parse_int=Number, object_pairs_hook=_Pairs
        )
    except json.JSONDecodeError as error:
        place = f"{name}, line {error.lineno}, column {error.colno}"
        raise UsageError(f"{place}: {error.msg}") from error
    except RecursionError as error:
        raise UsageError(f"{name}: is nested too deeply") from error
    if not isinstance(prices, _Pairs):
        raise UsageError(f'{name}: must be an object like {{"cpu": 0.25, "gpu": 2}}')
    for key, value in prices.pairs:
        where = f"{name}, key {key!r}"
        if not isinstance(value, str):
            raise UsageError(f"{where}: the value must be a number")
        yield _Entry(where=where, key=key, value=value)


@dataclass(frozen=True, slots=True)
class _Pairs:
    """A JSON object that still knows a key that came twice."""

    pairs: list[tuple[str, object]]
