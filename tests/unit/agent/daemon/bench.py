"""A daemon with everything around it in the hands of a test, on a real spool."""

import errno
import os
from dataclasses import dataclass, field, replace
from pathlib import Path

from agent.backlog import StoredBatch
from agent.clock import AgentClock
from agent.config import Reader
from agent.daemon import Daemon
from agent.daemon.schedule import Look
from agent.integrate import UsageRecord
from agent.jobs import JobProvider
from agent.notify import Notifier, Watcher
from agent.samplers import Sampler
from agent.samplers.host import HostReader
from agent.sections.metrics import MetricsSettings
from agent.settings import AgentSettings, build_settings
from agent.spool import Spool
from proto.metering.v1 import metering_pb2 as pb
from tests.unit.agent.fakes import FakeLink, FakeProvider, FakeSampler, FakeTime
from tests.unit.agent.nodes import CPU, START_MS, TEN_S, job
from tests.unit.agent.spools import copied

HOUR_MS = 3_600_000
MS = 1_000_000


def settings_of(tmp_path: Path, node: str = "n1") -> AgentSettings:
    """Defaults, for a node of a known name."""
    settings = build_settings(Reader({}, {}), "test")
    return replace(settings, node=replace(settings.node, name=node))


def open_spool(directory: Path) -> Spool:
    return Spool(directory, segment_bytes=64 << 10, retention_ms=24 * HOUR_MS)


def batches_in(spool: Spool) -> list[pb.Batch]:
    """Everything in a spool, in order."""
    found = [spool.fetch(number) for number in range(1, spool.last_sequence + 1)]
    return [pb.Batch.FromString(one.batch) for one in found if isinstance(one, StoredBatch)]


@dataclass
class Bench:
    """A daemon with time, provider, sampler and uplink in the test's hands, on a real spool."""

    tmp_path: Path
    time: FakeTime = field(default_factory=lambda: FakeTime(wall=START_MS * MS))
    provider: FakeProvider = field(default_factory=FakeProvider)
    sampler: FakeSampler = field(default_factory=FakeSampler)
    others: tuple[JobProvider, Sampler] | None = None  # instead of these two
    link: FakeLink = field(default_factory=FakeLink)
    host: HostReader | None = None
    textfile: Path | None = None
    machine_id: str = "machine-1"
    node: str = "n1"
    lives: int = 0

    def __post_init__(self) -> None:
        self.directory = self.tmp_path / "spool-0"
        self.spool, self.daemon = self.start()

    def start(self) -> tuple[Spool, Daemon]:
        """Begin, or go on from the checkpoint."""
        spool = open_spool(self.directory)
        daemon = Daemon(
            settings=replace(
                settings_of(self.tmp_path, self.node),
                metrics=MetricsSettings(textfile=self.textfile),
            ),
            clock=AgentClock(self.time),
            providers=[self.others[0] if self.others else self.provider],
            samplers=[self.others[1] if self.others else self.sampler],
            spool=spool,
            uplink=self.link,
            notifier=Notifier({}),
            watcher=Watcher(),
            cpu_model="EPYC",
            host=self.host,
            machine_id=self.machine_id,
        )
        return spool, daemon

    def kill(self) -> None:
        """Leave everything as it is, and start another agent on what was written."""
        self.lives += 1
        target = copied(self.directory, self.tmp_path / f"spool-{self.lives}")
        self.daemon.close()
        self.directory = target
        self.spool, self.daemon = self.start()

    def look(self, after_ms: int = TEN_S, look: Look = Look.FULL) -> None:
        """Let time pass, and look."""
        self.time.pass_ms(after_ms)
        self.daemon.look(look)

    def finish(self) -> None:
        """Stop in good order."""
        self.daemon.finish()
        self.daemon.close()

    def records(self, type_: str = CPU) -> list[UsageRecord]:
        """All records of a type, in order."""
        batches = batches_in(self.spool)
        meters = {
            meter.number for batch in batches for meter in batch.meters if meter.type == type_
        }
        records: list[UsageRecord] = []
        for batch in batches:
            columns = batch.records
            for row in zip(
                columns.meter,
                columns.start_ms,
                columns.length_ms,
                columns.allocated,
                columns.used,
                columns.effective,
                columns.observed_ms,
                strict=True,
            ):
                meter, start_ms, *rest = row
                records.append(UsageRecord(meter, columns.base_ms + start_ms, *rest))
        return sorted(
            (record for record in records if record.meter in meters),
            key=lambda record: record.start_ms,
        )

    def ends(self) -> list[int]:
        """All ends that were told."""
        return [end.ended_at_ms for batch in batches_in(self.spool) for end in batch.run_ends]


def burn(bench: Bench, seconds: int, *, cpu_m: int = 250) -> None:
    """Let a job run, looked at every ten seconds, using `cpu_m` of CPU."""
    run = job()
    bench.provider.has(run)
    for _ in range(seconds // 10):
        bench.sampler.cpu[run.key] = bench.sampler.cpu.get(run.key, 0) + cpu_m * TEN_S
        bench.sampler.mem[run.key] = 2_048
        bench.look()


class Disk:
    """Finds room for a write, or does not."""

    def __init__(self) -> None:
        self._pwrite = os.pwrite
        self._has_room = True

    def fill(self) -> None:
        """Leave no room."""
        self._has_room = False

    def empty(self) -> None:
        """Make room again."""
        self._has_room = True

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:
        """Stand in for the system call."""
        if not self._has_room:
            raise OSError(errno.ENOSPC, "full")
        return self._pwrite(fd, data, offset)
