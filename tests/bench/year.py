"""The figures of long ranges: a year of days of ten thousand items, as each API shows it.

The days are laid down by SQL, as the rater would have; what is timed is the whole request.
"""

import json
import os
import statistics
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path

import psycopg
from psycopg.rows import TupleRow

from aggregator.store.embedded import Server
from aggregator.store.migrate import migrate
from tests.acceptance.service import Service, serving
from tests.bench.table import Figure

ITEMS = int(os.environ.get("BENCH_ITEMS", "10000"))
DAYS = 365
FIRST_DAY = date(2025, 1, 1)
AIM_SECONDS = 1.0
ROUNDS = 5

_COSTS = "/platform/cost.alauda.io/v1beta1/costs/usage?start={first}&end={last}"
REQUESTS = {
    "cpu": {
        "a year by day, projects": f"{_COSTS}&step=day&pageSize=500",
        "a year by day, namespaces": f"{_COSTS}&step=day&pageSize=500&kind=namespace_all",
        "a year by month, projects": _COSTS,
        "a year by day, one project": f"{_COSTS}&step=day&kind=project&name=project-7",
    },
    "gpu": {
        "a year by day, pods by model": "/v1/billing/pods?bucketSize=day"
        "&startTime={first}T00:00:00Z&endTime={after}T00:00:00Z",
    },
}
"""What is asked of items of a type; what is refused is said and left out."""

BILLS = """
    WITH host AS (
        INSERT INTO node (name, cluster, address, boot_id, machine_id, agent_version, cpu_m,
            mem_kib, cpu_model, devices, first_seen_at, last_seen_at)
        VALUES ('year', 'bench', '10.0.0.1', 'b', 'm', '0', 1, 1, '', '[]', now(), now())
        RETURNING node_id
    ), part AS (
        INSERT INTO run (node_id, run_key, provider, cluster, job_id, job_name, user_id, vc,
            project, namespace, kind, started_at, ended_at, settled_at)
        SELECT node_id, 'year:' || number, 'files', 'cluster-' || number %% 3, 'job-' || number,
            'bench', lpad((number %% 200)::text, 32, '0')::uuid, 'vc-' || number %% 20,
            'project-' || number %% 50, 'namespace-' || number %% 7, 'job', %(start)s, now(), now()
        FROM host, generate_series(1, %(items)s) AS number
        RETURNING *
    )
    INSERT INTO bill (bill_id, run_id, cluster, node, job_id, job_name, user_id, vc, project,
        namespace, kind, type, quota, started_at, ended_at, allocated, used, effective, billed,
        unpriced, length_ms, observed_ms, amount, is_mixed, item_class_id, first_day, last_day)
    SELECT gen_random_uuid(), run_id, cluster, '10.0.0.1', job_id, job_name, user_id, vc, project,
        namespace, kind, 'cpu', 4000, started_at, ended_at, 0, 0, 0, 0, 0, 0, 0, 0, true, 0,
        %(start)s, %(start)s::timestamptz + (%(days)s - 1) * INTERVAL '1 day'
    FROM part
"""
DAILY = """
    INSERT INTO daily (day, bill_id, allocated, used, effective, billed, unpriced, length_ms,
        amount, peak)
    SELECT %(start)s::timestamptz + number * INTERVAL '1 day', bill_id,
        345600000000, 100000000000 + run_id * 1000 + number, 345700000000 + run_id * 1000 + number,
        345700000000 + run_id * 1000 + number, 0, 86400000,
        (345700000000 + run_id * 1000 + number) * 0.03, 4000
    FROM generate_series(0, %(days)s - 1) AS number, bill
    ORDER BY number, bill_id
"""
TYPE = """
    UPDATE bill
    SET type = %(type)s, quota = 126000,
        model = CASE %(type)s WHEN 'gpu' THEN 'NVIDIA model ' || run_id %% 4 END
"""
CLASSES = """
    TRUNCATE item_class, daily_class;
    INSERT INTO item_class (cluster, vc, project, namespace, kind, type, model, quota, gpu)
    SELECT DISTINCT cluster, vc, project, namespace, kind, type, model,
        CASE type WHEN 'gpu' THEN quota ELSE 0 END, model
    FROM bill;
    UPDATE bill SET item_class_id = class.item_class_id
    FROM item_class AS class
    WHERE (class.cluster, class.vc, class.project, class.namespace)
        = (bill.cluster, bill.vc, bill.project, bill.namespace)
        AND class.model IS NOT DISTINCT FROM bill.model;
    INSERT INTO daily_class (day, item_class_id, allocated, used, effective, billed, unpriced,
        length_ms, amount)
    SELECT daily.day, bill.item_class_id, sum(daily.allocated), sum(daily.used),
        sum(daily.effective), sum(daily.billed), sum(daily.unpriced), sum(daily.length_ms),
        sum(daily.amount)
    FROM daily JOIN bill USING (bill_id)
    GROUP BY 1, 2
    ORDER BY 1, 2
"""


def measure(server: Server, folder: Path) -> list[Figure]:
    """All figures of long ranges, on a fresh database."""
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE bench_year")
    url = server.url_of("bench_year")
    migrate(url)
    figures: list[Figure] = []
    with psycopg.connect(url, autocommit=True) as connection:
        lay_down(connection)
        with serving(url, folder / "year.log", is_rating=True) as service:
            figures.append(bare_sum(connection))
            for type_, requests in REQUESTS.items():
                make_all(connection, type_)
                for name, target in requests.items():
                    figures += figure_of(service, name, target)
    return figures


def lay_down(connection: psycopg.Connection[TupleRow]) -> None:
    """Items of many projects, and what counts of each on every day of a year."""
    laid = {"start": f"{FIRST_DAY}T00:00:00Z", "items": ITEMS, "days": DAYS}
    connection.execute(BILLS, laid)
    connection.execute(DAILY, laid)
    connection.execute("VACUUM ANALYZE")


def make_all(connection: psycopg.Connection[TupleRow], type_: str) -> None:
    """Let all items be of one type, and of the classes that follow from it."""
    connection.execute(TYPE, {"type": type_})
    connection.execute(CLASSES)
    connection.execute("VACUUM ANALYZE")


def bare_sum(connection: psycopg.Connection[TupleRow]) -> Figure:
    """What this machine takes now for the least that could be asked of the rows."""
    seconds: list[float] = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        connection.execute("SELECT sum(effective) FROM daily").fetchone()
        seconds.append(time.perf_counter() - began)
    return figure("bare SQL: one sum of a year", seconds)


def figure_of(service: Service, name: str, target: str) -> Sequence[Figure]:
    """How long a request takes; nothing where it is refused."""
    last = FIRST_DAY + timedelta(days=DAYS - 1)
    path = target.format(first=FIRST_DAY, last=last, after=last + timedelta(days=1))
    seconds: list[float] = []
    for _ in range(ROUNDS):
        taken = seconds_of(f"{service.url}{path}")
        if taken is None:
            return []
        seconds.append(taken)
    return [figure(name, seconds)]


def figure(name: str, seconds: Sequence[float]) -> Figure:
    """The median, beside what is aimed at."""
    return Figure(
        name=f"{name}, {ITEMS * DAYS:,} rows",
        value=statistics.median(seconds),
        unit="s",
        beside="the aim",
        beside_value=AIM_SECONDS,
        rounds=len(seconds),
    )


def seconds_of(url: str) -> float | None:
    """The time until the answer is there, which must hold something; None: it is refused."""
    began = time.perf_counter()
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            body = answer.read()
    except urllib.error.HTTPError as error:
        print(f"{url}: {error.code} {error.read().decode()[:300]}", file=sys.stderr)
        return None
    seconds = time.perf_counter() - began
    found = json.loads(body)
    assert found["items"] if isinstance(found, dict) else found, body[:200]
    return seconds
