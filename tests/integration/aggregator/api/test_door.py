"""Claims about who is let in, and about what surrounds every answer."""

import asyncio
import logging
from http import HTTPStatus
from ipaddress import ip_network
from socket import gethostname
from typing import NoReturn

import psycopg
import pytest
from aiohttp import web

from aggregator.api.app import ALL_ROUTES
from aggregator.api.problem import Problem
from aggregator.log import RequestFilter
from aggregator.settings import HttpSettings
from aggregator.store.pool import Pool
from tests.integration.aggregator.api.client import Api, served
from tests.integration.aggregator.api.owners import MINE
from tests.integration.aggregator.api.test_matrix import calls
from tests.integration.aggregator.api.waiting import until_waiting
from tests.integration.aggregator.rows import Rows

PUBLIC = ("/healthz", "/readyz", "/openapi.json", "/docs", "/docs/start.js", "/")
GUARDED = ("/api/Bills", "/api/Users", "/api/admin/v1/nodes", "/metrics", "/nowhere")

LONG_LIST = """
    INSERT INTO bill (bill_id, run_id, cluster, node, job_id, job_name, user_id, username, vc,
        project, namespace, kind, type, model, quota, started_at, ended_at, allocated, used,
        effective, billed, unpriced, length_ms, observed_ms, amount, ratio_id, is_mixed,
        item_class_id)
    SELECT gen_random_uuid(), run_id, cluster, node, job_id,
        repeat('x', %(name_length)s), user_id, username, vc, project, namespace, kind, type, model,
        quota, started_at, ended_at, allocated, used, effective, billed, unpriced,
        length_ms, observed_ms, amount, ratio_id, is_mixed, item_class_id
    FROM bill, generate_series(1, %(count)s)
"""
"""Items like the one that there is."""


def closed() -> HttpSettings:
    return HttpSettings(open_to=())


async def test_a_network_that_is_not_open_gets_401(pool: Pool) -> None:
    """Also where there is nothing; only health and the document are for everybody."""
    async with served(pool, closed()) as api:
        for path in GUARDED:
            answer = await api.get(path)
            assert answer.status == 401, path
            assert answer.headers["WWW-Authenticate"] == "Bearer"
            assert answer.headers["Content-Type"] == "application/problem+json"
        for path in PUBLIC:
            assert (await api.get(path)).status in {200, 302}, path


async def test_a_request_through_a_proxy_is_not_from_here(api: Api) -> None:
    """A proxy on this host must not make the world an admin."""
    for header in ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP", "Via"):
        answer = await api.ask("GET", "/api/Bills", headers={header: "127.0.0.1"})
        assert answer.status == 401, header


async def test_a_token_that_is_sent_must_be_valid(api: Api) -> None:
    """Also from a network that needs none."""
    for value in ("Bearer abc", "Basic YTpi", "", "Bearer "):
        answer = await api.ask("GET", "/api/Bills", headers={"Authorization": value})
        assert answer.status == 401, value


async def test_loopback_answers_to_its_own_names_only(api: Api) -> None:
    """A web page whose name was made to point here is a stranger."""
    for host, status in (
        ("localhost:8080", 200),
        ("127.0.0.1", 200),
        ("[::1]:8080", 200),
        ("[fe80::1%25eth0]", 200),
        ("localhost.:", 200),
        ("", 200),
        ("billing.localhost", 200),
        (gethostname(), 200),
        ("evil.example", 401),
        ("localhost.evil.example", 401),
    ):
        answer = await api.ask("GET", "/api/Bills", headers={"Host": host})
        assert answer.status == status, host


@pytest.mark.parametrize(
    "host",
    ["[::1", "[zz]", "a[", "[]", "[127.0.0.1]", "[::1]x", "a b", "a/b", "u@localhost", "a:b",
     "localhost:123456", "[::1%]", "\u20ac"],
)  # fmt: skip
async def test_a_host_that_is_none_is_a_bad_request(api: Api, host: str) -> None:
    """On every path, those that are open to everybody included; as a problem."""
    for method, path in (
        ("GET", "/api/Bills"),
        ("POST", "/api/admin/v1/ratios"),
        ("GET", "/healthz"),
        ("GET", "/nowhere"),
    ):
        head = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        answer = await api.raw(head.encode())
        assert answer.startswith(b"HTTP/1.1 400 "), (path, answer)
        assert b"application/problem+json" in answer
        assert b"localhost:8080" in answer


async def test_a_viewer_reads_and_changes_nothing(pool: Pool) -> None:
    """403 for each change."""
    async with served(pool, HttpSettings(open_role="viewer")) as api:
        assert (await api.get("/api/Ratios")).status == 200
        for method, path in (
            ("POST", "/api/Ratios"),
            ("DELETE", "/api/Ratios/cpu"),
            ("POST", "/api/admin/v1/ratios"),
            ("POST", "/api/admin/v1/ratios/import"),
            ("DELETE", "/api/admin/v1/ratios?key=cpu"),
        ):
            answer = await api.ask(method, path)
            assert (answer.status, answer.json()["title"]) == (403, "Forbidden"), path


async def test_only_the_networks_named_are_open(pool: Pool) -> None:
    """Loopback is no exception."""
    elsewhere = HttpSettings(open_to=(ip_network("10.0.0.0/8"),))
    async with served(pool, elsewhere) as api:
        assert (await api.get("/api/Bills")).status == 401


async def test_a_wrong_method_is_405_and_says_which_are_right(api: Api) -> None:
    """As a problem, with Allow."""
    for method, path, allowed in (
        ("PUT", "/api/Ratios", {"GET", "HEAD", "POST"}),
        ("GET", "/api/ratios/cpu", {"DELETE"}),
        ("POST", "/api/Bills", {"GET", "HEAD"}),
        ("PATCH", "/healthz", {"GET", "HEAD"}),
        ("OPTIONS", "/api/Bills", {"GET", "HEAD"}),
    ):
        answer = await api.ask(method, path)
        assert answer.status == 405, path
        assert set(answer.headers["Allow"].split(",")) == allowed
        assert answer.headers["Content-Type"] == "application/problem+json"


async def test_whoever_may_get_may_ask_for_the_headers_alone(api: Api, rows: Rows) -> None:
    """HEAD of every GET: its status and headers, no body, and the connection goes on."""
    MINE.insert(rows)
    for route in ALL_ROUTES:
        for target in calls(route, MINE) if route.method == "GET" else ():
            for more in ("", "Accept: text/csv\r\n", "Accept-Encoding: gzip\r\n"):
                end = f" HTTP/1.1\r\nHost: localhost\r\n{more}"
                got = await api.raw(f"GET {target}{end}Connection: close\r\n\r\n".encode())
                head = await api.raw(
                    f"HEAD {target}{end}\r\nGET /healthz{end}Connection: close\r\n\r\n".encode()
                )
                alone, _, following = head.partition(b"\r\n\r\n")
                assert following.startswith(b"HTTP/1.1 200 OK\r\n"), (target, more, head)
                assert shown(alone) == shown(got.partition(b"\r\n\r\n")[0]), (target, more)


def shown(head: bytes) -> set[bytes]:
    """The status line and the headers that are the same in each answer, but for /metrics."""
    varying = (b"date:", b"x-request-id:", b"x-ratelimit-", b"connection:")
    is_counted = b"version=0.0.4" in head
    lines = head.split(b"\r\n")
    return {
        line
        for line in lines
        if not line.lower().startswith(varying)
        and not (is_counted and line.lower().startswith(b"content-length:"))
    }


async def test_the_head_of_a_long_list_is_sent_without_the_list(api: Api, rows: Rows) -> None:
    """Compressed or not; also where there is nothing, and where HEAD is of no use."""
    rows.bill()
    rows.connection.execute(LONG_LIST, {"count": 20_000, "name_length": 20})
    for more in ("", "Accept-Encoding: gzip\r\n"):
        end = f" HTTP/1.1\r\nHost: localhost\r\n{more}"
        answer = await api.raw(
            f"HEAD /api/Bills{end}\r\nHEAD /nowhere{end}\r\n"
            f"HEAD /api/Ratios/x{end}Connection: close\r\n\r\n".encode()
        )
        first, second, third, rest = answer.split(b"\r\n\r\n")
        assert first.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"Content-Length" not in first
        assert (b"Content-Encoding: gzip" in first) == bool(more)
        assert second.startswith(b"HTTP/1.1 404 ")
        assert third.startswith(b"HTTP/1.1 405 ")
        assert (b"Allow: DELETE" in third, rest) == (True, b"")


async def test_an_unknown_path_is_404_as_a_problem(api: Api) -> None:
    """With a hint where to look."""
    for path in ("/nowhere", "/api", "/api/Billsx", "/api/v2/Bills", "/docs/../app.py"):
        answer = await api.get(path)
        assert (answer.status, answer.json()["status"]) == (404, 404), path


async def test_an_expectation_is_met_or_ignored(api: Api) -> None:
    """Whatever it says, on whatever path; a client that waits is told to go on."""
    end = b"Host: localhost\r\nConnection: close\r\nContent-Length: 2\r\n"
    end += b"Content-Type: application/json\r\n\r\n{}"
    for line, status in (
        (b"GET /api/Bills", b"200"),
        (b"POST /api/Ratios", b"400"),
        (b"PUT /api/Ratios", b"405"),
        (b"GET /nowhere", b"404"),
        (b"GET /docs/nowhere", b"404"),
    ):
        for expected in (b"\xff", b"tea", b""):
            head = line + b" HTTP/1.1\r\nExpect: " + expected + b"\r\n"
            assert (await api.raw(head + end))[9:12] == status, head
        answer = await api.raw(line + b" HTTP/1.1\r\nExpect: 100-Continue\r\n" + end)
        assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 " + status), line


async def test_every_answer_carries_the_same_protection(api: Api) -> None:
    """Whatever its status; only a list that has a tag may be kept, by its client alone."""
    for path in ("/api/Bills", "/nowhere", "/api/Bills?userId=x", "/healthz"):
        headers = (await api.get(path)).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Referrer-Policy"] == "no-referrer"
        is_list = path == "/api/Bills"
        assert headers["Cache-Control"] == ("private, no-cache" if is_list else "no-store")
        assert headers["Server"] == "nodemeter"
        assert "Access-Control-Allow-Origin" not in headers


async def test_a_request_has_an_id_in_the_answer_and_in_the_log(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    """The client's own if it is harmless, else a new one."""
    caplog.set_level(logging.INFO, logger="aggregator.api.middleware")
    with caplog.filtering(RequestFilter()):
        kept = await api.get("/api/Bills?userId=x", X_Request_Id="run-7.a")
        made = await api.get("/api/Bills", X_Request_Id="a b<script>")
    assert kept.headers["X-Request-Id"] == kept.json()["requestId"] == "run-7.a"
    assert made.headers["X-Request-Id"] not in {"", "a b<script>"}
    logged = [vars(record).get("request_id") for record in caplog.records]
    assert logged == ["run-7.a", made.headers["X-Request-Id"]]


async def test_every_line_of_a_request_has_its_id(
    api: Api, pool: Pool, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever writes it, also of requests at once; what belongs to none has none."""
    caplog.set_level(logging.INFO, logger="aggregator")
    await pool.close()
    with caplog.filtering(RequestFilter()):
        await api.get("/api/Bills", X_Request_Id="one")
        await asyncio.gather(*(api.get("/api/Users", X_Request_Id=each) for each in "ab"))
        logging.getLogger("aggregator.beside").info("beside")
    logged = [(each.message, vars(each).get("request_id")) for each in caplog.records]
    assert ("the database does not answer requests", "one") in logged
    assert sorted(each for message, each in logged if message == "request" and each) == [
        "a", "b", "one"
    ]  # fmt: skip
    assert logged[-1] == ("beside", None)
    assert {each for _, each in logged[:-1]} == {"a", "b", "one"}


async def test_the_log_shows_a_path_as_it_was_encoded(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    """A line break in a path cannot forge a line of the log."""
    caplog.set_level(logging.INFO, logger="aggregator.api.middleware")
    await api.delete("/api/Ratios/a%0D%0Aaction=http_request")
    (record,) = caplog.records
    assert vars(record)["path"] == "/api/Ratios/a%0D%0Aaction=http_request"


async def test_a_database_that_is_away_is_503(api: Api, pool: Pool, rows: Rows) -> None:
    """With a time to come back; the process itself is well."""
    await pool.close()
    for path in ("/api/Bills", "/api/Ratios", "/api/Users", "/api/admin/v1/nodes", "/readyz"):
        answer = await api.get(path)
        assert (answer.status, answer.json()["status"]) == (503, 503), path
        assert answer.headers["Retry-After"] == "5"
        assert "psycopg" not in answer.text
    assert (await api.get("/healthz")).json() == {"status": "ok"}


async def test_readiness_needs_the_schema(api: Api, rows: Rows) -> None:
    """A database that another version left behind is not ready."""
    assert (await api.get("/readyz")).json() == {"status": "ready"}
    rows.connection.execute("DELETE FROM schema_migration")
    assert (await api.get("/readyz")).status == 503


async def test_metrics_count_requests_by_route(api: Api) -> None:
    """Clients cannot invent label values."""
    await api.get("/api/bills")
    await api.ask("PUT", "/pot/%0A")
    text = (await api.get("/metrics")).text
    name = "nodemeter_aggregator_http_requests_total"
    assert f'{name}{{method="GET",path="/api/Bills",status="200"}} 1.0' in text
    assert f'{name}{{method="other",path="other",status="404"}} 1.0' in text


async def test_unpriced_items_are_a_metric_of_this_moment(api: Api, rows: Rows, pool: Pool) -> None:
    """Counted when asked; the last count is kept while the database is away."""
    rows.bill(billed=1, unpriced=1)
    for _ in range(2):
        text = (await api.get("/metrics")).text
        assert "nodemeter_aggregator_unpriced_items 1.0" in text
        await pool.close()


async def test_a_client_that_leaves_gives_its_connection_back(
    api: Api, rows: Rows, pool: Pool
) -> None:
    """The query of a request that nobody waits for is cancelled."""
    rows.connection.execute("BEGIN")
    rows.connection.execute("LOCK TABLE bill")
    tasks = [asyncio.create_task(api.get("/api/Bills")) for _ in range(2)]
    await until_waiting(rows, 2)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await until_waiting(rows, 0)
    rows.connection.execute("ROLLBACK")
    assert (await api.get("/api/Bills")).status == 200


async def test_a_list_that_breaks_off_does_not_look_whole(
    api: Api, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection is cut before the array is closed."""
    rows.bill()
    rows.connection.execute(LONG_LIST, {"count": 3000, "name_length": 20_000})
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port, limit=1024)
    writer.write(b"GET /api/Bills HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await reader.readexactly(1000)
    rows.connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE pid <> pg_backend_pid() AND datname = current_database()"
    )
    rest = bytearray()
    try:
        while piece := await reader.read(1 << 20):
            rest += piece
    except ConnectionError:
        pass
    writer.close()
    assert not rest.endswith(b"0\r\n\r\n")


NO_HTTP = [
    b"GET / HTTP/9.9\r\n\r\n",
    b"NONSENSE\r\n\r\n",
    b"GET /api/Bills HTTP/1.1\r\nHost: localhost\r\nA: " + b"x" * 20_000 + b"\r\n\r\n",
    b"POST /api/Ratios HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
    b"GET http://[::1/api/Bills HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /api/Bills?\xff=\xfe HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
]


async def test_what_is_no_http_is_the_clients_fault(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    """Never a 500, nothing in the log, and the server serves on."""
    for text in NO_HTTP:
        answer = await api.raw(text)
        assert b" 500 " not in answer.split(b"\r\n", 1)[0], text[:80]
    assert (await api.get("/healthz")).status == 200
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize(
    ("fault", "detail"),
    [
        ("DROP TABLE stream_gap", "lacks table stream_gap"),
        ("DROP FUNCTION add_chunks", "lacks function add_chunks"),
        ("REVOKE INSERT ON usage FROM nodemeter_ingest", "GRANT INSERT ON TABLE public.usage"),
        (
            "REVOKE UPDATE (ends_at) ON ratio FROM nodemeter_api",
            "GRANT UPDATE (ends_at) ON TABLE public.ratio TO nodemeter_api",
        ),
    ],
)
async def test_what_was_dropped_or_taken_away_makes_it_unready(
    api: Api, rows: Rows, fault: str, detail: str
) -> None:
    """Of any service, though the APIs themselves could go on."""
    assert (await api.get("/readyz")).status == 200
    rows.connection.execute(fault.encode())
    answer = await api.get("/readyz")
    assert answer.status == 503
    assert detail in answer.json()["detail"]
    assert (await api.get("/healthz")).status == 200


async def test_the_rows_fixture_is_on_the_same_database(rows: Rows, database_url: str) -> None:
    """Guards the tests above: what they put is what is served."""
    rows.node("n1")
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT count(*) FROM node").fetchone() == (1,)


async def test_what_nobody_foresaw_says_nothing_but_the_id(
    pool: Pool, caplog: pytest.LogCaptureFixture
) -> None:
    """The log tells more, once; what took too long is to be tried again."""

    class Broken(dict[str, list[str]]):
        def items(self) -> NoReturn:
            raise RuntimeError("secret")

    raised: dict[str, Exception] = {
        "bug": RuntimeError("secret"),
        "unspeakable": Problem(HTTPStatus.BAD_REQUEST, "secret", errors=Broken(a=["b"])),
        "slow": TimeoutError(),
        "gone": web.HTTPGone(),
    }

    async def fail(request: web.Request) -> web.Response:
        raise raised[request.query["why"]]

    def add_route(app: web.Application) -> None:
        app.router.add_get("/fail", fail)

    async with served(pool, prepare=add_route) as api:
        for why, status in (("bug", 500), ("unspeakable", 500), ("slow", 503), ("gone", 410)):
            answer = await api.get(f"/fail?why={why}")
            assert (answer.status, answer.json()["status"]) == (status, status)
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert "secret" not in answer.text
    logged = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [vars(record)["action"] for record in logged] == ["request_failed"] * 2


PAGE = "https://billing.example"


async def test_no_web_page_of_another_origin_may_ask_by_default(api: Api) -> None:
    """The browser is told nothing that would let it."""
    asking = {"Origin": PAGE, "Access-Control-Request-Method": "GET"}
    for method in ("GET", "OPTIONS"):
        answer = await api.ask(method, "/api/Bills", headers=asking)
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"


async def test_pages_of_the_origins_named_may_ask(pool: Pool) -> None:
    """With a token, which they may send; pages of other origins still may not."""
    settings = HttpSettings(open_to=(), cors_origins=(PAGE,))
    async with served(pool, settings) as api:
        asking = {"Origin": PAGE, "Access-Control-Request-Method": "GET"}
        permission = await api.ask("OPTIONS", "/api/Bills", headers=asking)
        assert permission.status == 204
        assert "Authorization" in permission.headers["Access-Control-Allow-Headers"]
        refused = await api.ask("GET", "/api/Bills", headers={"Origin": PAGE})
        assert refused.status == 401
        for answer in (permission, refused):
            assert answer.headers["Access-Control-Allow-Origin"] == PAGE
            assert answer.headers["Vary"] == "Origin"
        other = await api.ask("GET", "/api/Bills", headers={"Origin": "https://evil.example"})
        assert "Access-Control-Allow-Origin" not in other.headers
        assert other.headers["Vary"] == "Origin"


async def test_a_query_that_takes_too_long_is_503_with_what_to_do(pool: Pool, rows: Rows) -> None:
    """The database is well: nothing is logged as an outage."""
    async with served(pool, HttpSettings(statement_seconds=1)) as api:
        rows.connection.execute(
            "CREATE OR REPLACE FUNCTION in_scope(user_id uuid, vc text, project text,"
            " scope_user_id uuid, scope_vc text, scope_project text)"
            " RETURNS boolean LANGUAGE sql AS 'SELECT pg_sleep(100) IS NULL'"
        )
        rows.bill()
        answer = await api.get("/api/Bills")
        assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
        assert "statement_seconds" in answer.json()["detail"]
