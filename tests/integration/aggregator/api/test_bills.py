"""Claims about the Bill API on the wire: lists, filters, forms of values."""

from datetime import timedelta
from decimal import Decimal
from urllib.parse import quote
from uuid import UUID, uuid4

from aggregator.model import NO_USER
from aggregator.store.pool import Pool
from tests.integration.aggregator.api.client import Api
from tests.integration.aggregator.rows import NOON, Rows

HOUR_MS = 3_600_000
ALICE = UUID("11111111-2222-3333-4444-555555555555")


async def test_a_bill_item_has_exactly_the_fields_of_the_contract(api: Api, rows: Rows) -> None:
    """In the order of the original's schema, to the byte."""
    ratio_id = rows.ratio("cpu", "100")
    billed = 62 * 1_200_000
    bill_id = rows.bill(
        "job-7",
        billed=billed,
        amount=Decimal(billed) * 100,
        ratio_id=ratio_id,
        user_id=ALICE,
        username="alice",
        job_name="train",
        model="EPYC",
        ended_at=NOON + timedelta(hours=2, milliseconds=500),
        is_live=True,
    )
    answer = await api.get("/api/Bills")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    assert answer.text == (
        f'[{{"id":"{bill_id}","startTime":"2026-02-06T12:00:00Z",'
        '"endTime":"2026-02-06T14:00:00.5Z","jobId":"job-7","jobName":"train",'
        f'"userId":"{ALICE}","username":"alice","vcName":"vc1","type":"cpu",'
        '"node":"10.0.0.7","device":"EPYC","quota":500,"usage":20.666666666666668,'
        '"fee":2066.666666666667,"isRunning":true}]'
    )


async def test_a_usage_item_is_the_bill_item_without_its_fee(api: Api, rows: Rows) -> None:
    """The same id in both; unknown names are null."""
    rows.bill(billed=HOUR_MS)
    (bill,) = (await api.get("/api/Bills")).json()
    (usage,) = (await api.get("/api/Usages")).json()
    assert bill.pop("fee") == 0
    assert usage == bill
    assert list(usage) == [
        "id", "startTime", "endTime", "jobId", "jobName", "userId", "username", "vcName",
        "type", "node", "device", "quota", "usage", "isRunning",
    ]  # fmt: skip
    assert (usage["userId"], usage["username"], usage["device"]) == (str(NO_USER), None, None)


async def test_the_published_fees_are_printed_to_the_last_digit(api: Api, rows: Rows) -> None:
    """Doubles, and whole numbers without a fraction."""
    for units_ms, price, printed in (
        (63_000_000, "100", '"usage":17.5,"fee":1750,'),
        (62 * 1_200_000, "100", '"usage":20.666666666666668,"fee":2066.666666666667,'),
        (62 * 1_200_000, "0", '"usage":20.666666666666668,"fee":0,'),
    ):
        job = f"{units_ms} at {price}"
        amount = Decimal(price) * units_ms
        rows.bill(job, billed=units_ms, amount=amount, ratio_id=rows.ratio(job, price))
        assert printed in (await api.get(f"/api/Bills?jobId={quote(job)}")).text


async def test_lists_filter_by_user_and_type(api: Api, rows: Rows) -> None:
    """Both optional, both exact."""
    rows.bill("a", user_id=ALICE)
    rows.bill("b", type_="mem", user_id=ALICE)
    rows.bill("c", type_="mem")
    for path in ("/api/Bills", "/api/Usages"):
        for query, jobs in (
            ("", ["a", "b", "c"]),
            (f"?userId={ALICE}", ["a", "b"]),
            (f"?userId={str(ALICE).upper()}&type=mem", ["b"]),
            ("?type=mem", ["b", "c"]),
            ("?type=tokens", []),
            ("?type=%00", []),
            (f"?userId={uuid4()}", []),
            ("?userId=&type=", ["a", "b", "c"]),
            ("?colour=red", ["a", "b", "c"]),
            ("?USERID=" + str(ALICE) + "&TYPE=cpu", ["a"]),
        ):
            answer = await api.get(path + query)
            assert answer.status == 200, query
            assert [item["jobId"] for item in answer.json()] == jobs, query


async def test_our_own_filters_are_there_too(api: Api, rows: Rows) -> None:
    """Job, virtual cluster, node, running."""
    rows.bill("a", vc="vc9", node="10.9.9.9", is_live=True)
    rows.bill("b")
    for query in ("jobId=a", "vcName=vc9", "node=10.9.9.9", "running=true"):
        answer = await api.get(f"/api/Bills?{query}")
        assert [item["jobId"] for item in answer.json()] == ["a"], query
    answer = await api.get("/api/Usages?running=false")
    assert [item["jobId"] for item in answer.json()] == ["b"]


async def test_a_bad_parameter_is_named(api: Api) -> None:
    """400 as a problem, with the field."""
    for query, field in (
        ("userId=abc", "userId"),
        ("userId=11111111222233334444555555555555", "userId"),
        ("userId=%00", "userId"),
        ("userId={0}", "userId"),
        (f"userId={ALICE}&userId={ALICE}", "userId"),
        ("type=cpu&Type=mem", "type"),
        ("running=perhaps", "running"),
    ):
        answer = await api.get(f"/api/Bills?{query}")
        assert answer.status == 400, query
        assert answer.headers["Content-Type"] == "application/problem+json"
        problem = answer.json()
        assert list(problem["errors"]) == [field]
        assert (problem["status"], problem["title"]) == (400, "Bad Request")


async def test_routes_match_in_any_case(api: Api) -> None:
    """As the original's did; a slash at the end is ignored."""
    for path in ("/api/bills", "/API/BILLS", "/Api/Bills/", "/api/USAGES", "/api/users/"):
        answer = await api.get(path)
        assert (answer.status, answer.text) == (200, "[]"), path


async def test_json_is_the_answer_to_text_plain(api: Api) -> None:
    """The original's code samples ask for text/plain."""
    answer = await api.get("/api/Ratios", Accept="text/plain")
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("application/json")


async def test_unpriced_items_are_counted_in_a_header(api: Api, rows: Rows) -> None:
    """Of what the list shows."""
    rows.bill(billed=HOUR_MS, unpriced=HOUR_MS, ratio_id=0)
    rows.bill(type_="mem", billed=HOUR_MS)
    for path, count in (("/api/Bills", "1"), ("/api/Usages?type=mem", "0")):
        assert (await api.get(path)).headers["X-Unpriced-Items"] == count


async def test_a_long_list_is_one_valid_array(api: Api, rows: Rows, pool: Pool) -> None:
    """Streamed in chunks, none missing, none twice; compressed for whoever takes gzip."""
    rows.bill()
    rows.connection.execute(
        """
        INSERT INTO bill (bill_id, run_id, cluster, node, job_id, job_name, user_id, username, vc,
            project, namespace, kind, type, model, quota, started_at, ended_at, allocated, used,
            effective, billed, unpriced, length_ms, observed_ms, amount, ratio_id, is_mixed,
            item_class_id)
        SELECT gen_random_uuid(), run_id, cluster, node, 'job-' || i, job_name,
            user_id, username, vc, project, namespace, kind, type, model, quota, started_at,
            ended_at, allocated, used, effective, billed, unpriced, length_ms, observed_ms,
            amount, ratio_id, is_mixed, item_class_id
        FROM bill, generate_series(1, 1999) AS i
        """
    )
    plain = await api.get("/api/Bills", Accept_Encoding="identity")
    zipped = await api.get("/api/Bills", Accept_Encoding="gzip")
    assert len({item["id"] for item in plain.json()}) == 2000
    assert zipped.json() == plain.json()
    assert zipped.headers["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in plain.headers


async def test_users_are_shown_by_the_originals_names(api: Api, rows: Rows) -> None:
    """`userName` here, `username` in bills."""
    rows.user("alice", ALICE)
    rows.user(None, NO_USER)
    assert (await api.get("/api/Users")).text == (
        f'[{{"id":"{ALICE}","userName":"alice"}},{{"id":"{NO_USER}","userName":null}}]'
    )


async def test_names_from_nodes_are_data(api: Api, rows: Rows) -> None:
    """Quotes, markup and other scripts come back as they were."""
    name = "'; DROP TABLE bill; -- <b>\"é\u202e😀\n"
    rows.bill(job_name=name)
    (item,) = (await api.get("/api/Bills")).json()
    assert item["jobName"] == name
