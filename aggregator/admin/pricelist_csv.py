"""Price lists as CSV (RFC 4180) with a header."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence

from aggregator.admin.client import Json
from aggregator.admin.errors import UsageError
from aggregator.admin.output import csv_text, unguarded
from aggregator.admin.pricelist_entry import FIELDS, Entry

_COLUMNS = frozenset({"key", *FIELDS})


def write(rows: Sequence[Mapping[str, Json]]) -> str:
    """Lines as text, with the columns that any of them has."""
    ranged = [name for name in ("from", "to") if any(name in row for row in rows)]
    names = ["key", "value", *ranged]
    return csv_text(names, ([row.get(name) for name in names] for row in rows))


def read(text: str, name: str) -> Iterable[Entry]:
    """The lines of a text; UsageError where it is no such table."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    line = 1  # where a row begins: a quoted field may hold line breaks
    try:
        header = [title.strip() for title in next(reader, ())]
        _check_header(header, name)
        line = reader.line_num + 1
        for row in reader:
            if row:
                yield _entry(header, row, f"{name}, line {line}")
            line = reader.line_num + 1
    except csv.Error as error:
        raise UsageError(f"{name}, line {line}: {_words(error)}") from error


def _words(error: csv.Error) -> str:
    return str(error).replace("unexpected end of data", "a quotation mark is opened and not closed")


def _check_header(header: Sequence[str], name: str) -> None:
    found = set(header)
    if len(found) != len(header) or not {"key", "value"} <= found <= _COLUMNS:
        raise UsageError(
            f"{name}, line 1: the header must be key,value and may also have per, from and to; "
            "commas part the columns"
        )


def _entry(header: Sequence[str], row: Sequence[str], where: str) -> Entry:
    if len(row) != len(header):
        raise UsageError(
            f"{where}: has {len(row)} columns, the header has {len(header)}; a number has no "
            "commas in it"
        )
    fields = dict(zip(header, row, strict=True))
    key = unguarded(fields.pop("key"))
    return Entry(
        key=key,
        fields={name: text.strip() for name, text in fields.items() if text.strip()},
        where=where,
        places={column: f"{where}, column {column}" for column in _COLUMNS},
    )
