"""Claims about input that means harm: in every parameter of every GET, and in names from nodes.

Parameters are read off the table of routes, so that what is added there is tried here.
"""

import csv
import io
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, urlencode
from uuid import UUID

import pytest

from aggregator.api.app import ALL_ROUTES
from aggregator.api.parse import parameter_names
from aggregator.api.route import Route
from aggregator.log import KeyValueFormatter, RequestFilter
from aggregator.settings import HttpSettings
from aggregator.store.pool import Pool
from tests.integration.aggregator.api.client import Answer, Api, served
from tests.integration.aggregator.api.owners import MINE, Owner
from tests.integration.aggregator.api.test_matrix import calls
from tests.integration.aggregator.rows import Rows

SCRIPT = "<script>alert(1)</script>"
MIXED = f"='; DROP TABLE bill; --\r\nlevel=error {SCRIPT}\u202e\u2066\U0001f4a3%s{{0}}/../\x1b[31m"
HOSTILE = (MIXED, "\x00", "\ud800" + MIXED, "x" * 7000, "9" * 400)
MEGABYTE = b"%27" * (1 << 18)

GETS = tuple(route for route in ALL_ROUTES if route.method == "GET")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A GET with hostile text in one parameter; all others are as they should be."""

    operation: str
    parameter: str
    target: str


def questions(route: Route, text: str) -> Iterator[Question]:
    """One for each parameter of the path and of the query."""
    base, _, query = calls(route, MINE)[0].partition("?")
    kept = parse_qsl(query, keep_blank_values=True)
    for name in parameter_names(route.query) if route.query else ():
        changed = [*((key, value) for key, value in kept if key != name), (name, text)]
        target = f"{base}?{urlencode(changed, quote_via=quote, errors='surrogatepass')}"
        yield Question(operation=route.operation_id, parameter=name, target=target)
    for name in route.path_parameters:
        path = calls(route, MINE, **{name: text})[0]
        yield Question(operation=route.operation_id, parameter=name, target=path)


def assert_harmless(answer: Answer, what: object) -> None:
    """Fail for a fault of ours, and for an answer that a browser would run."""
    assert answer.status < 500, (what, answer.text)
    assert answer.headers["X-Content-Type-Options"] == "nosniff", what
    media_type = answer.headers.get("Content-Type", "").partition(";")[0]
    if media_type.endswith("json"):
        json.loads(answer.body)
    elif media_type != "text/csv":
        assert SCRIPT not in answer.text, what


def assert_harmless_log(caplog: pytest.LogCaptureFixture) -> None:
    """Fail for a line that holds a control character, or that is of a fault of ours."""
    formatter = KeyValueFormatter()
    for record in caplog.records:
        line = formatter.format(record)
        assert line.isprintable(), line
        assert record.levelno <= logging.WARNING, line


async def test_no_parameter_is_a_way_in(
    pool: Pool, rows: Rows, caplog: pytest.LogCaptureFixture
) -> None:
    """No 500, nothing that is run by a browser, a terminal or the database."""
    caplog.set_level(logging.INFO, logger="aggregator")
    MINE.insert(rows)
    tried: set[tuple[str, str]] = set()
    async with served(pool, HttpSettings(requests_per_minute=0)) as api:
        with caplog.filtering(RequestFilter()):
            for route in GETS:
                for text in HOSTILE:
                    for each in questions(route, text):
                        assert_harmless(await api.get(each.target), (each, text[:20]))
                        tried.add((each.operation, each.parameter))
    assert_harmless_log(caplog)
    assert rows.connection.execute("SELECT count(*) FROM bill").fetchone() == (1,)
    assert {("Get Bill List", "userId"), ("getHourlyUsage", "timestamp")} <= tried


async def test_a_megabyte_is_refused_unread(api: Api) -> None:
    """In the path and in the query, wherever it is sent."""
    for route in GETS:
        path = calls(route, MINE)[0].partition("?")[0].encode()
        for target in (path + b"?userId=" + MEGABYTE, path + b"/" + MEGABYTE):
            head = b"GET " + target + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            try:
                said = await api.raw(head)
            except ConnectionError:
                said = b""  # hung up on before all of it was sent
            assert said[:12] in {b"", b"HTTP/1.1 400", b"HTTP/1.1 414"}, route.operation_id
    assert (await api.get("/healthz")).status == 200


OWNER = Owner(mark=MIXED, user_id=UUID("33333333-3333-4333-8333-333333333333"))


async def test_no_name_from_a_node_is_a_way_out(
    api: Api, rows: Rows, caplog: pytest.LogCaptureFixture
) -> None:
    """In JSON it is a text, in CSV none that a spreadsheet computes, in the log nothing."""
    caplog.set_level(logging.INFO, logger="aggregator")
    OWNER.insert(rows)
    named = 0
    for route in GETS:
        for target in calls(route, OWNER):
            answer = await api.get(target)
            assert_harmless(answer, target)
            named += SCRIPT in answer.text
            table = await api.get(target, Accept="text/csv")
            if table.headers.get("Content-Type", "").startswith("text/csv"):
                assert_computes_nothing(table)
    assert named > 10
    assert_harmless_log(caplog)


def assert_computes_nothing(table: Answer) -> None:
    """Fail for a cell that a spreadsheet takes as a formula."""
    lines = list(csv.reader(io.StringIO(table.text, newline="")))
    for cell in (cell for line in lines for cell in line):
        assert not cell.startswith(("=", "+", "@", "\t", "\r", "\n")), cell
        assert not cell.startswith("-") or float(cell) < 0
