"""The Bill API's figures with a million items: the whole list, and one user's part of it.

The items are laid down by SQL, as the rater would have: each user's lie all over the table. What
is timed is what a client sees that keeps its connection and reads all of each answer.
"""

import json
import os
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import IO

import psycopg
from psycopg.rows import TupleRow
from pydantic import TypeAdapter

from aggregator.store.embedded import Server
from aggregator.store.migrate import migrate
from tests.acceptance.product import ITEMS, Item
from tests.acceptance.service import Service, serving
from tests.bench.rerating import Watch
from tests.bench.table import Figure

COUNT = int(os.environ.get("BENCH_BILLS", "1000000"))
ITEMS_OF_USER = 1680
USERS = max(1, COUNT // ITEMS_OF_USER)
REQUESTS = 300
ROUNDS = 3
AIM_FIRST_MS, AIM_GROWTH_MIB, AIM_USER_MS = 200.0, 50.0, 50.0
PIECE = 1 << 16
TIMEOUT_SECONDS = 600

RUNS = """
    WITH host AS (
        INSERT INTO node (name, cluster, address, boot_id, machine_id, agent_version, cpu_m,
            mem_kib, cpu_model, devices, first_seen_at, last_seen_at)
        VALUES ('laid', 'bench', '10.0.0.1', 'b', 'm', '0', 1, 1, '', '[]', now(), now())
        RETURNING node_id
    )
    INSERT INTO run (node_id, run_key, provider, cluster, job_id, job_name, user_id, username, vc,
        project, namespace, kind, started_at, ended_at, settled_at)
    SELECT node_id, 'laid:' || number, 'files', 'bench', 'train-' || number, 'train',
        md5('user' || number %% %(users)s)::uuid, 'user' || number %% %(users)s,
        'vc' || number %% 20, 'project-' || number %% 50, '', 'job',
        '2026-01-01Z'::timestamptz + number * INTERVAL '37 seconds', ended_at, ended_at
    FROM host, generate_series(1, %(runs)s) AS number, LATERAL (
        SELECT '2026-01-01Z'::timestamptz + number * INTERVAL '37 seconds'
            + (60 + number %% 9000) * INTERVAL '1.001 second' AS ended_at
        WHERE number %% 100 <> 0
        UNION ALL SELECT NULL WHERE number %% 100 = 0) AS part
"""
PRICES = """
    INSERT INTO ratio (key, type, value, starts_at, created_at, created_by)
    VALUES ('cpu', 'cpu', 0.000032, '2020-01-01Z', now(), 'bench'),
        ('gpu', 'gpu', 2.5, '2020-01-01Z', now(), 'bench')
"""
BILLS = """
    INSERT INTO bill (bill_id, run_id, cluster, node, job_id, job_name, user_id, username, vc,
        project, namespace, kind, type, model, quota, started_at, ended_at, allocated, used,
        effective, billed, unpriced, length_ms, observed_ms, amount, ratio_id, is_mixed,
        item_class_id)
    SELECT gen_random_uuid(), run_id, cluster, '10.0.0.1', job_id, job_name, user_id, username,
        vc, project, namespace, kind, type, CASE type WHEN 'gpu' THEN 'NVIDIA H200' END, quota,
        started_at, coalesce(ended_at, started_at + INTERVAL '1 hour'), quota * length_ms,
        quota * length_ms / 2, quota * length_ms, quota * length_ms,
        CASE WHEN run_id %% 20 = 0 THEN quota * length_ms ELSE 0 END, length_ms, length_ms,
        CASE WHEN run_id %% 20 = 0 THEN 0 ELSE quota * length_ms * value END,
        CASE WHEN run_id %% 20 = 0 THEN 0 WHEN run_id %% 10 <> 1 THEN ratio_id END,
        run_id %% 10 = 1, 0
    FROM (
        SELECT run.*, type, quota,
            round(extract(epoch FROM coalesce(ended_at, started_at + INTERVAL '1 hour')
                                     - started_at) * 1000) AS length_ms
        FROM run, (VALUES ('cpu', 4000), ('gpu', 126000)) AS held(type, quota)
    ) AS part JOIN (SELECT ratio_id, type, value FROM ratio) AS price USING (type)
    ORDER BY run_id
"""
LISTED = """
    SELECT bill_id::text, job_id, bill.type, quota, billed, amount, value, is_mixed
    FROM bill LEFT JOIN ratio USING (ratio_id)
    ORDER BY bill.started_at DESC, job_id, bill.type, bill_id
"""
UNIT = {"cpu": 1, "gpu": 126_000}
HOUR_MS = 3_600_000
IDS = TypeAdapter(list[str])


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """How an answer came."""

    first_byte_seconds: float
    seconds: float
    size: int


def measure(server: Server, folder: Path) -> list[Figure]:
    """All figures of long lists, on a fresh database."""
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE bench_bills")
    url = server.url_of("bench_bills")
    migrate(url)
    with psycopg.connect(url, autocommit=True) as connection:
        lay_down(connection)
        with serving(url, folder / "bills.log", is_rating=True) as service:
            return [
                *user_figures(service, connection),
                *list_figures(service, connection, folder / "bills.json"),
            ]


def lay_down(connection: psycopg.Connection[TupleRow]) -> None:
    """Items of many users' jobs: one in a hundred runs yet, one in twenty lacks a price."""
    connection.execute(RUNS, {"users": USERS, "runs": COUNT // 2})
    connection.execute(PRICES)
    connection.execute(BILLS, {})
    connection.execute("VACUUM ANALYZE")


def list_figures(
    service: Service, connection: psycopg.Connection[TupleRow], body: Path
) -> list[Figure]:
    """Of all items: when the first byte is there, when the last, and the memory meanwhile."""
    client = client_of(service)
    reads: list[Read] = []
    with Watch(service.pid) as watch:
        for _ in range(ROUNDS):
            with body.open("wb") as file:
                reads.append(read(client, "/api/Bills", file))
    check(body, connection)
    bare = statistics.median(bare_seconds(connection) for _ in range(ROUNDS))
    name = f"/api/Bills, {COUNT:,} items"
    return [
        Figure(
            name=f"{name}, first byte",
            value=statistics.median(each.first_byte_seconds for each in reads) * 1000,
            unit="ms",
            beside="the aim: less than",
            beside_value=AIM_FIRST_MS,
            rounds=ROUNDS,
        ),
        Figure(
            name=f"{name}, growth of memory",
            value=watch.largest - watch.first,
            unit="MiB",
            beside="the aim: less than",
            beside_value=AIM_GROWTH_MIB,
            rounds=ROUNDS,
        ),
        Figure(
            name=f"{name}, all of it",
            value=statistics.median(each.seconds for each in reads),
            unit="s",
            beside="SELECT * FROM bill, read row by row",
            beside_value=bare,
            rounds=ROUNDS,
        ),
    ]


def user_figures(service: Service, connection: psycopg.Connection[TupleRow]) -> list[Figure]:
    """Of one user's items, another user's each time: latency, and the work that it is."""
    client = client_of(service)
    found = connection.execute("SELECT DISTINCT user_id::text FROM bill ORDER BY 1").fetchall()
    users = IDS.validate_python([user for (user,) in found])
    paths = [f"/api/Bills?userId={users[number % len(users)]}" for number in range(REQUESTS)]
    floor, _ = quantiles(client, ["/healthz"] * REQUESTS)
    before = cpu_seconds(service.pid)
    middle, last = quantiles(client, paths)
    cpu = (cpu_seconds(service.pid) - before) / REQUESTS * 1000
    row = partial(Figure, unit="ms", rounds=REQUESTS)
    name = f"/api/Bills?userId=, {COUNT // USERS:,} of {COUNT:,} items"
    return [
        row(name=f"{name}, p50", value=middle, beside="/healthz, p50", beside_value=floor),
        row(name=f"{name}, p99", value=last, beside="the aim: less than", beside_value=AIM_USER_MS),
        row(name=f"{name}, CPU of the aggregator", value=cpu, beside="p50", beside_value=middle),
    ]


def quantiles(client: HTTPConnection, paths: list[str]) -> tuple[float, float]:
    """The middle and the 99th of a hundred, in ms."""
    taken = sorted(read(client, path).seconds * 1000 for path in paths)
    return taken[len(taken) // 2], taken[len(taken) * 99 // 100]


def client_of(service: Service) -> HTTPConnection:
    """A client that keeps its connection."""
    return HTTPConnection("127.0.0.1", service.http_port, timeout=TIMEOUT_SECONDS)


def read(client: HTTPConnection, path: str, file: IO[bytes] | None = None) -> Read:
    """GET and read all of it."""
    began = time.perf_counter()
    client.request("GET", path)
    answer = client.getresponse()
    assert answer.status == 200, answer.read()
    piece = answer.read(1)
    first = time.perf_counter() - began
    size = 0
    while piece:
        size += len(piece)
        if file is not None:
            file.write(piece)
        piece = answer.read(PIECE)
    return Read(first_byte_seconds=first, seconds=time.perf_counter() - began, size=size)


def check(body: Path, connection: psycopg.Connection[TupleRow]) -> None:
    """See that the JSON says what the database holds, item by item."""
    with connection.transaction(), connection.cursor(name="listed") as cursor:
        cursor.execute(LISTED)
        count = 0
        for item, row in zip(items_of(body), cursor, strict=True):
            check_item(item, row)
            count += 1
    assert count == COUNT // 2 * 2, count


def check_item(item: Item, row: TupleRow) -> None:
    """See that an item is its row, and its money right to the last digit."""
    bill_id, job_id, type_, quota, billed, amount, price, is_mixed = row
    unit = UNIT[type_]
    usage = int(billed) / (unit * HOUR_MS)
    fee = float(0 if price is None else usage * float(price))
    if is_mixed:
        numerator, denominator = Decimal(amount).as_integer_ratio()
        fee = numerator / (denominator * unit * HOUR_MS)
    shown = (item["id"], item["jobId"], item["type"], item["quota"], item["usage"], item["fee"])
    assert shown == (bill_id, job_id, type_, quota / unit, usage, fee), (item, row)


def items_of(body: Path) -> Iterator[Item]:
    """The items of a JSON array of any length, which must be nothing but one."""
    decoder = json.JSONDecoder()
    with body.open() as file:
        assert file.read(1) == "["
        rest = ""
        while piece := file.read(PIECE):
            *whole, rest = (rest + piece).split("},{")
            for text in whole:
                yield from ITEMS.validate_python([decoder.decode("{" + text.lstrip("{") + "}")])
        yield from ITEMS.validate_python(decoder.decode("[{" + rest.lstrip("{")))


def bare_seconds(connection: psycopg.Connection[TupleRow]) -> float:
    """The least that reading all of it takes in this language."""
    began = time.perf_counter()
    with connection.transaction(), connection.cursor(name="bare") as cursor:
        cursor.itersize = 10_000
        cursor.execute("SELECT * FROM bill")
        for _ in cursor:
            pass
    return time.perf_counter() - began


def cpu_seconds(pid: int) -> float:
    """User and system time of all the threads of a process."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9
