"""A spool on a disk of 1 MB that fills up while the aggregator is away, and what comes of it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random

import psycopg
import pytest

from aggregator.clock import utc_now
from tests.acceptance.product import CHECKOUT, clean_environment, until
from tests.faults.scale.aggregators import Aggregator, aggregator_on

NAMESPACE = ("unshare", "-m") if os.geteuid() == 0 else ("unshare", "-rm")
MOUNT = 'mount -t tmpfs -o size=1m tmpfs "$0" && exec "$@"'
LATE_JOBS, AFTER_LOOKS = 60, 5
JOB_SECONDS = 90
AGENT = (sys.executable, "-m", "agent", "run")

pytestmark = pytest.mark.timeout(300)


class Node:
    """An agent whose state lies on a disk of 1 MB, which nobody else sees."""

    def __init__(self, folder: Path, grpc_port: int) -> None:
        self.state, self.jobs = folder / "state", folder / "jobs.d"
        self.log, self.figures = folder / "agent.log", folder / "agent.prom"
        self.state.mkdir()
        self.jobs.mkdir()
        self.cpu_m: dict[str, int] = {}  # of each job handed in
        self._chance = Random(random_seed())
        environ = clean_environment() | {
            "NODEMETER_AGENT_CONFIG": os.devnull,
            "NODEMETER_AGENT_STATE_DIR": str(self.state),
            "NODEMETER_AGENT_SAMPLE_INTERVAL_SECONDS": "1",
            "NODEMETER_JOBS_DIR": str(self.jobs),
            "NODEMETER_JOBS_PROVIDERS": "files",
            "NODEMETER_METRICS_TEXTFILE": str(self.figures),
            "NODEMETER_UPLINK_TARGET": f"127.0.0.1:{grpc_port}",
        }
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*NAMESPACE, "sh", "-c", MOUNT, str(self.state), *AGENT],
                cwd=CHECKOUT,
                env=environ,
                stderr=log,
            )
        until(f"the agent, see {self.log}", self.figures.exists, seconds=60)

    def hand_in(self, count: int, started_at: datetime) -> None:
        """Write files of jobs that are over, with names that cannot be deflated."""
        for _ in range(count):
            job_id = f"job-{len(self.cpu_m)}"
            self.cpu_m[job_id] = 100 + len(self.cpu_m)
            words = {key: self._word() for key in ("job_name", "project", "namespace")}
            job = words | {
                "job_id": job_id,
                "username": "alice",
                "cpu_m": self.cpu_m[job_id],
                "started_at": stamp(started_at),
                "ended_at": stamp(started_at + timedelta(seconds=JOB_SECONDS)),
            }
            new = self.jobs / f".{job_id}.new"
            new.write_text(json.dumps(job))
            new.rename(self.jobs / f"{job_id}.json")

    def _word(self) -> str:
        return "".join(chr(self._chance.randrange(0x4E00, 0x9FA0)) for _ in range(250))

    def told(self, action: str) -> int:
        """How many lines of the log are of that kind."""
        assert self.process.poll() is None, self.log.read_text()
        lines = self.log.read_text().splitlines()
        return sum(f" action={action} " in f"{line} " for line in lines)

    def figure(self, name: str) -> int:
        """One of the agent's own figures."""
        for line in self.figures.read_text().splitlines():
            word, _, value = line.partition(" ")
            if word == f"nodemeter_agent_{name}":
                return int(float(value))
        raise AssertionError(name)

    def disk_bytes(self) -> int:
        """What lies on the disk, as the agent sees it."""
        place = Path(f"/proc/{self.process.pid}/root{self.state}")
        return sum(each.stat().st_size for each in place.rglob("*") if each.is_file())


def random_seed() -> int:
    """Names need not be the same from run to run, only be names."""
    return int.from_bytes(os.urandom(4))


def stamp(instant: datetime) -> str:
    return instant.isoformat().replace("+00:00", "Z")


@pytest.fixture
def aggregator(database_url: str, tmp_path: Path) -> Iterator[Aggregator]:
    """One that is away until a test starts it."""
    made = aggregator_on(database_url, tmp_path / "aggregator.log")
    yield made
    if made.process is not None:
        made.stop()


@pytest.fixture
def node(aggregator: Aggregator, tmp_path: Path) -> Iterator[Node]:
    probe = subprocess.run(
        [*NAMESPACE, "sh", "-c", MOUNT, str(tmp_path), "true"], capture_output=True, check=False
    )
    if probe.returncode:
        pytest.skip(f"no mount namespace of our own: {probe.stderr.decode().strip()}")
    made = Node(tmp_path, aggregator.grpc_port)
    yield made
    made.process.kill()
    made.process.wait()


def test_a_full_disk_costs_nothing_and_is_told_once(
    node: Node, aggregator: Aggregator, database_url: str
) -> None:
    """No crash, nothing dropped; with the aggregator back all arrives, exactly."""
    started_at = (utc_now() - timedelta(hours=2)).replace(microsecond=0)
    while not node.told("spool_full"):
        node.hand_in(40, started_at)
        until("them to be durable", lambda: has_taken(node), seconds=60)
    node.hand_in(LATE_JOBS, started_at)
    looks = node.figure("looks_total")
    until("looks at it", lambda: node.figure("looks_total") >= looks + AFTER_LOOKS, seconds=60)
    assert (node.told("spool_full"), node.told("spool_resumed")) == (1, 0)
    assert node.told("reconnect") == 1
    assert 700_000 < node.disk_bytes() <= 1 << 20
    assert list(node.jobs.glob("*.json"))

    aggregator.start()
    until("all to be durable", lambda: not list(node.jobs.glob("*.json")), seconds=120)
    until("all to be acked", lambda: not node.figure("unacked_frames"), seconds=60)
    assert node.told("spool_full") == node.told("spool_resumed") == 1
    assert node.told("connect") == 1
    with psycopg.connect(database_url) as connection:
        billed: dict[str, Decimal] = dict(
            connection.execute(
                "SELECT job_id, sum(allocated) FROM usage JOIN meter USING (meter_id)"
                " JOIN run USING (run_id) JOIN price_class USING (price_class_id)"
                " WHERE type = 'cpu' GROUP BY job_id"
            ).fetchall()
        )
        lost = connection.execute("SELECT count(*) FROM stream_gap").fetchone()
        refused = connection.execute("SELECT count(*) FROM quarantine").fetchone()
    assert billed == {job: cpu_m * JOB_SECONDS * 1000 for job, cpu_m in node.cpu_m.items()}
    assert (lost, refused) == ((0,), (0,))


def has_taken(node: Node) -> bool:
    """Whether what was handed in is durable, or the disk is full."""
    return not list(node.jobs.glob("*.json")) or node.told("spool_full") > 0
