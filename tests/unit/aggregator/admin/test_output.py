"""Claims about how records are printed."""

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.admin.client import Json, Number, Record
from aggregator.admin.output import (
    Column,
    Format,
    csv_text,
    guarded,
    json_text,
    note,
    printable,
    show,
    unguarded,
)

COLUMNS = (
    Column(title="JOB", field="job"),
    Column(title="FEE", field="fee", is_number=True),
    Column(title="RUNS", field="runs"),
)
ROWS: list[Record] = [
    {"job": "train", "fee": Number("20.666666666666668"), "runs": True, "more": None},
    {"job": None, "fee": 0, "runs": False, "more": [{"a": 1}]},
]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def test_a_table_shows_its_columns(capsys: pytest.CaptureFixture[str]) -> None:
    """Doubles with ten digits, yes and no, a dash for nothing, no idle blanks."""
    show(ROWS, COLUMNS, Format.TABLE)
    out = capsys.readouterr().out
    assert [line.split() for line in out.splitlines() if "─" not in line] == [
        ["JOB", "FEE", "RUNS"],
        ["train", "20.66666667", "yes"],
        ["-", "0", "no"],
    ]
    assert all(line == line.rstrip() for line in out.splitlines())
    assert "\x1b" not in out


def test_an_exact_column_shows_all_digits(capsys: pytest.CaptureFixture[str]) -> None:
    """A price is never rounded."""
    value = Number("0.12345678901234567890")
    columns = (Column(title="VALUE", field="value", is_exact=True),)
    show([{"value": value}], columns, Format.TABLE)
    assert str(value) in capsys.readouterr().out


def test_a_piped_table_is_not_folded(capsys: pytest.CaptureFixture[str]) -> None:
    """A line is a record, however long."""
    show([{"job": "x" * 500}], COLUMNS[:1], Format.TABLE)
    assert "x" * 500 in capsys.readouterr().out


def test_json_shows_every_field_as_it_came(capsys: pytest.CaptureFixture[str]) -> None:
    """Numbers to the last digit."""
    show(ROWS, COLUMNS, Format.JSON)
    out = capsys.readouterr().out
    assert '"fee": 20.666666666666668' in out
    assert json.loads(out, parse_float=Number) == ROWS


@given(VALUES)
def test_json_is_json(value: Json) -> None:
    """Whatever the records hold."""
    assert json.loads(json_text(value)) == value
    assert "\n" not in json_text(value)
    assert json.loads(json_text(value, indent="\n")) == value
    assert json.loads(json_text(value, ascii_only=True)) == value
    assert json_text(value, ascii_only=True).isascii()


def test_csv_has_a_header_and_every_field(capsys: pytest.CaptureFixture[str]) -> None:
    """RFC 4180; null is empty."""
    show(ROWS, COLUMNS, Format.CSV)
    assert capsys.readouterr().out == (
        'job,fee,runs,more\r\ntrain,20.666666666666668,true,\r\n,0,false,"[{""a"": 1}]"\r\n'
    )


def test_a_number_in_csv_has_plain_digits() -> None:
    """All of them; in JSON it is as it came."""
    numbers: list[Json] = [Number("1e-05"), Number("-1.5E+3"), Number("0.10"), 7]
    assert csv_text(["a"] * 4, [numbers]).splitlines()[1] == "0.00001,-1500,0.10,7"
    assert json_text(numbers) == "[1e-05, -1.5E+3, 0.10, 7]"


def test_csv_of_nothing_is_its_header(capsys: pytest.CaptureFixture[str]) -> None:
    """So that a script finds its columns."""
    show([], COLUMNS, Format.CSV)
    assert capsys.readouterr().out == "job,fee,runs\r\n"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "'=1"])
def test_a_cell_that_a_spreadsheet_would_compute_is_a_text(text: str) -> None:
    """By an apostrophe; numbers of ours stay numbers."""
    assert csv_text(["a"], [[text]]).splitlines()[1].strip('"').startswith("'")
    assert csv_text(["a"], [[Number("-1.5")]]) == "a\r\n-1.5\r\n"


@given(st.text())
def test_guarding_a_text_can_be_undone(text: str) -> None:
    """Exactly, whatever it begins with."""
    assert unguarded(guarded(text)) == text
    assert not guarded(text).startswith(("=", "+", "-", "@", "\t", "\r"))


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1))
def test_csv_reads_back(texts: list[str]) -> None:
    """Quotes, commas and line breaks included."""
    text = csv_text(["a"] * len(texts), [list(texts)])
    _, row = csv.reader(io.StringIO(text, newline=""))
    assert [unguarded(each) for each in row] == texts


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\nb\r", "a\\nb\\r"),
        ("\u202eevil", "\\u202eevil"),
        ("\x9b0m", "\\x9b0m"),
        ("[bold]é 日本 😀", "[bold]é 日本 😀"),
    ],
)
def test_what_a_terminal_would_act_on_is_shown_as_an_escape(text: str, shown: str) -> None:
    """Names come from nodes and from users; markup is not markup."""
    assert printable(text) == shown


def test_escapes_are_shown_in_tables_and_notes(capsys: pytest.CaptureFixture[str]) -> None:
    """The text cannot leave its cell, a note keeps its lines."""
    show([{"job": "a\x1b[2Jb[red]"}], COLUMNS[:1], Format.TABLE)
    note("one\ntwo\x07")
    captured = capsys.readouterr()
    assert "a\\x1b[2Jb[red]" in captured.out
    assert captured.err == "one\ntwo\\x07\n"
