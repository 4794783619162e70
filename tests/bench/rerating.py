"""Re-rating's figures: how long two million charges take, and what ingest and memory notice.

The usage is laid down by SQL, as ingest would have; it is rated by the rater, repriced, and
rated again by an aggregator process that takes in records meanwhile.
"""

import asyncio
import json
import os
import threading
import time
import urllib.request
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Self

import psycopg
from psycopg.rows import TupleRow

from aggregator.clock import to_ms, utc_now
from aggregator.store.embedded import Server
from aggregator.store.migrate import migrate
from tests.acceptance.service import Service, serving
from tests.bench.aggregator import ingest_rate, rate_all
from tests.bench.table import Figure

METERS = int(os.environ.get("BENCH_METERS", "20000"))
HOURS = 100
RECORDS_PER_HOUR = 5
AIM_SECONDS = 120.0
STREAMS, BATCHES, RECORDS = 4, 60, 1000

USAGE = """
    WITH node AS (
        INSERT INTO node (name, cluster, address, boot_id, machine_id, agent_version, cpu_m,
            mem_kib, cpu_model, devices, first_seen_at, last_seen_at)
        VALUES ('laid', 'bench', '10.0.0.1', 'b', 'm', '0', 1, 1, '', '[]', now(), now())
        RETURNING node_id
    ), run AS (
        INSERT INTO run (node_id, run_key, provider, cluster, job_id, job_name, user_id, vc,
            project, namespace, kind, started_at)
        SELECT node_id, 'laid:' || number, 'files', 'bench', 'job-' || number, 'bench',
            gen_random_uuid(), 'vc1', '', '', 'job', %(start)s
        FROM node, generate_series(1, %(meters)s) AS number
        RETURNING run_id
    ), class AS (
        INSERT INTO price_class (type, vc) VALUES ('cpu', 'vc1') RETURNING price_class_id
    )
    INSERT INTO meter (meter_uid, bill_id, run_id, price_class_id, node_address, quota,
        group_quota, started_at, ingest_group_id)
    SELECT gen_random_uuid(), gen_random_uuid(), run_id, price_class_id, '10.0.0.1', 1000, 1000,
        %(start)s, 1
    FROM run, class
"""
GROUP = """
    INSERT INTO ingest_group (created_at, record_count, min_started_at, max_ended_at)
    VALUES (now(), %(count)s, %(start)s, %(start)s::timestamptz + INTERVAL '1 hour')
    RETURNING ingest_group_id
"""
RECORD = """
    INSERT INTO usage
    SELECT meter_id, %(start)s::timestamptz + minute * INTERVAL '12 minutes',
        %(start)s::timestamptz + minute * INTERVAL '12 minutes' + INTERVAL '1 minute',
        60000000, 30000000 + meter_id, 60000000, 60000, %(group)s
    FROM generate_series(0, %(records)s - 1) AS minute, meter
"""

_UNFINISHED = "SELECT count(*) FROM rerate_progress WHERE finished_at IS NULL"


@dataclass(slots=True)
class Watch:
    """The largest resident memory of a process while it is watched, in MiB, beside the first."""

    pid: int
    first: float = 0.0
    largest: float = 0.0
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread = field(default_factory=threading.Thread)

    def __enter__(self) -> Self:
        """Begin."""
        self.first = self.largest = self._resident()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.2):
            self.largest = max(self.largest, self._resident())

    def _resident(self) -> float:
        status = Path(f"/proc/{self.pid}/status").read_text()
        (line,) = [line for line in status.splitlines() if line.startswith("VmRSS:")]
        return int(line.split()[1]) / 1024


def measure(server: Server, folder: Path) -> list[Figure]:
    """All figures of re-rating, on a fresh database."""
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE bench_rerate")
    url = server.url_of("bench_rerate")
    migrate(url)
    start = utc_now().replace(minute=0, second=0, microsecond=0) - timedelta(hours=HOURS + 8)
    with psycopg.connect(url, autocommit=True) as connection:
        price(connection, "0.001", start)
        lay_down(connection, start)
        asyncio.run(rate_all(url, METERS * HOURS * RECORDS_PER_HOUR))
        charges = count(connection, "SELECT count(*) FROM charge")
        connection.execute("UPDATE ratio SET ends_at = starts_at")
        price(connection, "0.002", start)
        with serving(url, folder / "rerating.log", is_rating=True) as service:
            alone = ingest(service)
            return rerating_figures(service, connection, start, charges, alone)


def rerating_figures(
    service: Service,
    connection: psycopg.Connection[TupleRow],
    start: datetime,
    charges: int,
    alone: float,
) -> list[Figure]:
    """Order it, take in records meanwhile, and wait for its end."""
    with Watch(service.pid) as watch:
        began = time.perf_counter()
        order(service, start)
        beside = ingest(service)
        while count(connection, _UNFINISHED):
            time.sleep(0.2)
        seconds = time.perf_counter() - began
    lines = count(connection, "SELECT line_count FROM rerate_progress")
    assert lines == 2 * charges, (lines, charges)
    wrong = "SELECT count(*) FROM bill WHERE job_name = 'bench' AND started_at = %s AND (amount"
    wrong += " <> billed * 0.002 OR is_mixed)"
    found = connection.execute(wrong.encode(), (start,)).fetchone()
    assert found == (0,), found
    return [
        Figure(
            name=f"re-rating {charges:,} charges of {charges * RECORDS_PER_HOUR:,} records",
            value=seconds,
            unit="s",
            beside="the aim",
            beside_value=AIM_SECONDS,
            rounds=1,
        ),
        Figure(
            name=f"ingest meanwhile, {STREAMS} streams x {RECORDS} records",
            value=beside,
            unit="records/s",
            beside="the same with nothing to re-rate",
            beside_value=alone,
            rounds=1,
        ),
        Figure(
            name="memory of the aggregator while it re-rates",
            value=watch.largest,
            unit="MiB",
            beside="before",
            beside_value=watch.first,
            rounds=1,
        ),
    ]


def lay_down(connection: psycopg.Connection[TupleRow], start: datetime) -> None:
    """Usage that waits to be rated: one group for each hour."""
    connection.execute(USAGE, {"start": start, "meters": METERS})
    for number in range(HOURS):
        hour = start + timedelta(hours=number)
        records = METERS * RECORDS_PER_HOUR
        row = connection.execute(GROUP, {"start": hour, "count": records}).fetchone()
        assert row is not None
        connection.execute(RECORD, {"start": hour, "records": RECORDS_PER_HOUR, "group": row[0]})


def price(connection: psycopg.Connection[TupleRow], value: str, start: datetime) -> None:
    """A price of cpu from before all usage on."""
    connection.execute(
        "INSERT INTO ratio (key, type, value, starts_at, created_at, created_by)"
        " VALUES ('cpu', 'cpu', %s, %s, now(), 'bench')",
        (value, start),
    )


def ingest(service: Service) -> float:
    """Records made durable per second by a service that rates."""
    since = to_ms(utc_now().replace(second=0, microsecond=0) - timedelta(hours=2))
    return ingest_rate(service, STREAMS, BATCHES, RECORDS, since)


def order(service: Service, start: datetime) -> None:
    """Order all that was laid down to be rated again."""
    end = start + timedelta(hours=HOURS)
    body = {
        "from": start.strftime("%Y-%m-%dT%H:%M:00Z"),
        "to": end.strftime("%Y-%m-%dT%H:%M:00Z"),
        "reason": "bench",
    }
    request = urllib.request.Request(
        f"{service.url}/api/admin/v1/rerates",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.status == 202


def count(connection: psycopg.Connection[TupleRow], statement: str) -> int:
    """The one number that a query gives."""
    row = connection.execute(statement.encode()).fetchone()
    assert row is not None
    return int(row[0])
