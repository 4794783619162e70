"""Claims about the OpenAPI document and about its reader."""

import asyncio
import os
import re
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias
from uuid import UUID

import jsonschema_rs
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from aggregator.api.app import ALL_ROUTES, build_app
from aggregator.api.hourly import queries as hourly
from aggregator.api.item_query import write_cursor
from aggregator.billing.item_lists import Position
from aggregator.metrics import Metrics
from aggregator.settings import HttpSettings, Settings
from aggregator.store.pool import Pool
from tests.integration.aggregator.api.client import Answer, Api, served
from tests.integration.aggregator.api.owners import FOREIGN, MINE, SCOPES, tokens
from tests.integration.aggregator.rows import NOON, Rows

FUZZ_SECONDS = int(os.environ.get("FUZZ_SECONDS", "0"))
HOUR_MS = 3_600_000
RANGE = "from=2026-02-06T00:00:00Z&to=2026-02-07T00:00:00Z"
CURSOR = write_cursor(
    Position(at=NOON, job_id="job-1", type="cpu", bill_id=UUID(int=0))  # nobody can guess one
)
DAY = "startTime=2026-02-06T00:00:00Z&endTime=2026-02-07T00:00:00Z"
COST = "/platform/cost.alauda.io/v1beta1"
QUERIES = {
    "/api/admin/v1/nodes/conservation": "?node=n1&from=2026-02-06T00:00:00Z",
    "/api/admin/v1/reconciliation": f"?{RANGE}",
    "/api/admin/v1/quotas/reserved": "?from=2026-02-06T00:00:00Z&to=2999-02-06T00:00:00Z",
    f"{COST}/costs/usage": "?start=2026-02-01&end=2026-02-28",
    f"{COST}/projects/{{project}}/costs/usage": "?start=2026-02-01&end=2026-02-28",
    "/v1/billing/pods": f"?{DAY}",
    "/v1/billing/endpoints": f"?{DAY}",
    "/v1/billing/networkvolumes": f"?{DAY}",
}
"""What must be asked of paths that do not answer without."""
CHECKED = ("/api", "/platform", "/v1", "/healthz", "/readyz")
"""Where answers are held to the document."""
CONFIG = f"""
[parameters]
"query.cursor" = "{CURSOR}"

[[operations]]
include-path-regex = "^/(platform|v1)/|/billing/usage-(history|analytics)$"
checks.positive_data_acceptance.expected-statuses = [
    "2xx", "3xx", 400, 401, 403, 404, 409, 429, "5xx",
]

[[operations]]
include-path = ["/v1/billing/usage", "/v1/teams/{{teamId}}/billing/usage"]
parameters = {{ "query.cursor" = "{hourly.write_cursor(NOON)}" }}

[[operations]]
include-path-regex = "^/v1/teams/"
parameters = {{ "path.teamId" = "{MINE.vc}" }}
"""
"""Of dialects it is 400 also for parameters that are fine each by itself and not together."""
Json: TypeAlias = dict[str, Any]


async def test_the_document_is_valid(api: Api) -> None:
    """OpenAPI 3.1, with schemas that are schemas."""
    document = (await api.get("/openapi.json")).json()
    assert document["openapi"] == "3.1.0"
    OpenAPIV31SpecValidator(document).validate()


async def test_the_document_is_of_the_routes(pool: Pool, api: Api) -> None:
    """Every route that is served is documented, and nothing else but the HEAD of each GET."""
    document = (await api.get("/openapi.json")).json()
    described = {
        (method.upper(), path) for path, item in document["paths"].items() for method in item
    }
    declared = {(route.method, route.path) for route in ALL_ROUTES if route.is_documented}
    assert described == declared
    app = build_app(Settings(), pool, Metrics())
    served = Counter(route.method for route in app.router.routes())
    del served["*"]  # which is errors
    assert served.pop("HEAD") == served["GET"]
    assert served == Counter(route.method for route in ALL_ROUTES)
    names = [
        operation["operationId"]
        for item in document["paths"].values()
        for operation in item.values()
    ]
    assert len(names) == len(set(names))


async def test_the_originals_operations_keep_their_names(api: Api) -> None:
    """A client generated from the contract finds them."""
    paths = (await api.get("/openapi.json")).json()["paths"]
    found = {
        f"{method.upper()} {path}": operation["operationId"]
        for path, item in paths.items()
        for method, operation in item.items()
        if path.startswith("/api") and not path.startswith(("/api/admin", "/api/v1"))
    }
    assert found == {
        "GET /api/Bills": "Get Bill List",
        "GET /api/Usages": "Get Usage List",
        "GET /api/Users": "Get User List",
        "GET /api/Ratios": "Get Ratio List",
        "POST /api/Ratios": "Create Ratio",
        "DELETE /api/Ratios/{key}": "Delete Ratio",
    }


def assert_as_documented(document: Json, path: str, answer: Answer) -> None:
    """Fail unless the body is what the document says of this status and media type."""
    described = document["paths"][path]["get"]["responses"][str(answer.status)]["content"]
    media_type = answer.headers["Content-Type"].partition(";")[0]
    schema = described[media_type]["schema"] | {"components": document["components"]}
    jsonschema_rs.validator_for(schema, validate_formats=True).validate(answer.json())


async def test_real_answers_are_as_documented(api: Api, rows: Rows) -> None:
    """Lists, errors and the administrators' endpoints, with rows of every shape."""
    bill_id = rows.bill(billed=HOUR_MS, is_live=True)
    rows.user(None, bill_id)
    rows.daily(bill_id, NOON.date(), effective=HOUR_MS)
    for type_ in ("storage", "gpu"):
        rows.daily(rows.bill("service", type_=type_, kind="service"), NOON.date())
    rows.bill(type_="mem", billed=HOUR_MS, unpriced=HOUR_MS, length_ms=5, observed_ms=5)
    rows.price_class("mem")
    rows.account(rows.node("n1"), "capacity", HOUR_MS)
    rows.adjustment(rows.bill(), billed=HOUR_MS)
    rows.rerate()
    await api.post("/api/Ratios", {"key": "tokens", "value": 0.1})
    await api.post("/api/Ratios", {"key": "tokens", "value": 0.2})
    await api.post(
        "/api/admin/v1/quotas", {"project": "p", "type": "cpu", "quantity": 1, "isNew": True}
    )
    await api.post("/api/admin/v1/currencies", {"currency": "EUR", "rate": "0.9"})
    bill = (await api.get("/api/Bills")).json()[0]["id"]
    queries = QUERIES | {"/api/admin/v1/bills/explanation": f"?id={bill}"}
    await api.post("/api/admin/v1/tokens", {"name": "ops", "vcName": "vc1"})
    document = (await api.get("/openapi.json")).json()
    for path, item in document["paths"].items():
        if "get" not in item or not path.startswith(CHECKED):
            continue
        target = path.format(period="2026-02", project="p1", timestamp="1770379200", teamId="vc1")
        answer = await api.get(target + queries.get(path, ""))
        assert answer.status == 200, path
        assert answer.json()
        assert_as_documented(document, path, answer)
    for path, query in (
        ("/api/Bills", "?userId=x"),
        ("/api/admin/v1/ratios/history", "?key=%00"),
        (f"{COST}/costs/usage", "?start=x"),
        ("/v1/billing/pods", "?bucketSize=x"),
    ):
        answer = await api.get(path + query)
        assert answer.status == 400
        assert_as_documented(document, path, answer)


async def test_examples_are_as_documented(api: Api) -> None:
    """Each fits the schema that it stands beside."""
    document = (await api.get("/openapi.json")).json()
    contents = [
        content
        for item in document["paths"].values()
        for operation in item.values()
        for answer in operation["responses"].values()
        for content in answer.get("content", {}).values()
    ]
    examples = [content for content in contents if "example" in content]
    assert examples
    for content in examples:
        schema = content["schema"] | {"components": document["components"]}
        jsonschema_rs.validator_for(schema, validate_formats=True).validate(content["example"])


async def test_the_reader_comes_from_this_server_alone(api: Api) -> None:
    """No script, style or connection of anybody else, and no inline code."""
    page = await api.get("/docs")
    assert page.status == 200
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    policy = page.headers["Content-Security-Policy"]
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    links = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(links) == 4
    for link in links:
        assert link.startswith("/docs/")
        assert (await api.get(link)).status == 200
    assert not re.search(r"<script>|<style|\son\w+=", page.text)


async def test_files_of_the_reader_are_kept_by_their_tag(api: Api) -> None:
    """1.7 MB travel once, compressed."""
    first = await api.get("/docs/swagger-ui-bundle.js", Accept_Encoding="gzip")
    assert first.headers["Content-Encoding"] == "gzip"
    again = await api.get("/docs/swagger-ui-bundle.js", If_None_Match=first.headers["ETag"])
    assert (again.status, again.body) == (304, b"")
    for name in ("LICENSE", "..%2Fapp.py", "../app.py", "index.html.bak"):
        assert (await api.get(f"/docs/{name}")).status == 404


async def test_the_bare_url_leads_to_the_reader(api: Api) -> None:
    """Whoever opens the printed URL sees something."""
    answer = await api.get("/")
    assert (answer.status, answer.headers["Location"]) == (302, "/docs")


def test_no_two_routes_clash() -> None:
    """A method and a path, in any case, name one operation."""
    names = sorted(f"{route.method} {route.path.lower()}" for route in ALL_ROUTES)
    assert all(one != other for one, other in pairwise(names))


@pytest.mark.timeout(FUZZ_SECONDS + 300)
@pytest.mark.parametrize("role", ["admin", "viewer", *SCOPES] if FUZZ_SECONDS else ["admin"])
async def test_whatever_the_document_allows_is_taken_and_nothing_else(
    pool: Pool, api: Api, rows: Rows, tmp_path: Path, role: str
) -> None:
    """A generator of requests from the document finds no surprise, and no 500.

    For each role where FUZZ_SECONDS says for how long (`make api-fuzz`).
    """
    for owner in (MINE, FOREIGN):
        owner.insert(rows)
    secret = (await tokens(api))[role]
    (tmp_path / "schemathesis.toml").write_text(CONFIG)
    settings = HttpSettings(requests_per_minute=0, anonymous_per_minute=0)
    async with served(pool, settings) as fuzzed:
        limits = (
            ("--max-examples", "100000", "--max-time", str(FUZZ_SECONDS))
            if FUZZ_SECONDS
            else ("--max-examples", "3")
        )
        process = await asyncio.create_subprocess_exec(
            Path(sys.prefix) / "bin/schemathesis",
            "run",
            f"http://127.0.0.1:{fuzzed.port}/openapi.json",
            *("--checks", "all", "--phases", "coverage,fuzzing", *limits),
            *("--header", f"Authorization: Bearer {secret}"),
            *("--seed", "1", "--no-color"),
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        out, _ = await process.communicate()
        assert process.returncode == 0, out.decode()[-6000:]
        if FUZZ_SECONDS:
            print(f"\n{role}:", *out.decode().splitlines()[-6:], sep="\n  ")
