"""The role matrix: every route x every role x own and foreign, read off the table of routes.

A new route fails here until it says what it needs (`Route.role`) and what to ask of it
(`CALLS`), and, if it is for scoped tokens, until it shows nothing of anybody else.
"""

from collections.abc import Mapping
from urllib.parse import quote

import pytest

from aggregator.api.app import ALL_ROUTES
from aggregator.api.auth import Role
from aggregator.api.route import Route
from aggregator.settings import HttpSettings
from aggregator.store.pool import Pool
from tests.integration.aggregator.api.client import Answer, Api, served
from tests.integration.aggregator.api.owners import FOREIGN, MINE, Owner, tokens
from tests.integration.aggregator.rows import NOON, Rows

ROLES = {
    "nobody": None,
    "admin": Role.ADMIN,
    "viewer": Role.VIEWER,
    "user": Role.SCOPED,
    "vc": Role.SCOPED,
    "project": Role.SCOPED,
}

DAY = "start=2026-02-06&end=2026-02-06"
DATES = "startDate=2026-02-06&endDate=2026-02-06"
PODS = "startTime=2026-02-06T00:00:00Z&endTime=2026-02-07T00:00:00Z&grouping=podId"

CALLS: dict[str, list[str]] = {
    "Get Bill List": ["", "?userId={user_id}", "?jobId={job}", "?vcName={vc}", "?running=true"],
    "Get Usage List": ["", "?userId={user_id}", "?job={job}"],
    "listUsageDetails": ["", "?jobId={job}"],
    "listConservation": ["?node={node}"],
    "getBillingUsage": ["", "?userId={user_id}"],
    "getBillingUsageAnalytics": [f"?{DATES}", f"?{DATES}&userId={{user_id}}"],
    "getBillingUsageHistory": ["", "?userId={user_id}"],
    "explainBill": ["?id={bill_id}", "?id={bill_id}"],
    "getCostUsage": [f"?{DAY}", f"?{DAY}&kind=project&name={{project}}"],
    "getProjectCostUsage": [f"?{DAY}", f"?{DAY}", f"?{DAY}&kind=namespace_all"],
    "PodBilling": [f"?{PODS}", f"?{PODS}&podId={{job}}"],
    "EndpointBilling": [f"?{PODS}", f"?{PODS}&endpointId={{job}}"],
    "getHourlyUsage": ["", "?teamId={vc}", "?projectId={project}"],
    "getTeamHourlyUsage": ["", "", "?projectId={project}"],
    "listTeamHourlyUsage": ["", ""],
}
"""What to ask of an operation so that it answers with something of an owner; "" if not said."""

NAMELESS = {"NetworkVolumeBilling", "listHourlyUsage", "listTeamHourlyUsage"}
"""What shows sums without a name; the tests of its dialect hold it to the scopes."""

EMPTY = ('{"data":[],', '"byDate":[]', '"items":[]}', '"teams":[]}')
"""What answers hold where there is nothing."""

CHANGES_NOTHING = {"previewRerate", "quote"}
"""Questions that are too long for a URL."""


def calls(route: Route, owner: Owner, **parts: str) -> list[str]:
    """Targets of requests for what is an owner's; `parts` of the path may be others."""
    known: dict[str, object] = {
        "key": "x",
        "file": "start.js",
        "period": "2026-01",
        "project": owner.project,
        "teamId": owner.vc,
        "timestamp": int(NOON.timestamp()),
    }
    path = route.path.format(**_quoted(known | parts))
    names: dict[str, object] = {
        "user_id": owner.user_id,
        "job": owner.job,
        "vc": owner.vc,
        "project": owner.project,
        "node": owner.node,
        "bill_id": owner.bill_id,
    }
    quoted = _quoted(names)
    return [path + call.format(**quoted) for call in CALLS.get(route.operation_id, [""])]


def _quoted(names: Mapping[str, object]) -> dict[str, str]:
    """Names as they stand in a URL, also those that UTF-8 has not."""
    return {
        name: quote(str(value), safe="", errors="surrogatepass") for name, value in names.items()
    }


def shows_nothing(answer: Answer) -> bool:
    """Whether an answer, in the form of its API, is that there is no such thing."""
    is_empty = answer.text == "[]" or any(each in answer.text for each in EMPTY)
    return answer.status == 404 or is_empty


async def seeded(api: Api, rows: Rows) -> dict[str, str]:
    """Everything twice: ours and another's."""
    for owner in (MINE, FOREIGN):
        owner.insert(rows)
        await api.post("/api/Ratios", {"key": f"cpu@{owner.vc}", "value": 1})
    await api.post("/api/Ratios", {"key": "cpu", "value": 2})
    return {"nobody": "", **await tokens(api)}


async def test_every_route_lets_in_whom_it_says_and_nobody_else(
    pool: Pool, api: Api, rows: Rows
) -> None:
    """401 without a token, 403 without the right, in whatever way it is asked."""
    secrets = await seeded(api, rows)
    async with served(pool, HttpSettings(open_to=(), anonymous_per_minute=0)) as closed:
        for route in ALL_ROUTES:
            for name, secret in secrets.items():
                headers = {"Authorization": f"Bearer {secret}"} if secret else {}
                for target in calls(route, MINE):
                    answer = await closed.ask(route.method, target, headers=headers)
                    said = (route.operation_id, name, target, answer.status)
                    role = ROLES[name]
                    if route.role is None:
                        assert answer.status not in {401, 403}, said
                    elif role is None:
                        assert answer.status == 401, said
                    elif role < route.role:
                        assert answer.status == 403, said
                    else:
                        assert answer.status not in {401, 403, 500}, said


@pytest.mark.parametrize("name", ["user", "vc", "project"])
async def test_what_is_anothers_is_not_there(api: Api, rows: Rows, name: str) -> None:
    """No list names it, and whoever asks for it by name finds nothing; what is ours is there."""
    secret = (await seeded(api, rows))[name]
    headers = {"Authorization": f"Bearer {secret}"}
    for route in ALL_ROUTES:
        if route.role is not Role.SCOPED or route.method != "GET":
            continue
        if route.operation_id in NAMELESS:
            continue
        for target in calls(route, MINE):
            answer = await api.ask("GET", target, headers=headers)
            assert answer.status == 200, target
            assert FOREIGN.mark not in answer.text, target
            assert str(FOREIGN.user_id) not in answer.text, target
            assert MINE.mark in answer.text, target
            assert answer.headers.get("X-Unpriced-Items", "1") == "1", target
        for target in calls(route, FOREIGN)[1:]:
            answer = await api.ask("GET", target, headers=headers)
            if "running" not in target:
                assert shows_nothing(answer), target


async def test_a_viewer_of_everything_sees_everything(api: Api, rows: Rows) -> None:
    """In each list that a scoped token sees a part of."""
    secret = (await seeded(api, rows))["viewer"]
    for route in ALL_ROUTES:
        is_list = route.role is Role.SCOPED and route.method == "GET"
        if is_list and route.operation_id not in NAMELESS:
            for owner in (MINE, FOREIGN):
                target = calls(route, owner)[0]
                bearer = {"Authorization": f"Bearer {secret}"}
                answer = await api.ask("GET", target, headers=bearer)
                assert owner.mark in answer.text, target


def test_nobody_but_an_administrator_changes_anything() -> None:
    """By the table."""
    changing = [route for route in ALL_ROUTES if route.method != "GET"]
    others = {route.operation_id for route in changing if route.role is not Role.ADMIN}
    assert others == CHANGES_NOTHING


def test_what_to_ask_is_said_of_routes_that_are() -> None:
    """No call outlives its route."""
    assert set(CALLS) <= {route.operation_id for route in ALL_ROUTES}
