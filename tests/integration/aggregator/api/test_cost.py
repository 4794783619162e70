"""Claims about the Cost API: what is summed, in which steps, and what is refused, byte by byte."""

import re
from datetime import UTC, date, datetime, timedelta
from itertools import product
from typing import Any
from urllib.parse import quote
from uuid import UUID

import pytest

from aggregator.model import NO_USER
from aggregator.settings import HttpSettings
from aggregator.store.pool import Pool
from tests.integration.aggregator.api.client import Answer, Api, served
from tests.integration.aggregator.api.owners import MINE, THEIRS, tokens
from tests.integration.aggregator.rows import Rows

BASE = "/platform/cost.alauda.io/v1beta1"
USAGE = f"{BASE}/costs/usage"
CORE_HOUR = 1000 * 3_600_000
GIB_HOUR = 1024 * 1024 * 3_600_000
FEBRUARY = "start=2026-02-01&end=2026-02-28"


def used(
    rows: Rows,
    *days: str,
    hours: int = 1,
    unit: int = CORE_HOUR,
    type_: str = "cpu",
    cluster: str = "c1",
    project: str = "p1",
    namespace: str = "ns1",
    user_id: UUID = NO_USER,
    vc: str = "vc1",
) -> None:
    """An item with so many unit-hours, by every method alike, on each of some days."""
    bill_id = rows.bill(
        type_=type_, cluster=cluster, project=project, namespace=namespace, user_id=user_id, vc=vc
    )
    for day in days:
        quantity = hours * unit
        rows.daily(
            bill_id, date.fromisoformat(day), allocated=quantity, used=quantity, effective=quantity
        )


def reserved(
    rows: Rows, project: str, cores: int, starts_at: datetime, ends_at: datetime | None = None
) -> None:
    """A quota of cpu."""
    rows.connection.execute(
        "INSERT INTO project_quota (project, type, quantity, starts_at, ends_at, created_at,"
        " created_by) VALUES (%s, 'cpu', %s, %s, %s, now(), 'test')",
        (project, cores * 1000, starts_at, ends_at),
    )


async def items(api: Api, query: str, path: str = USAGE) -> list[dict[str, Any]]:
    """All that is answered, which must fit a page."""
    answer = await api.get(f"{path}?{query}")
    assert answer.status == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["items"]
    assert answer.json()["total"] == len(found)
    return found


async def spans(api: Api, query: str) -> list[tuple[str, str, float]]:
    """Start, end and usage of each item."""
    return [(each["start"], each["end"], each["usage"]) for each in await items(api, query)]


def status(answer: Answer) -> dict[str, Any]:
    """The error that an answer tells of, which must be a Kubernetes Status."""
    found: dict[str, Any] = answer.json()
    assert answer.headers["Content-Type"] == "application/json"
    assert list(found) == [
        "kind", "apiVersion", "metadata", "status", "message", "reason", "code",
    ]  # fmt: skip
    assert (found["kind"], found["apiVersion"], found["metadata"]) == ("Status", "v1", {})
    assert (found["status"], found["code"]) == ("Failure", answer.status)
    return found


async def test_an_answer_is_this_to_the_byte(api: Api, rows: Rows) -> None:
    """Only start and end are required: projects by months, effective core-hours, 20 on a page."""
    bill_id = rows.bill(project="ml")
    rows.daily(bill_id, date(2026, 2, 6), allocated=1, used=2, effective=62 * 1_200_000)
    answer = await api.get(f"{USAGE}?{FEBRUARY}")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    assert answer.text == (
        '{"pageSize":20,"currentPage":1,"total":1,"items":[{"project":"ml","cluster":"",'
        '"namespace":"","item":"Cpu","method":"Effective","usage":0.020666666666666667,'
        '"currency":"USD","start":"20260201","end":"20260228"}]}'
    )


async def test_nothing_is_an_empty_page(api: Api) -> None:
    """No error, and no null."""
    answer = await api.get(f"{USAGE}?{FEBRUARY}")
    assert answer.text == '{"pageSize":20,"currentPage":1,"total":0,"items":[]}'
    of_nobody = await api.get(f"{BASE}/projects/nobody/costs/usage?{FEBRUARY}")
    assert of_nobody.text == answer.text


async def test_each_kind_fills_the_names_that_it_is_of(api: Api, rows: Rows) -> None:
    """One namespace's name in two clusters, or in two projects, is two namespaces."""
    for cluster, project, hours in (("a", "p", 1), ("b", "p", 2), ("a", "q", 4)):
        used(rows, "2026-02-06", hours=hours, cluster=cluster, project=project, namespace="n")
    used(rows, "2026-02-06", hours=8, cluster="b", project="p", namespace="m")
    for kind, found in (
        ("project_all", [("", "p", "", 11), ("", "q", "", 4)]),
        ("project&name=q", [("", "q", "", 4)]),
        ("cluster_all", [("a", "", "", 5), ("b", "", "", 10)]),
        ("cluster&name=b", [("b", "", "", 10)]),
        (
            "namespace_all",
            [("a", "p", "n", 1), ("a", "q", "n", 4), ("b", "p", "m", 8), ("b", "p", "n", 2)],
        ),
        ("namespace&name=n", [("a", "p", "n", 1), ("a", "q", "n", 4), ("b", "p", "n", 2)]),
        ("cluster&name=c", []),
        ("project_all&name=q", [("", "p", "", 11), ("", "q", "", 4)]),
    ):
        shown = await items(api, f"{FEBRUARY}&kind={kind}")
        names = [
            (each["cluster"], each["project"], each["namespace"], each["usage"]) for each in shown
        ]
        assert names == found, kind


async def test_the_path_of_a_project_shows_only_that_project(api: Api, rows: Rows) -> None:
    """Of whatever kind it is asked."""
    used(rows, "2026-02-06", hours=1, cluster="a", project="p", namespace="n")
    used(rows, "2026-02-06", hours=2, cluster="a", project="q", namespace="n")
    for kind, found in (
        ("project_all", [("", "p", "")]),
        ("project&name=p", [("", "p", "")]),
        ("project&name=q", []),
        ("namespace_all", [("a", "p", "n")]),
        ("cluster_all", [("a", "", "")]),
        ("cluster&name=a", [("a", "", "")]),
    ):
        shown = await items(api, f"{FEBRUARY}&kind={kind}", f"{BASE}/projects/p/costs/usage")
        assert [(each["cluster"], each["project"], each["namespace"]) for each in shown] == found
        assert [each["usage"] for each in shown] == [1] * len(found), kind


async def test_items_are_in_core_hours_and_gib_hours(api: Api, rows: Rows) -> None:
    """Each of its own type; devices are no item of this API."""
    used(rows, "2026-02-06", hours=3)
    used(rows, "2026-02-06", hours=5, unit=GIB_HOUR, type_="mem")
    used(rows, "2026-02-06", hours=7, unit=GIB_HOUR, type_="storage")
    used(rows, "2026-02-06", hours=9, type_="gpu")
    for item, hours in (("Cpu", 3), ("Memory", 5), ("Storage", 7)):
        (found,) = await items(api, f"{FEBRUARY}&item={item}")
        assert (found["item"], found["usage"]) == (item, hours)


async def test_methods_are_of_what_was_measured(api: Api, rows: Rows) -> None:
    """Reserved, used, or the larger of both per sample; whole numbers have no fraction."""
    bill_id = rows.bill()
    for day in (5, 6):
        rows.daily(
            bill_id,
            date(2026, 2, day),
            allocated=2 * CORE_HOUR,
            used=CORE_HOUR // 4,
            effective=3 * CORE_HOUR,
        )
    for method, hours in (("Effective", "6"), ("Request", "4"), ("Usage", "0.5")):
        answer = await api.get(f"{USAGE}?{FEBRUARY}&method={method}")
        assert f'"method":"{method}","usage":{hours},' in answer.text


async def test_sums_are_exact_before_they_are_rounded(api: Api, rows: Rows) -> None:
    """Beyond what a double or a bigint of base units holds."""
    for quantity in (10**30, 1, CORE_HOUR - 1, -(10**30)):
        rows.daily(rows.bill(), date(2026, 2, 6), effective=quantity)
    assert (await items(api, FEBRUARY))[0]["usage"] == 1


STEPS: tuple[tuple[str, list[tuple[str, str, int]]], ...] = (
        # Months are clipped at both ends.
        ("start=2027-12-31&end=2028-03-01",
         [("20271231", "20271231", 1), ("20280101", "20280131", 4), ("20280201", "20280229", 2),
          ("20280301", "20280301", 8)]),
        ("start=2028-01-02&end=2028-02-28", []),
        # The leap day counts for February.
        ("start=2028-02-29&end=2028-02-29", [("20280229", "20280229", 2)]),
        ("start=2028-02-28&end=2028-03-01&step=day",
         [("20280229", "20280229", 2), ("20280301", "20280301", 8)]),
        # Weeks begin on Monday, also where that is in the year before.
        ("start=2027-12-27&end=2028-01-09&step=week", [("20271227", "20280102", 5)]),
        ("start=2027-12-29&end=2028-01-01&step=week", [("20271229", "20280101", 5)]),
        ("start=2028-01-01&end=2028-01-01&step=week", [("20280101", "20280101", 4)]),
        ("start=2027-12-31&end=2028-01-01&step=day",
         [("20271231", "20271231", 1), ("20280101", "20280101", 4)]),
        # The last day is within, the one after it is not.
        ("start=2028-02-01&end=2028-02-29&step=week", [("20280228", "20280229", 2)]),
        ("start=2028-02-01&end=2028-02-28&step=week", []),
        ("start=2028-03-02&end=2028-03-31", []),
)  # fmt: skip


async def test_steps_are_of_the_calendar_and_clipped_to_the_range(api: Api, rows: Rows) -> None:
    """Usage of 1, 4, 2 and 8 on the last day of a year, the first, a leap day and the next."""
    hours = {"2027-12-31": 1, "2028-01-01": 4, "2028-02-29": 2, "2028-03-01": 8}
    bill_id = rows.bill()
    for day, each in hours.items():
        rows.daily(bill_id, date.fromisoformat(day), effective=each * CORE_HOUR)
    for query, found in STEPS:
        assert await spans(api, query) == found, query


async def test_a_date_is_a_utc_day_wherever_the_client_is(api: Api, rows: Rows) -> None:
    """On the days when clocks change elsewhere, too: such a day has 24 hours here."""
    reserved(rows, "p", 1, datetime(2026, 1, 1, tzinfo=UTC))
    for day in ("2026-03-29", "2026-10-25", "2026-03-08", "2026-11-01", "2026-07-01"):
        (found,) = await items(api, f"start={day}&end={day}&method=ProjectQuota")
        assert found["usage"] == 24


async def test_what_was_reserved_counts_used_or_not(api: Api, rows: Rows) -> None:
    """Quota x the time within each step that it held, of each version its own."""
    noon = datetime(2026, 2, 27, 12, tzinfo=UTC)
    reserved(rows, "p", 2, noon, noon + timedelta(days=2))
    reserved(rows, "p", 4, noon + timedelta(days=2))
    reserved(rows, "q", 3, noon, noon)  # replaced before it took effect
    used(rows, "2026-02-27", project="busy")
    reserving = "method=ProjectQuota"
    assert await spans(api, f"start=2026-02-01&end=2026-03-02&{reserving}") == [
        ("20260201", "20260228", 2 * 36),
        ("20260301", "20260302", 2 * 12 + 4 * 36),
    ]
    assert await spans(api, f"start=2026-02-26&end=2026-02-28&{reserving}&step=day") == [
        ("20260227", "20260227", 2 * 12),
        ("20260228", "20260228", 2 * 24),
    ]
    assert await spans(api, f"start=2026-02-26&end=2026-03-03&{reserving}&step=week") == [
        ("20260226", "20260301", 2 * 48 + 4 * 12),
        ("20260302", "20260303", 4 * 48),
    ]
    for kind, count in (
        ("project&name=p", 1), ("project&name=q", 0), ("cluster_all", 0), ("namespace_all", 0),
        ("project_all&item=Memory", 0),
    ):  # fmt: skip
        query = f"start=2026-03-02&end=2026-03-02&{reserving}&kind={kind}"
        assert len(await items(api, query)) == count, kind
    (found,) = await items(
        api, f"start=2026-03-02&end=2026-03-02&{reserving}", f"{BASE}/projects/p/costs/usage"
    )
    assert (found["project"], found["method"], found["usage"]) == ("p", "ProjectQuota", 96)


async def test_money_without_time_is_no_item(api: Api, rows: Rows) -> None:
    """What re-rating books has no length; a job that used nothing has one."""
    rows.daily(rows.bill(project="rerated"), date(2026, 2, 6), length_ms=0)
    rows.daily(rows.bill(project="idle"), date(2026, 2, 6))
    assert [(each["project"], each["usage"]) for each in await items(api, FEBRUARY)] == [
        ("idle", 0)
    ]


async def test_pages_come_one_after_the_other(api: Api, rows: Rows) -> None:
    """By start, then by name as bytes; the total is of all, beyond the last page, too."""
    names = ["b", "a", "é", "Z", "a b", ""]
    for name in names:
        used(rows, "2026-02-06", "2026-03-06", project=name)
    query = "start=2026-02-01&end=2026-03-31"
    order = [(month, name) for month in ("02", "03") for name in sorted(names, key=str.encode)]
    whole = await items(api, query)
    assert [(each["start"][4:6], each["project"]) for each in whole] == order
    shown: list[dict[str, Any]] = []
    for page, count in ((1, 5), (2, 5), (3, 2), (4, 0)):
        said = (await api.get(f"{USAGE}?{query}&pageSize=5&currentPage={page}")).json()
        assert (said["pageSize"], said["currentPage"], said["total"]) == (5, page, 12)
        assert len(said["items"]) == count
        shown += said["items"]
    assert shown == whole


async def test_a_page_has_500_items_at_most(api: Api, rows: Rows) -> None:
    """More counts as 500, however long the number is, and the answer says so."""
    bill_id = rows.bill()
    for number in range(501):
        rows.daily(bill_id, date(2025, 1, 1) + timedelta(days=number), effective=1)
    query = "start=2025-01-01&end=2026-12-31&step=day"
    for size, shown in (("501", 500), ("9" * 5000, 500), ("0500", 500), ("499", 499), ("1", 1)):
        said = (await api.get(f"{USAGE}?{query}&pageSize={size}")).json()
        assert (said["pageSize"], len(said["items"]), said["total"]) == (shown, shown, 501)
    far = (await api.get(f"{USAGE}?{query}&pageSize=500&currentPage={2**31 - 1}")).json()
    assert (far["items"], far["total"], far["currentPage"]) == ([], 501, 2**31 - 1)


DAY = "must be a day like 2026-02-06"
SIZE = "must be a whole number, at least 1"
PAGE = "must be a whole number from 1 to 2147483647"


REFUSED = (
        ("", "start: is required; end: is required"),
        ("start=2026-02-01", "end: is required"),
        ("end=2026-02-01", "start: is required"),
        ("start=&end=2026-02-01", "start: is required"),
        ("start=20260201&end=2026-02-01", f"start: {DAY}"),
        ("start=2026-02-30&end=2026-03-01", f"start: {DAY}"),
        ("start=0000-01-01&end=2026-03-01", f"start: {DAY}"),
        ("start=2026-02-01&end=2026-02-01T00:00:00Z", f"end: {DAY}"),
        ("start=2027-02-29&end=2027-03-01", f"start: {DAY}"),
        ("start=%D9%A22026-02-01&end=2026-02-01", f"start: {DAY}"),
        ("start=2026-02-02&end=2026-02-01", "end: is before start"),
        ("start=2024-01-01&end=2027-01-01",
         "end: is day 1097 of the range, which may have at most 1096: ask in parts"),
        ("start=0001-01-01&end=9999-12-31",
         "end: is day 3652059 of the range, which may have at most 1096: ask in parts"),
        (f"{FEBRUARY}&step=year", "step: Input should be 'day', 'week' or 'month'"),
        (f"{FEBRUARY}&step=Day", "step: Input should be 'day', 'week' or 'month'"),
        (f"{FEBRUARY}&kind=user",
         ("kind: Input should be 'project', 'namespace', 'cluster', 'project_all',"
          " 'namespace_all' or 'cluster_all'")),
        (f"{FEBRUARY}&item=Gpu", "item: Input should be 'Cpu', 'Memory' or 'Storage'"),
        (f"{FEBRUARY}&method=Fee",
         "method: Input should be 'Effective', 'Request', 'Usage' or 'ProjectQuota'"),
        (f"{FEBRUARY}&kind=project",
         "name: is required with the kind project; project_all needs none"),
        (f"{FEBRUARY}&kind=namespace&name=",
         "name: is required with the kind namespace; namespace_all needs none"),
        (f"{FEBRUARY}&kind=cluster",
         "name: is required with the kind cluster; cluster_all needs none"),
        (f"{FEBRUARY}&currentPage=0", f"currentPage: {PAGE}"),
        (f"{FEBRUARY}&currentPage=-1", f"currentPage: {PAGE}"),
        (f"{FEBRUARY}&currentPage=2147483648", f"currentPage: {PAGE}"),
        (f"{FEBRUARY}&currentPage=" + "9" * 5000, f"currentPage: {PAGE}"),
        (f"{FEBRUARY}&currentPage=1.0", f"currentPage: {PAGE}"),
        (f"{FEBRUARY}&pageSize=0", f"pageSize: {SIZE}"),
        (f"{FEBRUARY}&pageSize=-5", f"pageSize: {SIZE}"),
        (f"{FEBRUARY}&pageSize=%D9%A3", f"pageSize: {SIZE}"),
        (f"{FEBRUARY}&pageSize=all", f"pageSize: {SIZE}"),
        (f"{FEBRUARY}&start=2026-02-01", "start: is given twice"),
        (f"{FEBRUARY}&step=&Step=x&item=&ITEM=Disk",
         ("step: Input should be 'day', 'week' or 'month'; item: Input should be 'Cpu', 'Memory'"
          " or 'Storage'")),
)  # fmt: skip


async def test_what_cannot_be_asked_is_refused_with_the_parameter(api: Api) -> None:
    """400 as a Kubernetes Status, to the byte; in both paths."""
    paths = (USAGE, f"{BASE}/projects/p/costs/usage")
    for (query, message), path in product(REFUSED, paths):
        answer = await api.get(f"{path}?{query}")
        assert answer.status == 400, query
        assert answer.text == (
            '{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure",'
            f'"message":"{message}","reason":"BadRequest","code":400}}'
        )


async def test_the_longest_range_is_three_years(api: Api) -> None:
    """And the ends of the calendar are days like others."""
    for query in (
        "start=2024-01-01&end=2026-12-31",
        "start=0001-01-01&end=0003-12-31&step=week",
        "start=9997-01-01&end=9999-12-31&step=day&method=ProjectQuota",
    ):
        assert await items(api, query) == []


async def test_an_unknown_parameter_is_ignored_and_an_empty_one_is_absent(
    api: Api, rows: Rows
) -> None:
    """Whatever the case of a name that is known."""
    used(rows, "2026-02-06")
    query = f"{FEBRUARY.replace('start', 'START')}&colour=red&colour=blue&step=&kind=&pagesize=7"
    said = (await api.get(f"{USAGE}?{query}")).json()
    assert (said["pageSize"], said["total"]) == (7, 1)


async def test_the_currency_is_that_of_prices(pool: Pool, rows: Rows) -> None:
    """No amount is converted: there is none."""
    used(rows, "2026-02-06")
    async with served(pool, currency="CNY") as api:
        (found,) = await items(api, FEBRUARY)
    assert found["currency"] == "CNY"


async def test_other_errors_are_statuses_with_the_words_of_kubernetes(pool: Pool, api: Api) -> None:
    """Also where nothing is, below the API's own path."""
    viewer = {"Authorization": "Bearer x"}
    for method, path, headers, code, reason in (
        ("GET", f"{USAGE}?{FEBRUARY}", viewer, 401, "Unauthorized"),
        ("GET", f"{USAGE}?{FEBRUARY}", {"X-Forwarded-For": "1.2.3.4"}, 401, "Unauthorized"),
        ("GET", f"{BASE}/costs", {}, 404, "NotFound"),
        ("GET", f"{BASE}/projects//costs/usage?{FEBRUARY}", {}, 404, "NotFound"),
        ("GET", f"{BASE}/projects/a/b/costs/usage?{FEBRUARY}", {}, 404, "NotFound"),
        ("GET", "/platform/cost.alauda.io/v1", {}, 404, "NotFound"),
        ("POST", USAGE, {}, 405, "MethodNotAllowed"),
        ("DELETE", f"{BASE}/projects/p/costs/usage", {}, 405, "MethodNotAllowed"),
        ("GET", f"{USAGE}?{FEBRUARY}", {"Host": "a b"}, 400, "BadRequest"),
    ):
        answer = await api.ask(method, path, headers=headers)
        assert (answer.status, status(answer)["reason"]) == (code, reason), path
        assert ("WWW-Authenticate" in answer.headers) == (code == 401)
        assert answer.headers.get("Allow") == ("GET,HEAD" if code == 405 else None)
    limits = HttpSettings(requests_per_minute=1)
    async with served(pool, limits) as limited:
        assert (await limited.get(f"{USAGE}?{FEBRUARY}")).status == 200
        answer = await limited.get(f"{USAGE}?{FEBRUARY}")
    assert (answer.status, status(answer)["reason"]) == (429, "TooManyRequests")
    assert int(answer.headers["Retry-After"]) > 0


async def test_a_request_without_a_token_is_refused_to_the_byte(pool: Pool) -> None:
    """From a network that is not open."""
    async with served(pool, HttpSettings(open_to=())) as api:
        answer = await api.get(f"{USAGE}?{FEBRUARY}")
    assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert answer.text == (
        '{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"this '
        'network may not ask without a token; [http] open_to lists those that may","reason":'
        '"Unauthorized","code":401}'
    )


async def test_a_database_that_is_slow_is_503(pool: Pool, rows: Rows) -> None:
    """With what to do about it, and when to come again."""
    async with served(pool, HttpSettings(statement_seconds=1)) as api:
        rows.connection.execute(
            "CREATE OR REPLACE FUNCTION in_scope(user_id uuid, vc text, project text,"
            " scope_user_id uuid, scope_vc text, scope_project text)"
            " RETURNS boolean LANGUAGE sql AS 'SELECT pg_sleep(100) IS NULL'"
        )
        used(rows, "2026-02-06")
        answer = await api.get(f"{USAGE}?{FEBRUARY}")
    assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
    assert status(answer)["reason"] == "ServiceUnavailable"
    assert "statement_seconds" in answer.json()["message"]


HOSTILE = (
    "'; DROP TABLE daily; --", "a\r\nX-Evil: 1", "nul\x00", "\u202eright", "😀", "%s%(x)s{0}",
    "<script>", "../..", "=1+1", "a\\b\"c",
)  # fmt: skip


async def test_hostile_text_is_a_name_like_others(api: Api, rows: Rows) -> None:
    """Found where a job has it, and nowhere if none can; each is one name and no other."""
    for text in HOSTILE:
        is_storable = "\x00" not in text
        if is_storable:
            used(rows, "2026-02-06", project=text, namespace=text, cluster=text)
        name = quote(text, safe="")
        for kind in ("project", "namespace", "cluster"):
            found = await items(api, f"{FEBRUARY}&kind={kind}&name={name}")
            assert [each[kind] for each in found] == [text] * is_storable
        found = await items(api, FEBRUARY, f"{BASE}/projects/{name}/costs/usage")
        assert [each["project"] for each in found] == [text] * is_storable


async def test_hostile_text_is_not_repeated(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    """Neither in what is wrong with it nor in a header or the log."""
    parameters = ("start", "end", "step", "kind", "item", "method", "currentPage", "pageSize")
    for text, parameter in product(HOSTILE, parameters):
        rest = FEBRUARY.replace(parameter, "x")
        answer = await api.get(f"{USAGE}?{rest}&{parameter}={quote(text, safe='')}")
        assert (answer.status, status(answer)["reason"]) == (400, "BadRequest")
        assert text not in answer.json()["message"]
        assert "X-Evil" not in answer.headers
    assert not [text for text in HOSTILE if text in str([vars(each) for each in caplog.records])]


async def test_what_is_no_text_is_nobodys_name(api: Api, rows: Rows) -> None:
    """Lone surrogates, broken UTF-8, NUL."""
    used(rows, "2026-02-06")
    for raw in ("%ED%A0%80", "%FF", "%", "%00", "%2F"):
        assert await items(api, f"{FEBRUARY}&kind=project&name={raw}") == []
        assert await items(api, FEBRUARY, f"{BASE}/projects/{raw}/costs/usage") == []


async def test_a_request_that_is_too_long_is_refused(api: Api) -> None:
    """As whatever HTTP can say of it, never as a fault of ours; who sends on is hung up on."""
    for length in (8_200, 1_000_000):
        for target in (
            f"{USAGE}?{FEBRUARY}&kind=project&name={'a' * length}",
            f"{BASE}/projects/{'a' * length}/costs/usage?{FEBRUARY}",
        ):
            try:
                answer = await api.raw(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            except ConnectionError:
                answer = b""
            assert not answer or re.match(rb"HTTP/1\.[01] 4[0-9][0-9] ", answer), answer[:200]
    assert (await api.get(f"{USAGE}?{FEBRUARY}&name={'a' * 4_000}")).status == 200


async def test_a_token_sees_what_is_within_its_scope(api: Api, rows: Rows) -> None:
    """Sums of its own usage alone; of quotas, which are a project's, a project's viewer its own."""
    rows.user("mine", MINE.user_id)
    used(
        rows, "2026-02-06", hours=1, user_id=MINE.user_id, vc=MINE.vc, project=MINE.project,
        cluster="shared", namespace="shared",
    )  # fmt: skip
    used(
        rows, "2026-02-06", hours=2, user_id=THEIRS, vc="theirs", project="theirs",
        cluster="shared", namespace="shared",
    )  # fmt: skip
    for project in (MINE.project, "theirs"):
        reserved(rows, project, 1, datetime(2026, 2, 1, tzinfo=UTC))
    secrets = await tokens(api)
    is_of_all = {"admin": True, "viewer": True, "user": False, "vc": False, "project": False}
    for name, sees_all in is_of_all.items():
        own = 3 if sees_all else 1

        async def seen(query: str, path: str = USAGE, secret: str = secrets[name]) -> list[str]:
            headers = {"Authorization": f"Bearer {secret}"}
            answer = await api.ask("GET", f"{path}?{FEBRUARY}&{query}", headers=headers)
            return [f"{each['project']} {each['usage']}" for each in answer.json()["items"]]

        theirs = ["theirs 2"] * sees_all
        assert await seen("kind=cluster_all") == [f" {own}"], name
        assert await seen("kind=namespace_all") == [f"{MINE.project} 1", *theirs], name
        assert await seen("kind=project&name=theirs") == theirs, name
        assert await seen("", f"{BASE}/projects/theirs/costs/usage") == theirs, name
        assert await seen("", f"{BASE}/projects/{MINE.project}/costs/usage") == [
            f"{MINE.project} 1"
        ], name
        quotas = {"user": [], "vc": [], "project": [MINE.project]}
        assert await seen("method=ProjectQuota") == [
            f"{project} {28 * 24}" for project in quotas.get(name, [MINE.project, "theirs"])
        ], name
