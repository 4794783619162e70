"""Claims about the Ledger API on the wire: lines, pages, tables, errors."""

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from http import HTTPStatus
from urllib.parse import quote
from uuid import UUID, uuid4

from aiohttp import web

from aggregator.api.ledger.dialect import render
from aggregator.api.problem import Problem
from aggregator.api.route import BASE_CURRENCY
from aggregator.settings import HttpSettings
from aggregator.store.pool import Pool
from tests.integration.aggregator.api.client import Answer, Api, served
from tests.integration.aggregator.api.owners import FOREIGN, MINE, tokens
from tests.integration.aggregator.rows import NOON, Rows

HOUR = timedelta(hours=1)
HOUR_MS = 3_600_000
DEVICE = 126_000
ALICE = UUID("11111111-2222-3333-4444-555555555555")
USAGE = "/api/v1/billing/usage"
HISTORY = "/api/v1/billing/usage-history"
HEADER = (
    "timestamp,sku,pricePerUnitUsd,units,amount,currency,notes,inferenceDetails.requestId,"
    "inferenceDetails.inferenceExecutionTime,inferenceDetails.promptTokens,"
    "inferenceDetails.completionTokens\r\n"
)


def charged(
    rows: Rows,
    started_at: datetime = NOON,
    *,
    job_id: str = "job-1",
    billed: int = HOUR_MS,
    user_id: UUID = ALICE,
    model: str | None = None,
    vc: str = "vc1",
    project: str = "p1",
) -> UUID:
    """An item of one charge at 2 per unit and hour, sealed; its id."""
    hour = started_at.replace(minute=0, second=0, microsecond=0)
    ratio_id = rows.ratio("cpu", "2", starts_at=hour, ends_at=hour)
    bill_id = rows.bill(
        job_id,
        billed=billed,
        user_id=user_id,
        started_at=started_at,
        model=model,
        vc=vc,
        project=project,
    )
    rows.charge(
        bill_id,
        billed=billed,
        amount=Decimal(2 * billed),
        ratio_id=ratio_id,
        hour=hour,
        started_at=started_at,
    )
    rows.connection.execute("DELETE FROM seal")
    rows.seal(datetime(2026, 11, 1, tzinfo=UTC))
    return bill_id


def notes(answer: Answer) -> list[str]:
    """The jobs of the lines, as they are shown."""
    assert answer.status == 200, answer.text
    return [line["notes"] for line in answer.json()["data"]]


async def test_a_line_has_exactly_the_keys_of_the_contract(api: Api, rows: Rows) -> None:
    """To the byte, with the pagination beside it and in headers."""
    ratio_id = rows.ratio("gpu", "2.5")
    bill_id = rows.bill("train-7", type_="gpu", model="NVIDIA H200 (SXM)", quota=2 * DEVICE)
    for _ in range(2):  # two devices
        rows.charge(
            bill_id,
            billed=DEVICE * HOUR_MS // 3,
            ratio_id=ratio_id,
            started_at=NOON + timedelta(milliseconds=500),
        )
    rows.seal(NOON + HOUR)
    answer = await api.get(USAGE)
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    assert answer.text == (
        '{"data":[{"timestamp":"2026-02-06T12:00:00.500Z","sku":"gpu-nvidia-h200-sxm-device-hour",'
        '"pricePerUnitUsd":2.5,"units":0.6666666666666666,"amount":-1.6666666666666665,'
        '"currency":"USD","notes":"train-7","inferenceDetails":null}],'
        '"pagination":{"limit":200,"page":1,"total":1,"totalPages":1}}'
    )
    found = {name.lower(): value for name, value in answer.headers.items()}
    assert {name: value for name, value in found.items() if name.startswith("x-pagination")} == {
        "x-pagination-limit": "200",
        "x-pagination-page": "1",
        "x-pagination-total": "1",
        "x-pagination-total-pages": "1",
    }
    assert found["x-unpriced-items"] == "0"


async def test_an_empty_ledger_is_empty_in_both_forms(api: Api) -> None:
    """Nothing is sealed yet: no data, no pages, and the header line alone."""
    answer = await api.get(USAGE)
    assert answer.text == (
        '{"data":[],"pagination":{"limit":200,"page":1,"total":0,"totalPages":0}}'
    )
    assert (await api.get(HISTORY)).text == '{"data":[],"nextCursor":null}'
    table = await api.get(USAGE, Accept="text/csv")
    assert (table.status, table.text) == (200, HEADER)
    assert table.headers["x-pagination-total-pages"] == "0"


async def test_the_published_amounts_are_printed_to_the_last_digit(api: Api, rows: Rows) -> None:
    """The product of the printed units and price; whole numbers without a fraction."""
    for units_ms, price, printed in (
        (63_000_000, "100", '"pricePerUnitUsd":100,"units":17.5,"amount":-1750,'),
        (62 * 1_200_000, "100", '"units":20.666666666666668,"amount":-2066.666666666667,'),
        (62 * 1_200_000, "0", '"pricePerUnitUsd":0,"units":20.666666666666668,"amount":0,'),
    ):
        bill_id = rows.bill(user_id=(user := uuid4()))
        ratio_id = rows.ratio(f"{units_ms} at {price}", price)
        rows.charge(bill_id, billed=units_ms, ratio_id=ratio_id)
        rows.connection.execute("TRUNCATE seal")
        rows.seal(NOON + HOUR)
        assert printed in (await api.get(f"{USAGE}?userId={user}")).text


async def test_lines_appear_once_their_hour_is_sealed(api: Api, rows: Rows) -> None:
    """Until then there is no line; a period that is closed is sealed in any case."""
    charged(rows)
    rows.connection.execute("DELETE FROM seal")
    assert notes(await api.get(USAGE)) == []
    rows.seal(NOON)
    assert notes(await api.get(USAGE)) == []
    rows.seal(NOON + HOUR)
    assert notes(await api.get(USAGE)) == ["job-1"]
    rows.connection.execute("DELETE FROM seal")
    rows.connection.execute(
        "INSERT INTO period VALUES ('2026-02-01Z', '2026-03-01Z', now(), 'x', NULL, 'd', 1, 0, 1)"
    )
    assert notes(await api.get(USAGE)) == ["job-1"]


async def test_an_adjustment_is_a_line_that_names_the_period(api: Api, rows: Rows) -> None:
    """A reversal has negative units and gives money back; what had no price is no line."""
    bill_id = charged(rows)
    ratio = "(SELECT ratio_id FROM ratio LIMIT 1)"
    for kind, sign, ratio_id in (("reversal", -1, ratio), ("rerated", 1, ratio), ("late", 1, "0")):
        rows.connection.execute(
            f"""
            INSERT INTO adjustment (hour, used_hour, meter_id, ratio_id, bill_id, kind, rerate_id,
                booked_at, started_at, ended_at, allocated, used, effective, billed, length_ms,
                observed_ms, amount)
            SELECT '2026-03-01 05:00Z', hour, meter_id, {ratio_id}, bill_id, '{kind}',
                {"NULL" if kind == "late" else 1}, now(), started_at, ended_at, 0, 0, 0,
                {sign} * billed, 0, 0, {sign} * amount
            FROM charge WHERE bill_id = %s
            """.encode(),
            (bill_id,),
        )
    answer = await api.get(f"{USAGE}?startDate=2026-03-01")
    assert [
        (line["timestamp"], line["units"], line["amount"], line["notes"])
        for line in answer.json()["data"]
    ] == [
        ("2026-03-01T05:00:00.000Z", -1, 2, "reversal of usage of 2026-02: job-1"),
        ("2026-03-01T05:00:00.000Z", 1, -2, "re-rated usage of 2026-02: job-1"),
    ]
    assert answer.headers["X-Unpriced-Items"] == "1"


async def test_usage_without_a_price_is_counted_and_is_no_line(api: Api, rows: Rows) -> None:
    """By items, in the hours that were asked for."""
    for _ in range(2):
        rows.charge(rows.bill(), billed=HOUR_MS)
    charged(rows)
    answer = await api.get(USAGE)
    assert (notes(answer), answer.headers["X-Unpriced-Items"]) == (["job-1"], "2")
    assert (await api.get(HISTORY)).headers["X-Unpriced-Items"] == "2"
    later = await api.get(f"{USAGE}?startDate=2026-02-07")
    assert later.headers["X-Unpriced-Items"] == "0"


PAGES: list[tuple[str, list[str]]] = [
    ("", ["3", "2", "1", "0"]),
    ("?sortOrder=asc", ["0", "1", "2", "3"]),
    ("?sortOrder=desc&limit=3", ["3", "2", "1"]),
    ("?limit=3&page=2", ["0"]),
    ("?limit=3&page=3", []),
    ("?limit=1&page=2&sortOrder=asc", ["1"]),
    ("?limit=500&page=1000000000000", []),
    ("?currency=USD", ["3", "2", "1", "0"]),
    ("?currency=&limit=&page=&sortOrder=&startDate=&userId=", ["3", "2", "1", "0"]),
    ("?colour=red", ["3", "2", "1", "0"]),
    ("?LIMIT=1", ["3"]),
    (f"?userId={ALICE}", ["3", "2", "1", "0"]),
    (f"?userId={str(ALICE).upper()}&limit=1", ["3"]),
]
NOTHING = ["currency=VCU", "currency=DIEM", "currency=BUNDLED_CREDITS", f"userId={uuid4()}"]


async def test_pages_filters_and_orders(api: Api, rows: Rows) -> None:
    """The total is of all pages; a page beyond them is empty, and so are other currencies."""
    for number in range(4):
        charged(rows, NOON + number * HOUR, job_id=str(number))
    for query, jobs in PAGES:
        answer = await api.get(USAGE + query)
        assert notes(answer) == jobs, query
        pagination = answer.json()["pagination"]
        assert (pagination["total"], pagination["totalPages"]) == (
            4, -(-4 // pagination["limit"]),
        ), query  # fmt: skip
    for query in NOTHING:
        answer = (await api.get(f"{USAGE}?{query}")).json()
        assert answer["data"] == []
        assert (answer["pagination"]["total"], answer["pagination"]["totalPages"]) == (0, 0)


ENDS: list[tuple[str, list[str]]] = [
    ("startDate=2026-02-06T12:00:00.000Z", ["start", "last"]),
    ("startDate=2026-02-06T12:00:00.001Z", ["last"]),
    ("endDate=2026-02-06T12:00:00.000Z", ["before", "start"]),
    ("endDate=2026-02-06T11:59:59.999Z", ["before"]),
    ("endDate=2026-02-06T23:59:59.998Z", ["before", "start"]),
    ("endDate=2026-02-06T23:59:59.999Z", ["before", "start", "last"]),
    ("startDate=2026-02-06&endDate=2026-02-06", ["start", "last"]),
    ("endDate=2026-02-05", ["before"]),
    ("startDate=2026-02-07", []),
    ("startDate=2026-02-06T12:00", ["start", "last"]),
    ("startDate=2026-02-06T12:00:00", ["start", "last"]),
    ("startDate=2026-02-06T13:00:00%2B01:00&endDate=2026-02-06T13:00%2B01:00", ["start"]),
    ("startDate=2026-02-06T04:00:00-08:00", ["start", "last"]),
    ("startDate=2026-02-07&endDate=2026-02-06", []),
    ("startDate=0001-01-01&endDate=9999-12-31", ["before", "start", "last"]),
    (
        "startDate=0001-01-01T00:00:00%2B14:00&endDate=9999-12-31T23:59:59.999999999-14:00",
        ["before", "start", "last"],
    ),
    ("startDate=9999-12-31T23:59:59-14:00", []),
    ("endDate=0001-01-01T00:00:00%2B14:00", []),
]


async def test_both_ends_of_a_range_belong_to_it(api: Api, rows: Rows) -> None:
    """To the millisecond; a date that ends a range is all of its day."""
    charged(rows, datetime(2026, 2, 5, 23, 59, 59, 999_000, UTC), job_id="before")
    charged(rows, job_id="start")
    charged(rows, datetime(2026, 2, 6, 23, 59, 59, 999_000, UTC), job_id="last")
    for query, jobs in ENDS:
        assert notes(await api.get(f"{USAGE}?sortOrder=asc&{query}")) == jobs, query


async def test_months_leap_days_and_changes_of_the_clock(api: Api, rows: Rows) -> None:
    """A range is of instants: what a client's clock does in between does not matter."""
    for at in (
        datetime(2024, 2, 28, 23, 30, tzinfo=UTC),
        datetime(2024, 2, 29, 12, 0, tzinfo=UTC),
        datetime(2024, 2, 29, 23, 59, 59, 999_000, UTC),
        datetime(2024, 3, 1, 0, 0, tzinfo=UTC),
        datetime(2026, 3, 29, 0, 30, tzinfo=UTC),  # 01:30+01:00, half an hour before the change
        datetime(2026, 3, 29, 1, 30, tzinfo=UTC),  # 03:30+02:00
    ):
        charged(rows, at, job_id=f"{at:%m-%dT%H:%M}")
    for query, jobs in (
        ("startDate=2024-02-29&endDate=2024-02-29", ["02-29T12:00", "02-29T23:59"]),
        ("startDate=2024-03-01&endDate=2024-03-31", ["03-01T00:00"]),
        ("startDate=2024-02-01&endDate=2024-02-29T23:59:59.999Z",
         ["02-28T23:30", "02-29T12:00", "02-29T23:59"]),
        ("startDate=2026-03-29T01:30:00%2B01:00&endDate=2026-03-29T03:30:00%2B02:00",
         ["03-29T00:30", "03-29T01:30"]),
        ("startDate=2026-03-29T02:00:00%2B01:00&endDate=2026-03-29T04:00:00%2B02:00",
         ["03-29T01:30"]),
    ):  # fmt: skip
        assert notes(await api.get(f"{USAGE}?sortOrder=asc&{query}")) == jobs, query


MOMENT = "must be a date like 2026-02-06 or a time like 2026-02-06T04:00:00.000Z"
LIMIT = "must be a whole number from 1 to 500"
SIZE = "must be a whole number from 10 to 1000"
PAGE = "must be a whole number from 1 to 1000000000000"
CURRENCY = "Input should be 'USD', 'VCU', 'DIEM' or 'BUNDLED_CREDITS'"
CURSOR = "is not one that an answer gave: begin without it"
ALONE = "must be sent alone: it stands for all other parameters"
UUID_TEXT = "must be a UUID like 01234567-89ab-cdef-0123-456789abcdef"
HOSTILE = ["%00", "%ED%A0%80", "%0D%0AX:1", "%E2%80%AE", "%F0%9F%98%80", "'%3B--", "%3Cb%3E"]

WRONG = [
    *((USAGE, "limit", value, LIMIT) for value in ("0", "501", "-1", "1.5", "x", *HOSTILE)),
    *((USAGE, "page", value, PAGE) for value in ("0", "1000000000001", "٣", *HOSTILE)),
    *((USAGE, "currency", value, CURRENCY) for value in ("usd", "EUR", *HOSTILE)),
    *((USAGE, "sortOrder", value, "Input should be 'asc' or 'desc'") for value in ("up", "ASC")),
    *((USAGE, "userId", value, UUID_TEXT) for value in ("x", *HOSTILE)),
    *((path, name, value, MOMENT)
      for path, name in ((USAGE, "startDate"), (USAGE, "endDate"), (HISTORY, "startTimestamp"),
                         (HISTORY, "endTimestamp"))
      for value in ("x", "2026", "2026-02", "2026-02-30", "2025-02-29", "0000-01-01",
                    "0000-01-01T00:00:00Z", "2026-02-06T25:00:00Z", "2026-02-06T00:00:00+25:00",
                    "2026-02-06%2004:00", "2026-02-06T04:00:00.Z", "1770379200", *HOSTILE)),
    *((HISTORY, "pageSize", value, SIZE) for value in ("9", "1001", "1e2", *HOSTILE)),
    *((HISTORY, "cursor", value, CURSOR)
      for value in ("x", "e30", "W10", "WzEsMiwzLDQsNSw2LDdd", "=", "A" * 2000, *HOSTILE)),
]  # fmt: skip


async def test_a_bad_parameter_is_named_in_the_originals_words(api: Api) -> None:
    """400, with each parameter's reasons below its name, and nothing of what was sent."""
    for path, name, value, reason in WRONG:
        answer = await api.get(f"{path}?{name}={quote(value, safe='%')}")
        assert answer.status == 400, (name, value)
        assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
        details = json.dumps({"_errors": [], name: {"_errors": [reason]}}, separators=(",", ":"))
        assert answer.text == '{"error":"Invalid request parameters","details":' + details + "}"


async def test_several_faults_are_told_at_once(api: Api) -> None:
    """And a parameter that comes twice is one."""
    details = (await api.get(f"{USAGE}?limit=0&page=x")).json()["details"]
    assert sorted(details) == ["_errors", "limit", "page"]
    twice = await api.get(f"{USAGE}?limit=1&limit=2")
    assert twice.json()["details"]["limit"] == {"_errors": ["is given twice"]}


async def test_every_error_is_in_the_originals_shape(api: Api) -> None:
    """Also those that no handler makes."""
    for answer, status, body in (
        (await api.get(USAGE, Authorization="Bearer x"), 401, {"error": "Authentication failed"}),
        (await api.post(USAGE, {}), 405, {"error": "this path answers to GET, HEAD only"}),
        (await api.get("/api/v1/billing/other"), 404,
         {"error": "there is nothing at this path; /docs lists what there is"}),
    ):  # fmt: skip
        assert (answer.status, answer.json()) == (status, body)
        assert answer.headers["Content-Type"].startswith("application/json")
    assert (await api.get("/api/v2/x")).headers["Content-Type"] == "application/problem+json"


async def test_who_asks_too_often_is_told_when_to_come_back(pool: Pool) -> None:
    """429 in the original's shape; and 403 says nothing but that it is."""
    async with served(pool, HttpSettings(requests_per_minute=1)) as api:
        assert (await api.get(USAGE)).status == 200
        answer = await api.get(USAGE)
    seconds = answer.headers["Retry-After"]
    reason = f"at most 1 requests a minute: try again in {seconds} s"
    assert (answer.status, answer.json()) == (429, {"error": reason})
    forbidden = render(Problem(HTTPStatus.FORBIDDEN, "this needs the role admin"), "id")
    assert (forbidden.status, forbidden.text) == (403, '{"error":"Unauthorized access"}')


async def test_a_table_has_the_originals_header_and_no_formula(api: Api, rows: Rows) -> None:
    """RFC 4180; what users named is text, whatever it begins with; null is empty."""
    for number, name in enumerate(["=1+1", "+x", "-x", "@x", 'a,"b"\r\nc', "\u202e😀<b>"]):
        charged(rows, NOON + number * HOUR, job_id=name)
    answer = await api.get(f"{USAGE}?sortOrder=asc", Accept="text/csv")
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert answer.headers["Content-Disposition"] == "attachment; filename=billing_usage.csv"
    assert answer.headers["x-pagination-total"] == "6"
    assert answer.text.startswith(
        HEADER + "2026-02-06T12:00:00.000Z,cpu-plain-m-hour,2,1,-2,USD,'=1+1,,,,\r\n"
    )
    cells = list(csv.reader(io.StringIO(answer.text, newline="")))[1:]
    assert [row[6] for row in cells] == [
        "'=1+1", "'+x", "'-x", "'@x", "a,\"b\"\r\nc", "\u202e😀<b>",
    ]  # fmt: skip
    assert {tuple(row[7:]) for row in cells} == {("", "", "", "")}


async def test_models_with_hostile_names_make_stable_skus(api: Api, rows: Rows) -> None:
    """Lower-case letters, digits and dots between hyphens; never the start of a formula."""
    for number, (model, sku) in enumerate(
        (
            ("NVIDIA  A30", "cpu-nvidia-a30-m-hour"),
            ("=cmd|'x'!A1", "cpu-cmd-x-a1-m-hour"),
            ("EPYC 9.4\r\n\u202e", "cpu-epyc-9.4-m-hour"),
            ("--", "cpu-plain-m-hour"),
            ("Ärger😀", "cpu-ärger-m-hour"),
        )
    ):
        charged(rows, NOON + number * HOUR, model=model, job_id=sku)
    for line in (await api.get(USAGE)).json()["data"]:
        assert line["sku"] == line["notes"]


async def test_the_history_is_whole_while_lines_are_added(api: Api, rows: Rows) -> None:
    """Each line once, oldest first; the cursor is sent alone and carries the rest."""
    for number in range(35):
        charged(rows, NOON + timedelta(minutes=number // 3), job_id=f"{number:02}")
    whole = (await api.get(HISTORY)).json()
    assert whole["nextCursor"] is None
    assert len(whole["data"]) == 35
    assert [line["timestamp"] for line in whole["data"]] == sorted(
        line["timestamp"] for line in whole["data"]
    )
    shown: list[object] = []
    target = f"{HISTORY}?pageSize=10&endTimestamp=2026-02-06T12:11:00Z&userId={ALICE}"
    while True:
        part = (await api.get(target)).json()
        shown += part["data"]
        charged(rows, NOON, job_id="behind", user_id=uuid4())
        charged(rows, NOON + 2 * HOUR, job_id="after the end")
        if part["nextCursor"] is None:
            break
        target = f"{HISTORY}?cursor={part['nextCursor']}"
    assert shown == [each for each in whole["data"] if each["timestamp"] < "2026-02-06T12:11"]


async def test_the_history_of_years_is_whole(api: Api, rows: Rows) -> None:
    """However far apart its lines are, and wherever it is asked from."""
    for day in (1, 2, 40, 400, 1400):
        charged(rows, NOON - day * timedelta(days=1), job_id=str(day))
    for query, jobs in (
        ("", ["1400", "400", "40", "2", "1"]),
        ("?startTimestamp=0001-01-01", ["1400", "400", "40", "2", "1"]),
        ("?startTimestamp=2025-01-05", ["40", "2", "1"]),
        ("?startTimestamp=9999-12-31T23:59:59-14:00", []),
        ("?endTimestamp=9999-12-31T23:59:59Z", ["1400", "400", "40", "2", "1"]),
        ("?endTimestamp=2025-01-05", ["1400", "400"]),
        ("?endTimestamp=0001-01-01", []),
        ("?endTimestamp=0001-01-01T00:00:00%2B14:00", []),
    ):
        assert notes(await api.get(HISTORY + query)) == jobs, query


async def test_the_history_is_a_table_too(api: Api, rows: Rows) -> None:
    """The way on is in a header, which the last part has not."""
    for number in range(12):
        charged(rows, NOON + timedelta(minutes=number), job_id=str(number))
    first = await api.get(f"{HISTORY}?pageSize=10", Accept="text/csv")
    assert first.headers["Content-Disposition"].endswith("filename=billing_usage_history.csv")
    cursor = first.headers["x-next-cursor"]
    last = await api.get(f"{HISTORY}?cursor={cursor}", Accept="text/csv")
    assert "x-next-cursor" not in last.headers
    assert (first.text + last.text.removeprefix(HEADER)).count("\r\n") == 13


async def test_a_cursor_is_sent_alone(api: Api, rows: Rows) -> None:
    """It stands for all other parameters, so none can contradict it."""
    for number in range(11):
        charged(rows, NOON + timedelta(minutes=number))
    cursor = (await api.get(f"{HISTORY}?pageSize=10")).json()["nextCursor"]
    assert (await api.get(f"{HISTORY}?cursor={cursor}&colour=red")).status == 200
    for more in ("pageSize=10", "currency=USD", f"userId={ALICE}", "startTimestamp=2026-02-06"):
        answer = await api.get(f"{HISTORY}?cursor={cursor}&{more}")
        assert answer.status == 400
        assert answer.json()["details"]["cursor"] == {"_errors": [ALONE]}


async def test_the_history_takes_its_start_and_not_its_end(api: Api, rows: Rows) -> None:
    """Half-open; other currencies give nothing."""
    for number in range(3):
        charged(rows, NOON + number * HOUR, job_id=str(number))
    for query, jobs in (
        ("startTimestamp=2026-02-06T13:00:00Z", ["1", "2"]),
        ("endTimestamp=2026-02-06T13:00:00Z", ["0"]),
        ("startTimestamp=2026-02-06T12:00:00.001Z&endTimestamp=2026-02-06T14:00:00.001Z",
         ["1", "2"]),
        ("endTimestamp=2026-02-06", []),
        ("currency=DIEM", []),
        ("currency=USD", ["0", "1", "2"]),
    ):  # fmt: skip
        assert notes(await api.get(f"{HISTORY}?{query}")) == jobs, query


async def test_a_token_sees_its_own_lines_only(api: Api, rows: Rows) -> None:
    """Of a user, a cluster or a project; whoever else is asked for has none."""
    for owner in (MINE, FOREIGN):
        charged(rows, job_id=owner.job, user_id=owner.user_id, vc=owner.vc, project=owner.project)
    secrets = await tokens(api)
    for name, secret in secrets.items():
        bearer = {"Authorization": f"Bearer {secret}"}
        own = [MINE.job] if name in {"user", "vc", "project"} else sorted([MINE.job, FOREIGN.job])
        for path in (USAGE, HISTORY):
            assert sorted(notes(await api.get(path, **bearer))) == own
            theirs = notes(await api.get(f"{path}?userId={FOREIGN.user_id}", **bearer))
            assert theirs == ([] if len(own) == 1 else [FOREIGN.job])
        answer = await api.get(USAGE, **bearer)
        assert answer.json()["pagination"]["total"] == len(own)


def in_euros(app: web.Application) -> None:
    """Make EUR the base currency."""
    app[BASE_CURRENCY] = "EUR"


async def test_other_base_currencies_are_shown_in_usd_by_the_rate_of_the_day(
    pool: Pool, rows: Rows
) -> None:
    """The amount is the printed price times the printed units; no rate is 503 with the day."""
    charged(rows)
    charged(rows, NOON + 24 * HOUR)
    async with served(pool, prepare=in_euros) as api:
        missing = await api.get(USAGE)
        assert missing.status == 503
        assert missing.json()["error"].startswith("there is no rate from EUR to USD for 2026-02-0")
        for day, rate in (("2026-02-06", "1.1"), ("2026-02-07", "1.25")):
            rows.connection.execute(
                "INSERT INTO currency_rate (base, currency, rate, starts_on, ends_on, created_at,"
                " created_by) VALUES ('EUR', 'USD', %s, %s, %s::date + 1, now(), 'test')",
                (Decimal(rate), day, day),
            )
        lines = (await api.get(f"{USAGE}?sortOrder=asc")).json()["data"]
        assert [line["pricePerUnitUsd"] for line in lines] == [2.2, 2.5]
        assert [line["amount"] for line in lines] == [-2.2, -2.5]
