"""Prints records as a table, JSON or CSV.

What users wrote cannot act: on a terminal every unprintable character is shown as an
escape, in CSV a cell that a spreadsheet would compute starts with an apostrophe. JSON
numbers keep all their digits.
"""

import csv
import io
import json
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from aggregator.admin.client import Json, Number, Record

_PIPE_WIDTH = 100_000
_COMPUTED = ("=", "+", "-", "@", "\t", "\r")
_APOSTROPHE = "'"


class Format(StrEnum):
    """How records are printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a table: what it is headed by, and which field it shows."""

    title: str
    field: str
    is_number: bool = False
    is_exact: bool = False
    """Shown to the last digit; other doubles are shown with ten significant ones."""


def show(rows: Sequence[Record], columns: Sequence[Column], how: Format) -> None:
    """Print records: the columns in a table, every field otherwise."""
    match how:
        case Format.TABLE:
            show_table(rows, columns)
        case Format.JSON:
            print_line(json_text(list(rows), ascii_only=sys.stdout.isatty(), indent="\n"))
        case Format.CSV:
            fields = list(dict.fromkeys(field for row in rows for field in row))
            names = fields or [column.field for column in columns]
            text = csv_text(names, ([row.get(name) for name in names] for row in rows))
            sys.stdout.write(_lines(text) if sys.stdout.isatty() else text)


def show_table(rows: Sequence[Record], columns: Sequence[Column]) -> None:
    """Print a table, folded to the width of a terminal, never of a pipe."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold", show_edge=False)
    for column in columns:
        table.add_column(
            column.title, justify="right" if column.is_number else "left", overflow="fold"
        )
    for row in rows:
        table.add_row(*(Text(cell(row.get(column.field), column)) for column in columns))
    console = console_for_output()
    with console.capture() as captured:
        console.print(table)
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))


def console_for_output() -> Console:
    """Rich's view of standard output: colours on a terminal only, unless NO_COLOR."""
    return Console(
        width=None if sys.stdout.isatty() else _PIPE_WIDTH,
        color_system=None if os.environ.get("NO_COLOR") else "auto",
        highlight=False,
    )


def print_line(text: str) -> None:
    """Print a line to standard output."""
    sys.stdout.write(f"{text}\n")


def note(text: str) -> None:
    """Tell the user something that is no result."""
    sys.stderr.write(f"{_lines(text)}\n")


def cell(value: Json, column: Column) -> str:
    """A value in a table."""
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case Number():
            return str(value) if column.is_exact else f"{float(value):.10g}"
        case str():
            return printable(value)
        case _:
            return printable(json_text(value))


def printable(text: str) -> str:
    """The text with every character that a terminal could act on shown as an escape."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def json_text(value: Json, *, ascii_only: bool = False, indent: str = "") -> str:
    """JSON in which each number is written as it came; on one line without `indent`."""
    deeper = f"{indent}  " if indent else ""
    comma = f",{deeper}" if indent else ", "
    match value:
        case Number():
            return str(value)
        case list() if value:
            items = (json_text(each, ascii_only=ascii_only, indent=deeper) for each in value)
            return f"[{deeper}{comma.join(items)}{indent}]"
        case dict() if value:
            pairs = (
                f"{json.dumps(name, ensure_ascii=ascii_only)}: "
                f"{json_text(each, ascii_only=ascii_only, indent=deeper)}"
                for name, each in value.items()
            )
            return f"{{{deeper}{comma.join(pairs)}{indent}}}"
        case _:
            return json.dumps(value, ensure_ascii=ascii_only)


def csv_text(names: Sequence[str], rows: Iterable[Sequence[Json]]) -> str:
    """CSV (RFC 4180) with a header; null is an empty cell, numbers are in plain digits."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(names)
    writer.writerows([_csv_cell(value) for value in row] for row in rows)
    return text.getvalue()


def guarded(text: str) -> str:
    """A text that a spreadsheet takes as a text; `unguarded` is the inverse."""
    return _APOSTROPHE + text if text.startswith((*_COMPUTED, _APOSTROPHE)) else text


def unguarded(text: str) -> str:
    """What `guarded` was given."""
    head, rest = text[:1], text[1:]
    return rest if head == _APOSTROPHE and guarded(rest) == text else text


def _lines(text: str) -> str:
    """The text with its line breaks, each line printable."""
    return "\n".join(printable(line) for line in text.replace("\r\n", "\n").split("\n"))


def _csv_cell(value: Json) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case Number() | int():
            text = str(value)
            return format(Decimal(text), "f") if "e" in text.lower() else text
        case str():
            return guarded(value)
        case _:
            return guarded(json_text(value))
