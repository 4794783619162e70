"""Claims about the Hourly API."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeAlias
from urllib.parse import quote
from uuid import UUID

from aggregator.model import NO_USER
from aggregator.settings import HttpSettings
from aggregator.store.pool import Pool
from aggregator.units import UNITS
from tests.integration.aggregator.api.client import Answer, Api, served
from tests.integration.aggregator.api.owners import FOREIGN, MINE, tokens
from tests.integration.aggregator.api.test_document import assert_as_documented
from tests.integration.aggregator.rows import NOON, Rows

Json: TypeAlias = Any

HOUR = timedelta(hours=1)
USAGE = "/v1/billing/usage"
SECONDS = int(NOON.timestamp())
ZEROS = {"total": 0, "cpu": 0, "memory": 0, "storage": 0, "gpu": 0}
NO_BYOC = {"price": {"total": 0, "vcpu": 0, "memory": 0, "gpuMemory": 0, "cluster": 0}}


def cents(value: str | int, type_: str = "cpu") -> Decimal:
    """The undivided amount that comes to so many cents."""
    return Decimal(value) / 100 * UNITS[type_].unit_hour


def put(  # noqa: PLR0917 - a row of a table
    rows: Rows,
    price: str | int,
    vc: str = "vc1",
    project: str = "p1",
    job: str = "job-1",
    kind: str = "job",
    type_: str = "cpu",
    *,
    hour: datetime = NOON,
    user_id: UUID = NO_USER,
    job_name: str = "name",
) -> UUID:
    """An item that comes to so many cents in an hour."""
    bill_id = rows.bill(
        job, vc=vc, project=project, kind=kind, type_=type_, user_id=user_id, job_name=job_name
    )
    rows.charge(bill_id, hour=hour, amount=cents(price, type_))
    return bill_id


def priced(**parts: float) -> Json:
    """A price of these parts, whose sum needs no rounding."""
    return {**ZEROS, **parts, "total": sum(parts.values())}


async def usage(api: Api, query: str = "", at: int = SECONDS) -> Json:
    """What an hour cost."""
    answer = await api.get(f"{USAGE}/{at}{query}")
    assert answer.status == 200, answer.text
    return answer.json()["data"]["paasUsage"]


def assert_fault(answer: Answer, status: int, message: str, details: Json) -> None:
    """Fail unless that is all that the answer says, in the original's form."""
    assert answer.status == status
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    identity = answer.headers["X-Request-Id"]
    fault = {"status": status, "message": message, "id": identity, "details": details}
    assert answer.body == json.dumps({"error": fault}).encode()


async def test_an_hour_is_answered_to_the_byte(api: Api, rows: Rows) -> None:
    """Teams alone, since there are several and nothing was filtered."""
    put(rows, 150, "vc1")
    put(rows, "0.5", "vc2", type_="mem")
    answer = await api.get(f"{USAGE}/{SECONDS}")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    assert answer.text == (
        '{"data":{"timestamp":1770379200,"paasUsage":{'
        '"price":{"total":150.5,"cpu":150,"memory":0.5,"storage":0,"gpu":0},"teams":['
        '{"id":"vc1","name":"vc1",'
        '"price":{"total":150,"cpu":150,"memory":0,"storage":0,"gpu":0}},'
        '{"id":"vc2","name":"vc2",'
        '"price":{"total":0.5,"cpu":0,"memory":0.5,"storage":0,"gpu":0}}]},'
        '"byocUsage":{'
        '"price":{"total":0,"vcpu":0,"memory":0,"gpuMemory":0,"cluster":0}}}}'
    )


async def test_an_hour_without_usage_is_zeros(api: Api, rows: Rows) -> None:
    """`teams` is there, and empty; so also for what no filter can find."""
    put(rows, 1)
    nothing: Json = {"price": ZEROS, "teams": []}
    assert await usage(api, at=SECONDS - 3600) == nothing
    for query in (
        "teamId=vc9", "projectId=p9", "resourceType=volume", "teamId=%00", "projectId=%ED%A0%80"
    ):  # fmt: skip
        assert await usage(api, f"?{query}") == nothing, query


def depth(answer: Json) -> Json:
    """The ids of teams, projects, types and resources, as deep as they are shown."""
    return {
        team["id"]: {
            project["id"]: {
                each["resourceType"]: [resource["id"] for resource in each["resources"]]
                for each in project["resourceTypes"]
            }
            if "resourceTypes" in project
            else ()
            for project in team["projects"]
        }
        if "projects" in team
        else ()
        for team in answer["teams"]
    }


LEVELS: Sequence[tuple[str, Json]] = (
    ("", {"a": (), "b": ()}),
    ("teamId=a", {"a": {"p1": (), "p2": ()}}),
    (
        "projectId=p1",
        {"a": {"p1": {"job": ["j1"], "service": ["s1"]}}, "b": {"p1": {"job": ["j3"]}}},
    ),
    ("projectId=p2", {"a": {"p2": {"job": ["j2"]}}}),
    ("resourceType=job", {"a": (), "b": ()}),
    ("resourceType=service", {"a": {"p1": {"service": ["s1"]}}}),
    ("teamId=a&resourceType=job", {"a": {"p1": {"job": ["j1"]}, "p2": {"job": ["j2"]}}}),
    ("teamId=a&projectId=p1", {"a": {"p1": {"job": ["j1"], "service": ["s1"]}}}),
    ("teamId=b&projectId=p1&resourceType=job", {"b": {"p1": {"job": ["j3"]}}}),
    ("teamId=b&projectId=p2", {}),
    ("teamId=&projectId=&resourceType=", {"a": (), "b": ()}),
    ("TeamID=b&unknown=1", {"b": {"p1": ()}}),
)  # fmt: skip


async def test_filters_decide_how_deep_an_answer_goes(api: Api, rows: Rows) -> None:
    """Projects for one team or a project; resources within a project for a project or a type."""
    put(rows, 1, "a", "p1", "j1")
    put(rows, 2, "a", "p1", "s1", "service")
    put(rows, 4, "a", "p2", "j2")
    put(rows, 8, "b", "p1", "j3")
    document = (await api.get("/openapi.json")).json()
    for query, shown in LEVELS:
        assert depth(await usage(api, f"?{query}")) == shown, query
        answer = await api.get(f"{USAGE}/{SECONDS}?{query}")
        assert_as_documented(document, f"{USAGE}/{{timestamp}}", answer)


async def test_prices_are_of_what_the_filters_leave(api: Api, rows: Rows) -> None:
    """On each level, the sum of what is below it; the customer's own nodes stay as they are."""
    put(rows, 1, "a", "p1", "j1")
    put(rows, 16, "a", "p1", "j1", type_="gpu")
    put(rows, 2, "a", "p1", "s1", "service")
    put(rows, 4, "a", "p2", "j2", type_="storage")
    put(rows, 8, "b", "p1", "j3")
    whole = await usage(api)
    assert whole["price"] == priced(cpu=11, storage=4, gpu=16)
    assert [team["price"]["total"] for team in whole["teams"]] == [23, 8]
    jobs = await usage(api, "?resourceType=job")
    assert [team["price"]["total"] for team in jobs["teams"]] == [21, 8]
    (team,) = (await usage(api, "?projectId=p1&teamId=a"))["teams"]
    (project,) = team["projects"]
    assert team["price"] == project["price"] == priced(cpu=3, gpu=16)
    job, service = project["resourceTypes"]
    assert (job["price"], service["price"]) == (priced(cpu=1, gpu=16), priced(cpu=2))
    assert job["resources"] == [{"id": "j1", "name": "name", "price": priced(cpu=1, gpu=16)}]
    answer = await api.get(f"{USAGE}/{SECONDS}?resourceType=volume")
    assert answer.json()["data"]["byocUsage"] == NO_BYOC


async def test_one_team_alone_is_shown_with_its_projects(api: Api, rows: Rows) -> None:
    """Also where it is alone by chance."""
    put(rows, 1, "a", "p1")
    put(rows, 1, "a", "p2")
    assert depth(await usage(api)) == {"a": {"p1": (), "p2": ()}}


async def test_the_total_is_rounded_once(api: Api, rows: Rows) -> None:
    """It is the exact sum: 0.1 and 0.2 are 0.3, not 0.30000000000000004; so on each level."""
    put(rows, "0.1", type_="cpu")
    put(rows, "0.2", type_="mem")
    found = await usage(api, "?projectId=p1")
    price = priced(cpu=0.1, memory=0.2) | {"total": 0.3}
    (team,) = found["teams"]
    (project,) = team["projects"]
    (jobs,) = project["resourceTypes"]
    (job,) = jobs["resources"]
    assert [each["price"] for each in (found, team, project, jobs, job)] == [price] * 5


async def test_thirds_of_a_cent_add_up(api: Api, rows: Rows) -> None:
    """Parts that no double holds come to a whole."""
    for job in ("a", "b", "c"):
        rows.charge(rows.bill(job, type_="gpu"), amount=cents(1, "gpu") / 3)
    found = await usage(api, "?projectId=p1")
    assert found["price"] == priced(gpu=1)
    (jobs,) = found["teams"][0]["projects"][0]["resourceTypes"]
    assert {each["price"]["gpu"] for each in jobs["resources"]} == {1 / 3}


async def test_npus_count_as_gpus(api: Api, rows: Rows) -> None:
    """They have no price of their own in this API."""
    put(rows, 3, type_="gpu")
    put(rows, 4, type_="npu")
    assert (await usage(api))["price"] == priced(gpu=7)


async def test_a_job_on_several_nodes_is_one_resource(api: Api, rows: Rows) -> None:
    """By its id."""
    put(rows, 1, job="j")
    put(rows, 2, job="j")
    (team,) = (await usage(api, "?projectId=p1"))["teams"]
    (jobs,) = team["projects"][0]["resourceTypes"]
    assert [(each["id"], each["price"]["total"]) for each in jobs["resources"]] == [("j", 3)]


async def test_an_adjustment_counts_where_it_is_booked(api: Api, rows: Rows) -> None:
    """As money of that hour, with the names of what it is of."""
    bill_id = put(rows, 5)
    rows.adjustment(bill_id, billed=1, hour=NOON + HOUR)
    rows.connection.execute("UPDATE adjustment SET amount = %s", (cents(-2),))
    assert (await usage(api))["price"] == priced(cpu=5)
    assert (await usage(api, at=SECONDS + 3600))["price"] == priced(cpu=-2)
    totals = [each["paasUsage"]["price"]["total"] for each in (await hours(api))["usage"]]
    assert totals == [-2, 5]


FIRSTS = (
    datetime(2026, 2, 28, 23, tzinfo=UTC),
    datetime(2028, 2, 28, 23, tzinfo=UTC),
    datetime(2028, 2, 29, 23, tzinfo=UTC),
    datetime(2026, 3, 29, 1, tzinfo=UTC),  # clocks are put forward in Europe
    datetime(1970, 1, 1, tzinfo=UTC),
)


async def test_any_instant_names_its_hour(api: Api, rows: Rows) -> None:
    """The last second too, and nothing of the next hour: months, leap days and DST end nothing."""
    for first in FIRSTS:
        put(rows, 1, hour=first)
        put(rows, 2, hour=first + HOUR)
        at = int(first.timestamp())
        for text in (str(at), str(at + 1800), str(at + 3599), f"{at + 3599}.999999999", f"0{at}"):
            answer = await api.get(f"{USAGE}/{text}")
            assert answer.json()["data"]["timestamp"] == at, text
            assert answer.json()["data"]["paasUsage"]["price"]["total"] == 1, text
        assert (await usage(api, at=at + 3600))["price"]["total"] == 2


TIMESTAMP = "must be a Unix timestamp in seconds, like 1770379200"


NO_TIMESTAMPS = (
    "x", "-1", "1e9", "1.", ".5", "0x10", "NaN", "+1", "%201", "1%0A", "1770379200000", "1%2F2",
    "%D9%A1%D9%A2", "%00", "2026-02-06T12:00:00Z", "1.0123456789",
)  # fmt: skip


async def test_what_is_no_timestamp_is_a_bad_request(api: Api) -> None:
    """Milliseconds are none."""
    for text in NO_TIMESTAMPS:
        answer = await api.get(f"{USAGE}/{text}")
        assert_fault(answer, 400, f"timestamp: {TIMESTAMP}", {"timestamp": [TIMESTAMP]})


async def test_the_greatest_timestamp_is_an_hour_too(api: Api) -> None:
    """In the year 5138."""
    answer = await api.get(f"{USAGE}/99999999999")
    assert (answer.status, answer.json()["data"]["timestamp"]) == (200, 99999997200)


async def test_every_resource_type_that_is_shown_can_be_asked_for(api: Api, rows: Rows) -> None:
    """Also one that the original has not, such as a jobs file may give; others cost nothing."""
    put(rows, 1, job="a")
    put(rows, 2, job="b", kind="notebook")
    (team,) = (await usage(api, "?projectId=p1"))["teams"]
    shown = {each["resourceType"]: each["price"] for each in team["projects"][0]["resourceTypes"]}
    assert shown == {"job": priced(cpu=1), "notebook": priced(cpu=2)}
    for kind, price in shown.items():
        assert (await usage(api, f"?resourceType={kind}"))["price"] == price
    for kind in ("Job", "jobs", "volume", "%27%20OR%201=1--", "%00"):
        assert await usage(api, f"?resourceType={kind}") == {"price": ZEROS, "teams": []}, kind


async def test_a_filter_that_comes_twice_is_a_bad_request(api: Api) -> None:
    """Either could be meant."""
    twice = await api.get(f"{USAGE}/{SECONDS}?teamId=a&teamId=b")
    assert_fault(twice, 400, "teamId: is given twice", {"teamId": ["is given twice"]})


async def hours(api: Api, query: str = "", path: str = USAGE) -> Json:
    """A page of the list, with its pagination."""
    answer = await api.get(f"{path}{query}")
    assert answer.status == 200, answer.text
    return answer.json()["data"] | answer.json()["pagination"]


def stamps(page: Json) -> list[int]:
    """Which hours a page shows, counted from noon."""
    return [(each["timestamp"] - SECONDS) // 3600 for each in page["usage"]]


async def test_the_list_is_answered_to_the_byte(api: Api, rows: Rows) -> None:
    """The most recent hour first; hours without usage are left out; no cursor on the last page."""
    bill_id = put(rows, 1)
    rows.charge(bill_id, hour=NOON + 3 * HOUR, amount=cents("2.5"))
    answer = await api.get(USAGE)
    byoc = '"byocUsage":{"price":{"total":0,"vcpu":0,"memory":0,"gpuMemory":0,"cluster":0}}'
    assert answer.text == (
        '{"data":{"usage":['
        '{"timestamp":1770390000,"paasUsage":{'
        '"price":{"total":2.5,"cpu":2.5,"memory":0,"storage":0,"gpu":0}},' + byoc + "},"
        '{"timestamp":1770379200,"paasUsage":{'
        '"price":{"total":1,"cpu":1,"memory":0,"storage":0,"gpu":0}},' + byoc + "}]},"
        '"pagination":{"hasNextPage":false,"count":2}}'
    )
    document = (await api.get("/openapi.json")).json()
    assert_as_documented(document, USAGE, answer)
    assert_as_documented(document, USAGE, await api.get(f"{USAGE}?per_page=1"))


async def test_an_empty_list_has_pages_too(api: Api, rows: Rows) -> None:
    """One, which is the last."""
    assert await hours(api) == {"usage": [], "hasNextPage": False, "count": 0}


def many(rows: Rows, count: int) -> None:
    """An item with a cent in each of so many hours from noon on."""
    bill_id = rows.bill()
    meter_id = rows.meter(bill_id)
    for number in range(count):
        rows.charge(bill_id, hour=NOON + number * HOUR, amount=cents(1), meter_id=meter_id)


async def test_pages_are_of_fifty_hours_unless_said(api: Api, rows: Rows) -> None:
    """From 1 to 100; cursors and numbers lead through the same pages."""
    many(rows, 102)
    first = await hours(api)
    assert (stamps(first), first["count"], first["hasNextPage"]) == (
        list(range(101, 51, -1)), 50, True
    )  # fmt: skip
    second = await hours(api, f"?cursor={quote(first['cursor'])}")
    assert stamps(second) == list(range(51, 1, -1))
    third = await hours(api, f"?cursor={quote(second['cursor'])}&per_page=50&page=1")
    assert (stamps(third), third["hasNextPage"], "cursor" in third) == ([1, 0], False, False)
    assert [await hours(api, f"?page={number}") for number in (1, 2, 3)] == [first, second, third]
    assert stamps(await hours(api, "?per_page=100&page=2")) == [1, 0]
    assert stamps(await hours(api, "?per_page=1&page=102")) == [0]
    assert await hours(api, "?page=4") == {"usage": [], "hasNextPage": False, "count": 0}
    exact = await hours(api, "?per_page=51&page=2")
    assert (exact["count"], exact["hasNextPage"]) == (51, False)


async def test_a_cursor_holds_while_hours_come(api: Api, rows: Rows) -> None:
    """Nothing is shown twice, nothing left out."""
    many(rows, 4)
    first = await hours(api, "?per_page=2")
    put(rows, 1, hour=NOON + 9 * HOUR)
    assert stamps(await hours(api, f"?per_page=2&cursor={quote(first['cursor'])}")) == [1, 0]


async def test_a_range_is_of_hours_that_begin_in_it(api: Api, rows: Rows) -> None:
    """Half-open and to the second; the range goes on from page to page."""
    many(rows, 6)
    noon = SECONDS

    def within(start: int, end: int | None = None) -> str:
        return f"?startTime={noon + start}" + ("" if end is None else f"&endTime={noon + end}")

    for start, end, found in (
        (0, None, [5, 4, 3, 2, 1, 0]),
        (3600, 10800, [2, 1]),
        (3601, 10801, [3, 2]),
        (3599, 3601, [1]),
        (3600, 3600, []),
        (10800, 3600, []),
        (-SECONDS, 99999999999 - SECONDS, [5, 4, 3, 2, 1, 0]),
    ):
        assert stamps(await hours(api, within(start, end))) == found, (start, end)
    first = await hours(api, f"{within(3600, 18000)}&per_page=2")
    second = await hours(api, f"{within(3600, 18000)}&per_page=2&cursor={quote(first['cursor'])}")
    assert (stamps(first), stamps(second)) == ([4, 3], [2, 1])
    assert (first["hasNextPage"], second["hasNextPage"]) == (True, False)


async def test_gaps_are_leapt_over(api: Api, rows: Rows) -> None:
    """Up to a year where no start is said; all of them where it is."""
    days = (0, 1, 40, 400, 1200)
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)  # noqa: TID251
    bill_id = rows.bill()
    for each in days:
        rows.charge(bill_id, hour=now - timedelta(days=each), amount=cents(1))

    def ages(page: Json) -> list[int]:
        return [(int(now.timestamp()) - each["timestamp"]) // 86400 for each in page["usage"]]

    assert ages(await hours(api)) == [0, 1, 40, 400]
    first = await hours(api, "?per_page=2")
    assert ages(await hours(api, f"?per_page=2&cursor={quote(first['cursor'])}")) == [40, 400]
    assert ages(await hours(api, "?startTime=0")) == list(days)


COUNT = "must be a whole number from 1 to {}"
STAMP = "must be a Unix timestamp in whole seconds, like 1770379200"
PLACE = "is not one that an answer gave: begin without it"


NO_LISTS: Sequence[tuple[str, str, str, Sequence[str]]] = (
    ("", "per_page", COUNT.format(100), ("0", "101", "x", "1.5", "-1")),
    (
        "",
        "page",
        COUNT.format(200) + "; a cursor leads further",
        ("0", "201", "x", "9" * 10, "1&page=1"),
    ),
    ("", "startTime", STAMP, ("x", "-1", "1.5", "9" * 12, "1e3")),
    ("startTime=0&", "endTime", STAMP, ("x", "-1", "%00")),
    ("", "cursor", PLACE, ("x", "%ED%A0%80", "YmVmb3JlIHg=", "e30=", "a" * 4000)),
    ("", "endTime", "requires startTime", ("1",)),
)


async def test_what_a_list_is_not_asked_is_a_bad_request(api: Api) -> None:
    """With the parameter and what it must be."""
    for before, field, reason, texts in NO_LISTS:
        for text in texts:
            answer = await api.get(f"{USAGE}?{before}{field}={text}")
            said = "is given twice" if "&" in text else reason
            assert_fault(answer, 400, f"{field}: {said}", {field: [said]})


async def test_a_team_in_the_path_is_the_filter(api: Api, rows: Rows) -> None:
    """For an hour and for the list, whatever its name; what is no team is not found."""
    name = "a/b ü.'\"<i>"
    put(rows, 1, name)
    put(rows, 2, "other")
    team = f"/v1/teams/{quote(name, safe='')}/billing/usage"
    answer = await api.get(f"{team}/{SECONDS}")
    assert answer.json() == (await api.get(f"{USAGE}/{SECONDS}?teamId={quote(name)}")).json()
    assert [each["id"] for each in answer.json()["data"]["paasUsage"]["teams"]] == [name]
    (hour,) = (await hours(api, path=team))["usage"]
    assert hour["paasUsage"]["price"] == priced(cpu=1)
    assert stamps(await hours(api, f"?startTime={SECONDS + 1}", path=team)) == []
    for path in (f"/{SECONDS}", ""):
        for unknown in ("nobody", "%00", "a"):
            missing = await api.get(f"/v1/teams/{unknown}/billing/usage{path}")
            reason = "is no team that this caller may see"
            message = "there is no team with this id"
            assert_fault(missing, 404, message, {"teamId": [reason]})


async def test_what_is_not_there_is_said_in_the_originals_form(pool: Pool, api: Api) -> None:
    """Paths, methods and tokens."""
    there = "there is nothing at this path; /docs lists what there is"
    for path in (
        f"{USAGE}/",
        f"{USAGE}/0/x",
        f"{USAGE}/x/0",
        "/v1/teams/a",
        "/v1/teams/a/billing/usage/",
        "/v1/teams/a/billing/usage/0/x",
    ):
        assert_fault(await api.get(path), 404, there, {})
    wrong = await api.ask("POST", USAGE)
    assert_fault(wrong, 405, "this path answers to GET, HEAD only", {})
    async with served(pool, HttpSettings(open_to=())) as closed:
        for path in (USAGE, f"{USAGE}/{SECONDS}", "/v1/teams/a/billing/usage"):
            answer = await closed.get(path)
            words = "this network may not ask without a token; [http] open_to lists those that may"
            assert_fault(answer, 401, words, {})
            assert answer.headers["WWW-Authenticate"] == "Bearer"


async def test_a_database_that_is_away_is_said_in_the_originals_form(api: Api, pool: Pool) -> None:
    """503, with a time to come back."""
    await pool.close()
    for path in (f"{USAGE}/{SECONDS}", USAGE):
        answer = await api.get(path)
        assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
        assert answer.json()["error"]["status"] == 503


async def test_every_answer_says_what_is_left(pool: Pool) -> None:
    """Also an error; beyond the limit nothing is, and where there is none nothing is said."""
    async with served(pool, HttpSettings(requests_per_minute=3)) as limited:
        paths = (f"{USAGE}/{SECONDS}", f"{USAGE}/x", USAGE, USAGE)
        answers = [await limited.get(path) for path in paths]
    assert [each.status for each in answers] == [200, 400, 200, 429]
    assert [each.headers["x-ratelimit-limit"] for each in answers] == ["3"] * 4
    assert [each.headers["x-ratelimit-remaining"] for each in answers] == ["2", "1", "0", "0"]
    assert all(1 <= int(each.headers["x-ratelimit-reset"]) <= 60 for each in answers)
    assert answers[-1].json()["error"]["message"].startswith("at most 3 requests a minute")
    async with served(pool, HttpSettings(requests_per_minute=0)) as free:
        assert "x-ratelimit-limit" not in (await free.get(USAGE)).headers


async def test_who_is_refused_learns_what_is_left_too(pool: Pool) -> None:
    """Without a token or with a wrong one: each 401 counts, and the 429 that ends it."""
    wrong = {"Authorization": "Bearer nodemeter_" + "x" * 43}
    for headers in ({}, wrong):
        settings = HttpSettings(open_to=(), anonymous_per_minute=2)
        async with served(pool, settings) as limited:
            answers = [await limited.ask("GET", USAGE, headers=headers) for _ in range(3)]
        assert [each.status for each in answers] == [401, 401, 429]
        assert [each.headers["x-ratelimit-limit"] for each in answers] == ["2"] * 3
        assert [each.headers["x-ratelimit-remaining"] for each in answers] == ["1", "0", "0"]
        assert all(1 <= int(each.headers["x-ratelimit-reset"]) <= 60 for each in answers)


async def test_a_token_sees_its_own_hours(api: Api, rows: Rows) -> None:
    """For each scope: its own money, and of another's team not even that it is there."""
    put(rows, 1, MINE.vc, MINE.project, user_id=MINE.user_id)
    put(rows, 2, FOREIGN.vc, FOREIGN.project, user_id=FOREIGN.user_id, hour=NOON)
    put(rows, 4, FOREIGN.vc, FOREIGN.project, user_id=FOREIGN.user_id, hour=NOON + HOUR)
    for name, secret in (await tokens(api)).items():
        bearer = {"Authorization": f"Bearer {secret}"}
        total = 3 if name in {"admin", "viewer"} else 1
        answer = await api.ask("GET", f"{USAGE}/{SECONDS}", headers=bearer)
        assert answer.json()["data"]["paasUsage"]["price"] == priced(cpu=total), name
        listed = (await api.ask("GET", USAGE, headers=bearer)).json()["data"]["usage"]
        assert [each["paasUsage"]["price"]["total"] for each in listed][-1] == total, name
        assert len(listed) == (2 if total == 3 else 1), name
        for path in (f"/{SECONDS}", ""):
            team = f"/v1/teams/{FOREIGN.vc}/billing/usage{path}"
            status = (await api.ask("GET", team, headers=bearer)).status
            assert status == (200 if total == 3 else 404), name


async def test_a_teams_token_knows_its_team_before_it_has_a_job(api: Api, rows: Rows) -> None:
    """Zeros, and not 404."""
    secret = (await tokens(api))["vc"]
    bearer = {"Authorization": f"Bearer {secret}"}
    for path in (f"/{SECONDS}", ""):
        target = f"/v1/teams/{MINE.vc}/billing/usage{path}"
        assert (await api.ask("GET", target, headers=bearer)).status == 200


async def test_names_from_nodes_come_out_as_they_went_in(api: Api, rows: Rows) -> None:
    """Whatever a browser, a terminal or a database would make of them."""
    name = "<script>alert(1)</script>\u202e\U0001f4a3' OR 1=1 --\\"
    put(rows, 1, vc=name, project=name, job=name, job_name=name)
    answer = await api.get(f"{USAGE}/{SECONDS}?projectId={quote(name)}")
    (team,) = answer.json()["data"]["paasUsage"]["teams"]
    (jobs,) = team["projects"][0]["resourceTypes"]
    assert (team["id"], jobs["resources"][0]["id"], jobs["resources"][0]["name"]) == (name,) * 3
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_who_has_an_hour_already_is_told_so(api: Api, rows: Rows) -> None:
    """By its tag."""
    put(rows, 1)
    tag = (await api.get(f"{USAGE}/{SECONDS}")).headers["ETag"]
    again = await api.get(f"{USAGE}/{SECONDS}", If_None_Match=tag)
    assert (again.status, again.body) == (304, b"")
