"""The aggregator's figures: ingest beside raw COPY, rating, the Bill API beside bare SQL."""

import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import psycopg

from aggregator.clock import to_ms, utc_now
from aggregator.ingest.columns import Columns
from aggregator.ingest.copybuffer import CopyBuffer
from aggregator.metrics import Metrics
from aggregator.model import IngestGroupId
from aggregator.rater import rate_pending
from aggregator.store.embedded import Server
from aggregator.store.grants import Role
from aggregator.store.migrate import migrate
from aggregator.store.pool import open_pool
from tests.acceptance.service import Service, serving
from tests.bench.table import Figure

ROUNDS = 3
STREAMS, BATCHES, RECORDS = 8, 120, 1000
SMALL_STREAMS, SMALL_BATCHES, SMALL_RECORDS = 200, 40, 100
COPY_ROWS = 1_000_000
USER_REQUESTS = 200


def seconds_of(work: Callable[[], object]) -> float:
    """How long a call takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def measure(server: Server, folder: Path) -> list[Figure]:
    """All figures of the aggregator, on a fresh database."""
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE bench")
    url = server.url_of("bench")
    migrate(url)
    log = folder / "aggregator.log"
    start_ms = to_ms(utc_now().replace(second=0, microsecond=0) - timedelta(hours=6))
    copy_rate = statistics.median(copy_rows_per_second(url) for _ in range(ROUNDS))
    with serving(url, log, is_rating=False) as service:
        large = [ingest_rate(service, STREAMS, BATCHES, RECORDS, start_ms) for _ in range(ROUNDS)]
        small = [
            ingest_rate(service, SMALL_STREAMS, SMALL_BATCHES, SMALL_RECORDS, start_ms)
            for _ in range(ROUNDS)
        ]
    waiting = ROUNDS * (STREAMS * BATCHES * RECORDS + SMALL_STREAMS * SMALL_BATCHES * SMALL_RECORDS)
    rating_seconds = asyncio.run(rate_all(url, waiting))
    with serving(url, log, is_rating=True) as service:
        return [
            Figure(
                name=f"ingest, {STREAMS} streams x {RECORDS} records",
                value=statistics.median(large),
                unit="records/s",
                beside="raw COPY of the same rows",
                beside_value=copy_rate,
                rounds=ROUNDS,
            ),
            Figure(
                name=f"ingest, {SMALL_STREAMS} streams x {SMALL_RECORDS} records",
                value=statistics.median(small),
                unit="records/s",
                beside="raw COPY of the same rows",
                beside_value=copy_rate,
                rounds=ROUNDS,
            ),
            Figure(
                name="rating, usage to charges and bills",
                value=waiting / rating_seconds,
                unit="records/s",
                beside="bare aggregation per meter and hour",
                beside_value=waiting / bare_aggregation_seconds(url),
                rounds=1,
            ),
            *bill_figures(service),
        ]


def copy_rows_per_second(url: str) -> float:
    """The ceiling: one COPY of the rows that ingest writes, into a hypertable without index."""
    count = COPY_ROWS
    zeros = np.zeros(count, dtype=np.int64)
    columns = Columns(
        numbers=(1,),
        meter=np.zeros(count, dtype=np.intp),
        started_at_ms=zeros + to_ms(datetime(2026, 1, 1, tzinfo=UTC)),
        length_ms=zeros + 60_000,
        allocated=zeros,
        used=zeros,
        effective=zeros,
        observed_ms=zeros + 60_000,
    )
    buffer = CopyBuffer(count)
    buffer.put(columns, np.arange(1, dtype=np.int64), IngestGroupId(1))
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS ceiling (LIKE usage)")
        connection.execute(
            "SELECT create_hypertable('ceiling', by_range('started_at', INTERVAL '1 day'),"
            " create_default_indexes => false, if_not_exists => true)"
        )
        connection.execute("TRUNCATE ceiling")
        connection.commit()

        def copy() -> None:
            with connection.cursor().copy("COPY ceiling FROM STDIN (FORMAT BINARY)") as stream:
                for piece in buffer.pieces():
                    stream.write(piece)
            connection.commit()

        return count / seconds_of(copy)


def ingest_rate(service: Service, streams: int, batches: int, records: int, start_ms: int) -> float:
    """Records made durable per second, load generator included: it shares the cores."""
    report = json.loads(
        play(
            service.grpc_port, streams=streams, batches=batches, records=records, start_ms=start_ms
        )
    )
    assert report["records"] == streams * batches * records
    return float(report["records"] / report["seconds"])


async def rate_all(url: str, waiting: int) -> float:
    """Rate everything that waits; seconds."""
    pool = await open_pool(url, role=Role.RATER, max_size=2)
    try:
        started = time.perf_counter()
        rated = await rate_pending(pool, Metrics())
        seconds = time.perf_counter() - started
    finally:
        await pool.close()
    assert rated == waiting, (rated, waiting)
    return seconds


def bare_aggregation_seconds(url: str) -> float:
    """The peer of rating: the sums alone, neither priced nor stored."""
    with psycopg.connect(url) as connection:
        return seconds_of(
            lambda: connection.execute(
                "SELECT count(*) FROM (SELECT meter_id, time_bucket('1 hour', started_at),"
                " sum(allocated), sum(used), sum(effective), sum(observed_ms)"
                " FROM usage GROUP BY 1, 2) AS charge"
            ).fetchone()
        )


def bill_figures(service: Service) -> list[Figure]:
    """Latency of /api/Bills: all items, and one user's (p50 and p99), beside bare SQL."""
    users = json.loads(fetch(f"{service.url}/api/Users"))
    one = f"{service.url}/api/Bills?userId={users[0]['id']}"
    items = len(json.loads(fetch(f"{service.url}/api/Bills")))
    everything = statistics.median(
        seconds_of(lambda: fetch(f"{service.url}/api/Bills")) for _ in range(ROUNDS)
    )
    with psycopg.connect(service.database_url) as connection:
        bare = statistics.median(
            seconds_of(lambda: connection.execute("SELECT * FROM bill").fetchall())
            for _ in range(ROUNDS)
        )
    single = sorted(seconds_of(lambda: fetch(one)) for _ in range(USER_REQUESTS))
    floor = sorted(
        seconds_of(lambda: fetch(f"{service.url}/healthz")) for _ in range(USER_REQUESTS)
    )
    middle, last = USER_REQUESTS // 2, USER_REQUESTS * 99 // 100
    figures = [
        Figure(
            name=f"/api/Bills, all {items:,} items",
            value=everything * 1000,
            unit="ms",
            beside="SELECT * FROM bill",
            beside_value=bare * 1000,
            rounds=ROUNDS,
        )
    ]
    share = len(json.loads(fetch(one)))
    figures += [
        Figure(
            name=f"/api/Bills?userId=, {share} items, {label}",
            value=single[index] * 1000,
            unit="ms",
            beside=f"/healthz, {label}",
            beside_value=floor[index] * 1000,
            rounds=USER_REQUESTS,
        )
        for label, index in (("p50", middle), ("p99", last))
    ]
    return figures


def fetch(url: str) -> bytes:
    """GET and read all of it."""
    with urllib.request.urlopen(url, timeout=120) as answer:
        return bytes(answer.read())


def play(port: int, *, streams: int, batches: int, records: int, start_ms: int) -> str:
    """Run the load generator as a process of its own; gives its JSON line."""
    script = str(Path(__file__).with_name("load.py"))
    words = [str(each) for each in (port, streams, batches, records, start_ms)]
    done = subprocess.run(
        [sys.executable, script, *words],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
