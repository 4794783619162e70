"""The real agent on copied, rolled-back and deleted spools, at the real aggregator.

Each job has known totals: what is billed of it is its time, once, whatever became of the
spool in between. `COPIES_EXAMPLES` says how many lives are played (default 3).
"""

import asyncio
import os
import shutil
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import psycopg
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from psycopg.rows import TupleRow

from agent.clock import AgentClock
from agent.daemon import Daemon
from agent.daemon.schedule import Look
from agent.notify import Notifier, Watcher
from agent.uplink import Uplink
from agent.uplink.terms import Pace
from aggregator.clock import to_ms, utc_now
from aggregator.ingest.server import IngestServer
from aggregator.metrics import Metrics
from aggregator.settings import GrpcSettings, IngestSettings, Settings
from aggregator.store.pool import open_pool
from tests.unit.agent.daemon.bench import open_spool, settings_of
from tests.unit.agent.fakes import FakeProvider, FakeSampler, FakeTime
from tests.unit.agent.nodes import START_MS, TEN_S, job
from tests.unit.agent.test_uplink_session import IDENTITY

Database = psycopg.Connection[TupleRow]
CPU_M = 250


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A look into the database from outside."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


@pytest_asyncio.fixture
async def ingest(database_url: str) -> AsyncIterator[IngestServer]:
    """An aggregator to which the agents' time is not too old."""
    async with serving(database_url) as server:
        yield server


@asynccontextmanager
async def serving(database_url: str) -> AsyncGenerator[IngestServer]:
    """Serve until the end of the block."""
    pool = await open_pool(database_url, max_size=4)
    configured = Settings(
        grpc=GrpcSettings(port=0), ingest=IngestSettings(linger_seconds=0, max_age_days=3650)
    )
    try:
        async with IngestServer(pool, configured, Metrics(), utc_now) as server:
            yield server
    finally:
        await pool.close()


@dataclass
class Machine:
    """What outlives an agent: its clock, its jobs, its disk."""

    directory: Path
    port: int
    machine_id: str = "machine-1"
    node: str = "n1"
    time: FakeTime = field(default_factory=lambda: FakeTime(wall=START_MS * 1_000_000))
    provider: FakeProvider = field(default_factory=FakeProvider)
    sampler: FakeSampler = field(default_factory=FakeSampler)

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        """An agent goes on from what is on the disk."""
        self.spool = open_spool(self.directory)
        identity = replace(
            IDENTITY, node=self.node, machine_id=self.machine_id, boot_id=self.time.boot_id
        )
        self.uplink = Uplink(
            f"127.0.0.1:{self.port}", identity, self.spool, pace=Pace(base_seconds=0.01)
        )
        self.daemon = Daemon(
            settings=settings_of(self.directory, self.node),
            clock=AgentClock(self.time),
            providers=[self.provider],
            samplers=[self.sampler],
            spool=self.spool,
            uplink=self.uplink,
            notifier=Notifier({}),
            watcher=Watcher(),
            cpu_model="EPYC",
            machine_id=self.machine_id,
        )

    def kill(self) -> None:
        """End the agent without a word."""
        self.uplink.stop()
        self.daemon.close()

    def burn(self, seconds: int) -> None:
        """Let the job run, with CPU_M of CPU; nothing is sent before `deliver`."""
        run = job()
        self.provider.has(run)
        for _ in range(seconds // 10):
            self.sampler.cpu[run.key] = self.sampler.cpu.get(run.key, 0) + CPU_M * TEN_S
            self.time.pass_ms(TEN_S)
            self.daemon.look(Look.FULL)

    def end(self, seconds: int) -> None:
        """The job ends so many seconds after its start, which is now."""
        over = job(ended_at_ms=START_MS + seconds * 1_000, cpu_usec=CPU_M * seconds * 1_000)
        self.provider.has(over)
        self.daemon.look(Look.FULL)

    async def deliver(self) -> None:
        """Connect, replace the stream if it is lost, and wait until all is acked."""
        if not self.uplink.is_connected:
            self.uplink.start()
        async with asyncio.timeout(60):
            while not self._is_delivered():
                if self.uplink.lost_stream:
                    self.daemon.look(Look.EVENT)
                await asyncio.sleep(0.01)

    def _is_delivered(self) -> bool:
        is_acked = self.spool.acked_through == self.spool.last_sequence
        return self.uplink.is_connected and self.uplink.lost_stream is None and is_acked


def copy(source: Path, target: Path) -> Path:
    """The spool as it is now."""
    shutil.rmtree(target, ignore_errors=True)
    return Path(shutil.copytree(source, target))


def billed(database: Database, node: str = "n1") -> tuple[int, list[int]]:
    """How many seconds of CPU quota are billed, and where no or more than one record is."""
    rows = database.execute(
        "SELECT usage.started_at, usage.ended_at FROM usage JOIN meter USING (meter_id)"
        " JOIN price_class USING (price_class_id) JOIN run USING (run_id) JOIN node USING (node_id)"
        " WHERE type = 'cpu' AND node.name = %s ORDER BY 1, 2",
        [node],
    ).fetchall()
    at_ms, seams = START_MS, list[int]()
    for start, end in rows:
        if to_ms(start) != at_ms:
            seams.append((to_ms(start) - at_ms) // 1000)
        at_ms = to_ms(end)
    return (at_ms - START_MS) // 1000, seams


def run_end(database: Database, node: str = "n1") -> int | None:
    """When the job ended, in seconds after its start; None: it lives."""
    ((ended_at,),) = database.execute(
        "SELECT ended_at FROM run JOIN node USING (node_id) WHERE name = %s", [node]
    ).fetchall()
    return None if ended_at is None else round(ended_at.timestamp()) - START_MS // 1000


async def test_a_deleted_spool(ingest: IngestServer, database: Database, tmp_path: Path) -> None:
    """Four minutes were told; the new agent knows nothing, and tells the job from its start."""
    node = Machine(tmp_path / "spool", ingest.port)
    node.burn(250)
    await node.deliver()
    node.kill()
    shutil.rmtree(node.directory)
    node.start()
    node.burn(70)
    node.end(320)
    await node.deliver()
    node.kill()
    assert billed(database) == (320, [])
    assert run_end(database) == 320


@pytest.mark.parametrize("late_seconds", [10, 600])
async def test_a_spool_rolled_back_to_an_older_copy(
    ingest: IngestServer, database: Database, tmp_path: Path, late_seconds: int
) -> None:
    """Shorter than what is durable: a new stream, and the time after the copy is billed once."""
    node = Machine(tmp_path / "spool", ingest.port)
    node.burn(70)
    await node.deliver()
    old = copy(node.directory, tmp_path / "copy")
    node.burn(180)
    await node.deliver()
    node.kill()
    node.directory = old
    node.time.pass_ms(late_seconds * 1000)
    node.start()
    stream_id = node.spool.stream_id
    node.burn(10)
    node.end(260 + late_seconds)
    await node.deliver()
    assert node.spool.stream_id != stream_id
    node.kill()
    assert list((old / "aside").glob("*.seg")), "the copied backlog is set aside"
    assert billed(database) == (260 + late_seconds, [])
    assert run_end(database) == 260 + late_seconds


async def test_a_rolled_back_spool_that_has_caught_up(
    ingest: IngestServer, database: Database, tmp_path: Path
) -> None:
    """As many sequences as are durable and more, but others: the digest shows it."""
    node = Machine(tmp_path / "spool", ingest.port)
    node.burn(70)
    await node.deliver()
    old = copy(node.directory, tmp_path / "copy")
    node.burn(180)
    await node.deliver()
    durable = node.spool.last_sequence
    node.kill()
    node.directory = old
    node.start()
    stream_id = node.spool.stream_id
    node.burn(300)  # without the aggregator
    assert node.spool.last_sequence > durable
    node.end(550)
    await node.deliver()
    assert node.spool.stream_id != stream_id
    node.kill()
    assert billed(database) == (550, [])
    assert run_end(database) == 550
    assert database.execute("SELECT count(*) FROM stream_gap").fetchone() == (0,)


async def with_clone(
    folder: Path, port: int, *, machine_id: str = "machine-1"
) -> tuple[Machine, Machine]:
    """A node that told of a job for 130 s, and what has booted since from a copy of its disk."""
    node = Machine(folder / "spool", port)
    node.burn(130)
    await node.deliver()
    time = replace(node.time)
    time.reboot("boot-of-clone")
    copied = copy(node.directory, folder / "clone")
    clone = Machine(copied, port, machine_id=machine_id, time=time)
    clone.daemon.look(Look.FULL)
    await clone.deliver()
    return node, clone


async def test_two_agents_with_a_cloned_spool(
    ingest: IngestServer, database: Database, tmp_path: Path
) -> None:
    """Another machine boots from a copy of the disk: the original's job goes on, unharmed."""
    node, clone = await with_clone(tmp_path, ingest.port, machine_id="machine-2")
    node.burn(60)
    await node.deliver()
    clone.time.pass_ms(60_000)
    clone.daemon.look(Look.FULL)
    await clone.deliver()
    clone.kill()
    node.end(190)
    await node.deliver()
    node.kill()
    assert billed(database) == (190, [])
    assert run_end(database) == 190
    assert database.execute("SELECT count(*) FROM quarantine").fetchone() == (0,)


async def test_two_agents_with_a_cloned_spool_and_one_machine_id(
    ingest: IngestServer, database: Database, tmp_path: Path
) -> None:
    """The clone takes the stream and says that the job ended; the original corrects that."""
    node, clone = await with_clone(tmp_path, ingest.port)
    assert run_end(database) is not None
    stream_id = node.spool.stream_id
    node.burn(60)
    await node.deliver()
    assert node.spool.stream_id != stream_id, "it was fenced"
    assert run_end(database) is None
    clone.kill()
    node.end(190)
    await node.deliver()
    node.kill()
    assert billed(database) == (190, [])
    assert run_end(database) == 190


async def test_an_old_disk_that_is_mounted_again(
    ingest: IngestServer, database: Database, tmp_path: Path
) -> None:
    """A fresh disk for a while, then the old one: each goes on after what is durable."""
    node = Machine(tmp_path / "old", ingest.port)
    node.burn(130)
    await node.deliver()
    node.kill()
    node.directory = tmp_path / "fresh"
    node.start()
    node.burn(120)
    await node.deliver()
    node.kill()
    node.directory = tmp_path / "old"
    node.start()
    node.burn(60)
    node.end(310)
    await node.deliver()
    node.kill()
    assert billed(database) == (310, [])
    assert run_end(database) == 310


@dataclass
class Life:
    """A node to whose disk everything happens; one job lives through all of it."""

    machine: Machine
    folder: Path
    lived_seconds: int = 0
    copies: int = 0
    saved: Path | None = None

    async def play(self, step: tuple[str, int]) -> None:
        """One thing happens."""
        what, seconds = step
        match what:
            case "burn":
                self.machine.burn(seconds)
                self.lived_seconds += seconds
            case "deliver":
                await self.machine.deliver()
            case "kill":
                self._restart(self.machine.directory)
            case "save":
                self.saved = self._copy()
            case "roll back" if self.saved:
                self._restart(copy(self.saved, self._place()))
            case "delete":
                self._restart(self._place())
            case "clone":
                await self._clone()
            case _:
                pass

    def _place(self) -> Path:
        self.copies += 1
        return self.folder / f"disk-{self.copies}"

    def _copy(self) -> Path:
        return copy(self.machine.directory, self._place())

    def _restart(self, directory: Path) -> None:
        self.machine.kill()
        self.machine.directory = directory
        self.machine.start()

    async def _clone(self) -> None:
        """Another machine boots from a copy for a moment."""
        time = replace(self.machine.time)
        time.reboot(f"boot-of-clone-{self.copies}")
        clone = Machine(
            self._copy(),
            self.machine.port,
            machine_id="machine-2",
            node=self.machine.node,
            time=time,
        )
        clone.daemon.look(Look.FULL)
        await clone.deliver()
        clone.kill()


SELDOM = ["kill", "save", "roll back", "delete", "clone"]
steps = st.tuples(
    st.sampled_from(["burn", "deliver", "burn", "deliver", *SELDOM]),
    st.sampled_from([10, 50, 60, 130]),
)


@settings(
    max_examples=int(os.environ.get("COPIES_EXAMPLES", "3")),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.generate],
)
@given(lives=st.lists(steps, min_size=3, max_size=10))
def test_whatever_becomes_of_the_spool_the_job_is_billed_once(
    database_url: str,
    database: Database,
    tmp_path_factory: pytest.TempPathFactory,
    lives: Sequence[tuple[str, int]],
) -> None:
    """Each second of it is covered by exactly one record, and it ends when it ended."""
    folder = tmp_path_factory.mktemp("lives")
    lived = asyncio.run(_live(database_url, folder, lives))
    assert billed(database, folder.name) == (lived, [])
    assert run_end(database, folder.name) == lived


async def _live(database_url: str, folder: Path, lives: Sequence[tuple[str, int]]) -> int:
    """Play it to the end of the job; how many seconds that lived."""
    async with serving(database_url) as server:
        life = Life(Machine(folder / "disk-0", server.port, node=folder.name), folder)
        await life.play(("burn", 10))
        for step in lives:
            await life.play(step)
        life.machine.end(life.lived_seconds)
        await life.machine.deliver()
        life.machine.kill()
    return life.lived_seconds
