"""Claims about the optional parts of the Bill API's lists: pages, hours, tables, tags."""

import csv
import io
import re
from datetime import timedelta
from uuid import UUID

import pytest

from aggregator.api.item_query import write_cursor
from aggregator.billing.item_lists import Position
from tests.integration.aggregator.api.client import Answer, Api
from tests.integration.aggregator.rows import NOON, Rows

HOUR_MS = 3_600_000
LATER = timedelta(hours=1)


def next_page(answer: Answer) -> str | None:
    """Where the header Link leads."""
    link = answer.headers.get("Link")
    match = re.fullmatch(r'<(/[^<>]*)>; rel="next"', link or "")
    assert (match is None) == (link is None)
    return match[1] if match else None


async def test_pages_follow_each_other_while_new_items_come(api: Api, rows: Rows) -> None:
    """Each item once, in the order of the whole list; filters are carried on."""
    for number in range(7):
        rows.bill(f"job-{number % 3}", type_="mem" if number % 2 else "cpu", vc="a b&c")
    rows.bill("older", started_at=NOON - LATER, vc="a b&c")
    rows.bill("elsewhere")
    whole = [item["id"] for item in (await api.get("/api/Bills?vcName=a%20b%26c")).json()]
    assert len(whole) == 8
    shown: list[str] = []
    target: str | None = "/api/bills?vcName=a%20b%26c&limit=3"
    while target:
        answer = await api.get(target)
        shown += [item["id"] for item in answer.json()]
        rows.bill("newer", started_at=NOON + LATER, vc="a b&c")
        target = next_page(answer)
    assert shown == whole


async def test_a_page_that_just_fits_leads_nowhere(api: Api, rows: Rows) -> None:
    """No Link on the last one, and none without a limit."""
    for _ in range(3):
        rows.bill()
    for query, leads_on in (("", False), ("?limit=3", False), ("?limit=2", True)):
        for path in ("/api/Bills", "/api/Usages", "/api/admin/v1/usages"):
            assert (next_page(await api.get(path + query)) is not None) == leads_on, path + query


FINE = Position(at=NOON, job_id="a", type="cpu", bill_id=UUID(int=1))


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=10001", "limit"),
        ("limit=-1", "limit"),
        ("limit=1.5", "limit"),
        ("limit=%D9%A3", "limit"),
        ("limit=" + "9" * 5000, "limit"),
        ("cursor=x", "cursor"),
        ("cursor=%00", "cursor"),
        ("cursor=%C3%A9", "cursor"),
        ("cursor=bnVsbA", "cursor"),
        ("cursor=W10", "cursor"),
        ("cursor=W1tbW1tbW1tbW1tbW1tb", "cursor"),
        ("cursor=" + write_cursor(FINE)[:-4], "cursor"),
        ("cursor=" + "A" * 8000, "cursor"),
        ("cursor=WyIyMDI2LTAyLTA2VDEyOjAwOjAwKzAwOjAwIiwgImEiLCAiY3B1IiwgNV0", "cursor"),
        ("granularity=day&startTime=2026-02-06T12:00:00Z", "granularity"),
        ("startTime=yesterday", "startTime"),
        ("endTime=2026-02-06T12:00:00", "endTime"),
        ("endTime=0000-02-06T12:00:00Z", "endTime"),
    ],
)  # fmt: skip
async def test_what_cannot_be_asked_is_refused_by_its_parameter(
    api: Api, query: str, field: str
) -> None:
    """400 as a problem, from each list of items."""
    for path in ("/api/Bills", "/api/Usages", "/api/admin/v1/usages"):
        answer = await api.get(f"{path}?{query}")
        assert (answer.status, list(answer.json()["errors"])) == (400, [field]), answer.text


async def test_a_range_may_reach_to_the_ends_of_time(api: Api, rows: Rows) -> None:
    """And beyond, by its offset; all that there is lies between, and nothing at the ends."""
    bill_id = rows.bill("b", billed=HOUR_MS, ended_at=NOON + LATER)
    bookings(rows, bill_id, hours=1)
    first, last = "0001-01-01T00:00:00%2B14:00", "9999-12-31T23:59:59.999999999-14:00"
    for query, count in (
        (f"startTime={first}&endTime={last}", 1),
        (f"startTime={first}", 1),
        (f"endTime={last}", 1),
        ("startTime=0001-01-01T00:00:00Z&endTime=9999-12-31T23:59:59Z", 1),
        (f"endTime={first}", 0),
        (f"startTime={last}", 0),
        (f"granularity=hour&endTime={first}", 0),
        (f"granularity=hour&startTime={last}", 0),
        (f"granularity=hour&startTime={first}&endTime={last}", 1),
        (f"granularity=hour&endTime={last}", 0),
    ):
        for path in ("/api/Bills", "/api/Usages", "/api/admin/v1/usages"):
            answer = await api.get(f"{path}?{query}")
            assert (answer.status, len(answer.json())) == (200, count), (path, query)


async def test_a_cursor_of_whatever_time_is_a_place(api: Api, rows: Rows) -> None:
    """Nothing is signed: it only says where to begin, within what the caller may see."""
    rows.bill("b")
    assert [
        each["jobId"] for each in (await api.get(f"/api/Bills?cursor={write_cursor(FINE)}")).json()
    ] == ["b"]


def bookings(rows: Rows, bill_id: UUID, hours: int) -> None:
    """An hour of charges for each hour from noon on, at a price of 2."""
    ratio_id = rows.ratio("cpu", "2")
    rows.connection.execute(
        """
        WITH class AS (
            INSERT INTO price_class (type, vc) VALUES ('cpu', 'vc1') RETURNING price_class_id
        ), metered AS (
            INSERT INTO meter (meter_uid, bill_id, run_id, price_class_id, node_address, quota,
                group_quota, started_at, ingest_group_id)
            SELECT gen_random_uuid(), bill_id, run_id, price_class_id, node, 1, 1, started_at, 1
            FROM bill, class WHERE bill_id = %s RETURNING meter_id, bill_id
        )
        INSERT INTO charge
        SELECT at, meter_id, %s, bill_id, at, at + interval '1 hour',
            3600000, 0, 3600000, 3600000, 3600000, 3600000, 7200000
        FROM metered, generate_series(0, %s) AS n,
            LATERAL (SELECT %s::timestamptz + n * interval '1 hour' AS at) AS hour
        """,
        (bill_id, ratio_id, hours - 1, NOON),
    )


async def test_each_hour_can_be_an_item(api: Api, rows: Rows) -> None:
    """Newest first, with an id of its own that is the same in Bills and Usages, by pages too."""
    bill_id = rows.bill(billed=4 * HOUR_MS, ended_at=NOON + 4 * LATER)
    bookings(rows, bill_id, hours=4)
    query = "granularity=hour&startTime=2026-02-06T13:30:00Z&endTime=2026-02-07T00:00:00Z"
    bills = (await api.get(f"/api/Bills?{query}")).json()
    assert [(each["startTime"], each["endTime"], each["usage"], each["fee"]) for each in bills] == [
        ("2026-02-06T15:00:00Z", "2026-02-06T16:00:00Z", 1, 2),
        ("2026-02-06T14:00:00Z", "2026-02-06T15:00:00Z", 1, 2),
        ("2026-02-06T13:00:00Z", "2026-02-06T14:00:00Z", 1, 2),
    ]
    ids = [each["id"] for each in bills]
    assert len({*ids, str(bill_id)}) == 4
    assert [each["id"] for each in (await api.get(f"/api/Usages?{query}")).json()] == ids
    first = await api.get(f"/api/Bills?{query}&limit=2")
    following = next_page(first)
    assert following
    paged = first.json() + (await api.get(following)).json()
    assert [each["id"] for each in paged] == ids


async def test_hours_without_a_beginning_are_the_last_ones(api: Api, rows: Rows) -> None:
    """Of a month before the end, so that nobody asks for years by mistake."""
    bookings(rows, rows.bill(ended_at=NOON + 4 * LATER), hours=4)
    for end, count in (("2026-03-09T13:00:00Z", 3), ("2026-02-06T14:00:00Z", 2)):
        found = (await api.get(f"/api/Bills?granularity=hour&endTime={end}")).json()
        assert len(found) == count, end


async def test_what_nothing_was_booked_for_is_in_no_range(api: Api, rows: Rows) -> None:
    """Pages of a clipped list end where it does."""
    bookings(rows, rows.bill("booked", ended_at=NOON + LATER), hours=1)
    rows.bill("new")
    page = await api.get("/api/Bills?startTime=2026-02-06T12:00:00Z&limit=1")
    assert [(each["jobId"], each["fee"]) for each in page.json()] == [("booked", 2)]
    assert next_page(page) is None


TEXTS = ["=1+1", "+1", "-1", "@x", "\t=1", 'a"b,c', "plain"]


async def test_a_list_can_be_a_table(api: Api, rows: Rows) -> None:
    """RFC 4180, with the names of JSON; what users wrote is computed by no spreadsheet."""
    for text in TEXTS:
        rows.bill(text, job_name=text, billed=HOUR_MS)
    answer = await api.get("/api/Bills", Accept="text/csv")
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert answer.headers["Content-Disposition"] == "attachment; filename=bills.csv"
    assert answer.headers["X-Unpriced-Items"] == "0"
    assert answer.text.startswith(
        "id,startTime,endTime,jobId,jobName,userId,username,vcName,type,node,device,quota,usage,"
        "fee,isRunning\r\n"
    )
    table = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    plain = (await api.get("/api/Bills")).json()
    assert [line["id"] for line in table] == [item["id"] for item in plain]
    assert {line["jobName"] for line in table} == {
        "'=1+1", "'+1", "'-1", "'@x", "'\t=1", 'a"b,c', "plain",
    }  # fmt: skip
    line = table[0]
    assert (line["username"], line["device"], line["usage"], line["isRunning"]) == (
        "",
        "",
        "1",
        "false",
    )
    usages = await api.get("/api/Usages?jobId=nothing", Accept="text/csv")
    assert usages.text.count("\r\n") == 1


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("text/plain", "application/json"),
        ("*/*", "application/json"),
        ("text/*", "application/json"),
        ("application/json, text/csv;q=0.5", "application/json"),
        ("application/json, text/csv", "application/json"),
        ("text/csv;q=0", "application/json"),
        ("text/csv;q=nonsense", "application/json"),
        ("Text/CSV", "text/csv"),
        ("application/json;q=0.5, text/csv", "text/csv"),
    ],
)
async def test_json_is_the_answer_unless_a_table_is_wished_for(
    api: Api, accept: str, kind: str
) -> None:
    """By quality."""
    answer = await api.get("/api/Bills", Accept=accept)
    assert answer.headers["Content-Type"].startswith(kind)


async def test_who_has_an_answer_already_is_told_so(api: Api, rows: Rows) -> None:
    """By a tag of its content, until that changes; another's scope has another tag."""
    rows.bill("a")
    for path in ("/api/Bills", "/api/Usages", "/api/Users", "/api/Ratios", "/api/admin/v1/nodes"):
        first = await api.get(path)
        assert first.headers["Cache-Control"] == "private, no-cache"
        for tag in (first.headers["ETag"], '"other", ' + first.headers["ETag"], "*"):
            again = await api.get(path, If_None_Match=tag)
            assert (again.status, again.body) == (304, b""), path
            assert again.headers["ETag"] == first.headers["ETag"]
    tag = (await api.get("/api/Bills")).headers["ETag"]
    rows.bill("b")
    changed = await api.get("/api/Bills", If_None_Match=tag)
    assert (changed.status, len(changed.json())) == (200, 2)
    made = await api.post("/api/admin/v1/tokens", {"name": "x", "vcName": "nothing"})
    scoped = {"Authorization": f"Bearer {made.json()['token']}"}
    other = await api.ask(
        "GET", "/api/Bills", headers=scoped | {"If-None-Match": changed.headers["ETag"]}
    )
    assert (other.status, other.json()) == (200, [])
