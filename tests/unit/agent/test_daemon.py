"""The daemon: whatever is killed, full, stepped or silent, the bill is right."""

import errno
import logging
import os
import signal
import socket
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from agent.backlog import StoredBatch
from agent.cgroups import Hierarchies
from agent.clock import AgentClock, SystemTime
from agent.config import Reader
from agent.daemon import Daemon
from agent.daemon.counters import DaemonCounters
from agent.daemon.schedule import Look
from agent.daemon.sources import Sources
from agent.errors import AgentError, SpoolError
from agent.integrate import UsageRecord
from agent.jobs import JobProvider
from agent.model import Device, DeviceShare, ResourceType, Run
from agent.notify import Notifier, Watcher
from agent.procfs import ProcFs
from agent.samplers import Sampler
from agent.samplers.host import HostCapacity, HostReader
from agent.sections.metrics import MetricsSettings
from agent.settings import AgentSettings, build_settings
from agent.spool import Spool, recover
from agent.uplink import Uplink
from agent.uplink.terms import Pace
from proto.metering.v1 import metering_pb2 as pb
from tests.unit.agent.aggregators import Aggregator, serving
from tests.unit.agent.fakes import FakeLink, FakeProvider, FakeSampler, FakeTime
from tests.unit.agent.nodes import CPU, MEM, START_MS, TEN_S, job, total
from tests.unit.agent.spools import copied, flip, places, truncate
from tests.unit.agent.test_uplink_session import IDENTITY

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


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.daemon.close()


def burn(bench: Bench, seconds: int, *, cpu_m: int = 250) -> None:
    """Let a job run, looked at every ten seconds, using `cpu_m` of CPU."""
    run = job()
    bench.provider.has(run)
    for _ in range(seconds // 10):
        bench.sampler.cpu[run.key] = bench.sampler.cpu.get(run.key, 0) + cpu_m * TEN_S
        bench.sampler.mem[run.key] = 2_048
        bench.look()


# The main job ----------------------------------------------------------------------------


def test_a_job_is_metered_from_its_start_to_its_end(bench: Bench) -> None:
    """Two minutes and a bit: exact time, exact CPU, exact memory, told at once."""
    burn(bench, 120)
    assert bench.ends() == []
    over = job(ended_at_ms=START_MS + 124_000, cpu_usec=250 * 124_000)
    bench.provider.has(over)
    bench.look(after_ms=5_000, look=Look.EVENT)
    assert bench.ends() == [START_MS + 124_000]
    records = bench.records()
    assert total(records, "length_ms") == 124_000
    assert total(records, "used") == 250 * 124_000
    assert total(records, "observed_ms") == 124_000
    assert total(bench.records(MEM), "used") == 2_048 * 124_000


def test_a_job_that_starts_is_told_within_the_look(bench: Bench) -> None:
    """Definitions only; its first readings are taken, for it may be short."""
    bench.provider.has(job())
    bench.look(after_ms=300, look=Look.EVENT)
    (batch,) = batches_in(bench.spool)
    assert [run.job_name for run in batch.runs] == ["burn"]
    assert not batch.records.meter
    assert bench.sampler.sampled == [["burn"]]
    assert bench.link.calls == ["wake"]


def test_an_idle_node_writes_nothing(bench: Bench) -> None:
    """A day without jobs: no frame, and nothing is sampled."""
    for _ in range(100):
        bench.look(after_ms=864_000)
    assert bench.spool.last_sequence == 0
    assert bench.sampler.sampled == []


def test_a_running_job_is_written_once_a_minute(bench: Bench) -> None:
    """One frame per whole minute, and one for its start."""
    burn(bench, 600)
    assert bench.daemon.counters.frames == 1 + 10
    assert bench.daemon.counters.records == 2 * 10


def test_durable_ends_are_told_to_provider_and_sampler(bench: Bench) -> None:
    """Only then may a job's file be deleted."""
    run = job()
    burn(bench, 20)
    assert bench.provider.done == []
    bench.provider.has(job(ended_at_ms=START_MS + 21_000))
    bench.look()
    assert bench.provider.done == [run.key]
    assert bench.sampler.forgotten == [run.key]


def test_an_end_that_was_durable_before_a_kill_is_told_again(bench: Bench) -> None:
    """The agent died between the frame and the deletion of the file: no second bill."""
    over = job(ended_at_ms=START_MS + 3_000)
    bench.provider.has(over)
    bench.look()
    bench.kill()
    bench.provider.has(over)
    bench.look()
    assert bench.provider.done == [over.key, over.key]
    assert bench.ends() == [START_MS + 3_000]
    assert total(bench.records(), "length_ms") == 3_000


# Killed and stopped ----------------------------------------------------------------------


@pytest.mark.parametrize("killed_at", [10, 60, 70, 90])
@pytest.mark.parametrize("away_seconds", [0, 30, 7_200])
def test_a_killed_agent_goes_on_as_if_it_had_lived(
    bench: Bench, killed_at: int, away_seconds: int
) -> None:
    """One continuous item, nothing doubled, CPU to the unit, wherever it is killed."""
    burn(bench, killed_at)
    bench.time.pass_ms(away_seconds * 1_000)
    run = job()
    bench.sampler.cpu[run.key] += 250 * away_seconds * 1_000
    bench.kill()
    burn(bench, 60)
    end_ms = START_MS + (killed_at + away_seconds + 60) * 1_000
    bench.provider.has(job(ended_at_ms=end_ms, cpu_usec=bench.sampler.cpu[run.key]))
    bench.look(after_ms=0)
    records = bench.records()
    at_ms = START_MS
    for record in records:
        assert record.start_ms == at_ms
        at_ms += record.length_ms
    assert at_ms == end_ms
    assert total(records, "used") == 250 * (end_ms - START_MS)
    assert len({meter.number for batch in batches_in(bench.spool) for meter in batch.meters}) == 2


def test_a_job_that_ran_while_no_agent_did_is_exact(bench: Bench) -> None:
    """Started and ended in between: its file says everything."""
    bench.kill()
    bench.time.pass_ms(HOUR_MS)
    started_ms, ended_ms = START_MS + 600_000, START_MS + 1_800_000
    bench.provider.has(job(started_at_ms=started_ms, ended_at_ms=ended_ms, cpu_usec=77))
    bench.look()
    assert total(bench.records(), "length_ms") == 1_200_000
    assert total(bench.records(), "used") == 77


def test_an_orderly_end_records_everything_up_to_now(bench: Bench) -> None:
    """The open window is closed; the next agent begins where it ended."""
    burn(bench, 30)
    bench.time.pass_ms(4_000)
    bench.sampler.cpu[job().key] += 250 * 4_000
    bench.finish()
    bench.spool, bench.daemon = bench.start()
    assert total(bench.records(), "length_ms") == 34_000
    bench.provider.has(job(ended_at_ms=START_MS + 40_000, cpu_usec=250 * 40_000))
    bench.look(after_ms=6_000)
    assert total(bench.records(), "length_ms") == 40_000
    assert total(bench.records(), "used") == 250 * 40_000


# Failures of others ----------------------------------------------------------------------


def test_a_provider_that_fails_ends_nothing(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """What can still be read is billed meanwhile; the log says it once, and when it is over."""
    caplog.set_level(logging.INFO)
    burn(bench, 20)
    bench.provider.fails = True
    for _ in range(12):
        bench.sampler.cpu[job().key] += 250 * TEN_S
        bench.look()
    assert bench.ends() == []
    assert total(bench.records(), "used") == 250 * 120_000
    bench.provider.fails = False
    bench.look()
    assert bench.daemon.counters.provider_failures["files"] == 12
    actions = [getattr(record, "action", "") for record in caplog.records]
    assert (actions.count("fail"), actions.count("recover")) == (1, 1)


def test_a_sampler_that_fails_leaves_time_allocated_and_unobserved(bench: Bench) -> None:
    """Never zero by assumption: the records say that nothing was seen."""
    burn(bench, 60)
    bench.sampler.fails = True
    for _ in range(30):
        bench.look()
    bench.sampler.fails = False
    bench.look()
    bench.finish()
    bench.spool, bench.daemon = bench.start()
    records = bench.records(MEM)
    assert total(records, "length_ms") == 370_000
    assert total(records, "allocated") == 1_024 * 370_000
    assert total(records, "observed_ms") == 60_000 + 60_000
    assert bench.daemon.counters.sampler_failures == {}


def test_a_run_seldom_read_is_not_given_up_while_nobody_looked(bench: Bench) -> None:
    """After a restart the first readings bridge the absence; it is not settled before."""
    burn(bench, 20)
    bench.time.pass_ms(HOUR_MS)
    bench.kill()
    bench.sampler.fails = True
    bench.look()
    bench.sampler.fails = False
    bench.sampler.cpu[job().key] = 250 * (HOUR_MS + 40_000)
    bench.look()
    bench.finish()
    bench.spool, bench.daemon = bench.start()
    records = bench.records()
    assert total(records, "used") == 250 * (HOUR_MS + 40_000)
    assert total(records, "observed_ms") == HOUR_MS + 40_000


# The clock -------------------------------------------------------------------------------


@pytest.mark.parametrize("step_ms", [HOUR_MS, -HOUR_MS, 10 * 365 * 24 * HOUR_MS, -1_000])
def test_a_stepped_clock_changes_no_duration(bench: Bench, step_ms: int) -> None:
    """The job runs 80 s, whatever the wall clock says of it."""
    burn(bench, 40)
    bench.time.step_ms(step_ms)
    burn(bench, 30)
    bench.provider.has(job(ended_at_ms=START_MS + 80_000, cpu_usec=250 * 80_000))
    bench.look(after_ms=10_500)
    assert total(bench.records(), "length_ms") == 80_000
    assert total(bench.records(), "used") == 250 * 80_000
    assert bench.daemon.counters.clock_steps == (0 if step_ms == -1_000 else 1)


def test_a_step_while_the_agent_was_down_changes_no_duration(bench: Bench) -> None:
    """The anchor is in the checkpoint: within a boot the time goes on."""
    burn(bench, 40)
    bench.time.step_ms(-HOUR_MS)
    bench.time.pass_ms(20_000)
    bench.sampler.cpu[job().key] += 250 * 20_000
    bench.kill()
    burn(bench, 20)
    bench.finish()
    bench.spool, bench.daemon = bench.start()
    assert total(bench.records(), "length_ms") == 80_000
    assert total(bench.records(), "used") == 250 * 80_000


class Drowsy(FakeProvider):
    """A provider that is asked just as the machine falls asleep."""

    def __init__(self, time: FakeTime) -> None:
        super().__init__()
        self.time = time
        self.sleep_ms = 0
        self.over: Run | None = None  # what it finds as the machine wakes

    def runs(self) -> Sequence[Run]:
        """Sleep, then answer."""
        slept_ms, self.sleep_ms = self.sleep_ms, 0
        self.time.suspend_ms(slept_ms)
        if slept_ms and self.over:
            self.has(self.over)
        return super().runs()


def test_a_machine_that_falls_asleep_during_a_look_sees_none_of_it(tmp_path: Path) -> None:
    """What is read after it counts as read before; the sleep is in the next interval."""
    time = FakeTime(wall=START_MS * MS)
    provider = Drowsy(time)
    bench = Bench(tmp_path, time=time, provider=provider)
    burn(bench, 20)
    provider.sleep_ms = HOUR_MS
    burn(bench, 20)
    bench.finish()
    bench.spool, bench.daemon = bench.start()
    assert total(bench.records(), "length_ms") == HOUR_MS + 40_000
    assert total(bench.records(), "observed_ms") == 40_000


def test_a_run_that_ended_after_a_sleep_during_a_look_was_not_observed_asleep(
    tmp_path: Path,
) -> None:
    """Its end is told by the answer that the sleep was in the middle of."""
    time = FakeTime(wall=START_MS * MS)
    provider = Drowsy(time)
    bench = Bench(tmp_path, time=time, provider=provider)
    burn(bench, 20)
    provider.sleep_ms, lived_ms = HOUR_MS, HOUR_MS + 30_000
    provider.over = job(ended_at_ms=START_MS + lived_ms, cpu_usec=250 * 30_000)
    bench.look()
    bench.finish()
    bench.spool, bench.daemon = bench.start()
    assert bench.ends() == [START_MS + lived_ms]
    assert total(bench.records(), "length_ms") == lived_ms
    assert total(bench.records(), "observed_ms") == 30_000


def test_suspension_is_allocated_and_unobserved(bench: Bench) -> None:
    """An hour asleep: billed as held, not as seen."""
    burn(bench, 20)
    bench.time.suspend_ms(HOUR_MS)
    bench.sampler.cpu[job().key] += 250 * TEN_S
    bench.look(look=Look.EVENT)
    bench.finish()
    bench.spool, bench.daemon = bench.start()
    for type_ in (CPU, MEM):
        records = bench.records(type_)
        assert total(records, "length_ms") == HOUR_MS + 30_000
        assert total(records, "observed_ms") <= 20_000 + (10_000 if type_ is CPU else 60_000)


def test_after_a_reboot_the_time_off_is_nobodys(bench: Bench) -> None:
    """A pod with the same id goes on as a run of its own, with counters from zero."""
    burn(bench, 20)
    bench.time.reboot("boot-2")
    bench.time.pass_ms(HOUR_MS)
    bench.kill()
    bench.sampler.cpu.clear()
    burn(bench, 20)
    bench.provider.has()
    bench.look()
    assert total(bench.records(), "length_ms") < 60_000
    assert len(bench.ends()) == 2


# Full and broken disks -------------------------------------------------------------------


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


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk()
    monkeypatch.setattr(os, "pwrite", disk.pwrite)
    return disk


def test_a_full_disk_stops_sampling_and_loses_nothing(
    bench: Bench, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    """Logged once; with room again it goes on by itself, CPU to the unit."""
    burn(bench, 50)
    disk.fill()
    burn(bench, 600)
    sampled = len(bench.sampler.sampled)
    burn(bench, 60)
    assert len(bench.sampler.sampled) == sampled
    disk.empty()
    burn(bench, 60)
    bench.finish()
    bench.spool, bench.daemon = bench.start()
    assert total(bench.records(), "length_ms") == 770_000
    assert total(bench.records(), "used") == 250 * 770_000
    mem = bench.records(MEM)
    assert total(mem, "length_ms") == 770_000
    assert total(mem, "observed_ms") <= 770_000 - 600_000 + 2 * 60_000, "the gap is marked"
    assert total(mem, "allocated") == 1_024 * 770_000
    actions = [getattr(record, "action", "") for record in caplog.records]
    assert (actions.count("spool_full"), actions.count("spool_resumed")) == (1, 1)


def test_a_run_that_vanishes_while_the_disk_is_full_ended_when_last_seen(
    bench: Bench, disk: Disk
) -> None:
    """Nobody is sampled, but who lives is still noted."""
    burn(bench, 60)
    disk.fill()
    burn(bench, 120)
    bench.provider.has()
    for _ in range(6):
        bench.look()
    disk.empty()
    bench.look()
    assert bench.ends() == [START_MS + 180_000]


def test_an_end_on_a_full_disk_leaves_it_to_the_next_start(bench: Bench, disk: Disk) -> None:
    """What could not be written is accounted for later, from the last frame."""
    burn(bench, 50)
    disk.fill()
    burn(bench, 20)
    bench.finish()
    disk.empty()
    bench.spool, bench.daemon = bench.start()
    burn(bench, 60)
    bench.finish()
    bench.spool, bench.daemon = bench.start()
    assert total(bench.records(), "length_ms") == 130_000
    assert total(bench.records(), "used") == 250 * 130_000


def test_a_step_of_the_clock_waits_while_the_disk_is_full(bench: Bench, disk: Disk) -> None:
    """Windows are closed before the time is moved, or not at all."""
    burn(bench, 20)
    bench.time.step_ms(HOUR_MS)
    disk.fill()
    bench.look()
    bench.look()
    assert bench.daemon.counters.clock_steps == 0
    disk.empty()
    burn(bench, 60)
    bench.finish()
    assert bench.daemon.counters.clock_steps == 1
    bench.spool, bench.daemon = bench.start()
    assert total(bench.records(), "length_ms") == 100_000


def test_a_disk_that_fails_ends_the_agent_and_loses_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service manager starts it again; it goes on from the last frame."""
    burn(bench, 50)

    def broken(_fd: int) -> None:
        raise OSError(errno.EIO, "broken")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", broken)
        with pytest.raises(SpoolError):
            burn(bench, 60)
    bench.kill()
    burn(bench, 60)
    bench.finish()
    bench.spool, bench.daemon = bench.start()
    assert total(bench.records(), "used") == bench.sampler.cpu[job().key]


def test_damage_at_the_start_is_told(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """Which sequences are destroyed goes to the log, and to the aggregator."""
    burn(bench, 200)
    second = places(bench.spool)[1]
    flip(second.path, second.end - 1)
    bench.kill()
    (gap,) = [record for record in caplog.records if getattr(record, "action", "") == "gap"]
    assert (gap.__dict__["first"], gap.__dict__["last"]) == (2, 2)


def test_a_destroyed_newest_frame_that_was_sent_is_not_billed_again(bench: Bench) -> None:
    """What it held is a declared gap: less is billed, never more."""
    burn(bench, 130)
    newest = bench.spool.fetch(bench.spool.last_sequence)
    assert isinstance(newest, StoredBatch)
    bench.spool.mark_sent(newest)
    place = places(bench.spool)[-1]
    flip(place.path, place.end - 1)
    bench.kill()
    burn(bench, 60)
    bench.finish()
    bench.spool, bench.daemon = bench.start()
    lost = {record.start_ms for record in bench.records()}
    assert START_MS + 60_000 not in lost
    assert total(bench.records(), "length_ms") == 190_000 - 60_000
    assert total(bench.records(), "used") == 250 * 130_000


def test_when_all_frames_are_lost_numbers_are_not_used_again(bench: Bench) -> None:
    """The stream goes on, from where it was sent, under numbers nobody has seen."""
    burn(bench, 70)
    for number in range(1, bench.spool.last_sequence + 1):
        stored = bench.spool.fetch(number)
        assert isinstance(stored, StoredBatch)
        bench.spool.mark_sent(stored)
    sent_at_ms = START_MS + 60_000
    truncate(places(bench.spool)[0].path, 100)
    bench.kill()
    burn(bench, 70)
    records = bench.records()
    assert min(record.start_ms for record in records) == sent_at_ms
    assert min(record.meter for record in records) > 1 << 20


# Streams ---------------------------------------------------------------------------------


def lose_stream(bench: Bench) -> None:
    """Let the uplink say that the stream must be given up."""
    bench.link.lost_stream = "the aggregator holds sequence 9"
    bench.link.calls.clear()


def test_a_lost_stream_is_replaced_and_all_that_may_be_missing_is_told_again(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """The new one begins with the frames that are not acked, and the agent goes on in it."""
    burn(bench, 130)
    old = bench.spool.stream_id
    bench.spool.ack(1)
    lose_stream(bench)
    burn(bench, 60)
    assert bench.spool.stream_id != old
    assert "resume" in bench.link.calls
    (told,) = [one for one in caplog.records if getattr(one, "action", "") == "new_stream"]
    assert told.__dict__["told_again"] == 2
    bench.kill()
    burn(bench, 60)
    bench.finish()
    bench.spool, bench.daemon = bench.start()
    records = bench.records()
    assert [batch.sequence for batch in batches_in(bench.spool)][:3] == [1, 2, 3]
    assert total(records, "length_ms") == 250_000, "definitions alone were acked"
    assert total(records, "used") == 250 * 250_000


def test_holes_of_a_lost_stream_are_declared_in_the_new_one(bench: Bench) -> None:
    """What was destroyed in its backlog is a gap there as well."""
    burn(bench, 190)
    third = places(bench.spool)[2]
    flip(third.path, third.end - 1)
    bench.kill()
    lose_stream(bench)
    burn(bench, 10)
    (gap,) = bench.spool.missing()
    assert (gap.first, gap.last) == (3, 3)
    bench.kill()
    (gap,) = bench.spool.missing()
    assert (gap.first, gap.last) == (3, 3)


def test_a_draft_that_waited_for_room_in_a_lost_stream_is_told_in_the_new_one(
    bench: Bench, disk: Disk
) -> None:
    """On a full disk the old stream stays until there is room; nothing is lost."""
    burn(bench, 50)
    disk.fill()
    burn(bench, 30)
    old = bench.spool.stream_id
    lose_stream(bench)
    burn(bench, 30)
    assert bench.spool.stream_id == old
    assert bench.link.lost_stream is not None
    disk.empty()
    burn(bench, 60)
    assert bench.spool.stream_id != old
    bench.finish()
    bench.spool, bench.daemon = bench.start()
    assert total(bench.records(), "length_ms") == 170_000
    assert total(bench.records(), "used") == 250 * 170_000


@pytest.mark.parametrize("killed_at", ["move_aside", "begin_with"])
def test_a_kill_between_two_streams_leaves_the_new_one_whole(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, killed_at: str
) -> None:
    """The head says which of them counts; what it has to tell is there before."""
    burn(bench, 130)

    def killed(_path: Path) -> Path:
        raise SpoolError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(recover, killed_at, killed)
        lose_stream(bench)
        with pytest.raises(SpoolError, match="killed"):
            bench.look(0)
    bench.kill()
    assert total(bench.records(), "length_ms") == 120_000


def test_a_kill_before_the_new_stream_counts_leaves_the_old_one(bench: Bench) -> None:
    """What was prepared for it is dropped."""
    burn(bench, 130)
    prepared = bench.directory / "next"
    prepared.write_bytes(b"half")
    bench.kill()
    assert total(bench.records(), "length_ms") == 120_000
    assert not (bench.directory / "next").exists()


def test_a_copy_on_another_machine_tells_and_ends_nothing_of_the_original(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """It sets the spool aside before it connects, and meters its own jobs from its own boot."""
    burn(bench, 130)
    old = bench.spool.stream_id
    bench.machine_id = "machine-2"
    bench.time.reboot("boot-2")
    bench.provider.has()
    bench.kill()
    assert bench.spool.stream_id != old
    bench.look()
    assert batches_in(bench.spool) == []
    bench.provider.has(job("own", started_at_ms=START_MS + 130_000))
    bench.look()
    (batch,) = batches_in(bench.spool)
    assert [run.job_id for run in batch.runs] == ["own"]
    (told,) = [one for one in caplog.records if getattr(one, "action", "") == "cloned_spool"]
    assert (told.__dict__["of"], told.__dict__["here"]) == ("machine-1", "machine-2")


def test_after_a_reboot_a_lost_stream_takes_only_what_is_this_lifes(bench: Bench) -> None:
    """It may be the copy of a machine with one id: the runs in it are not ours to end."""
    burn(bench, 130)
    bench.time.reboot("boot-2")
    own = job("own", started_at_ms=START_MS + 130_000)
    bench.provider.has(own)
    bench.kill()
    bench.look()
    assert len(bench.ends()) == 1, "until we know better they ended with the machine"
    bench.sampler.mem[own.key] = 7
    bench.look(60_000)
    lose_stream(bench)
    bench.look(60_000)
    bench.finish()
    bench.spool, bench.daemon = bench.start()
    assert {run.job_id for batch in batches_in(bench.spool) for run in batch.runs} == {"own"}
    assert bench.ends() == []
    assert total(bench.records(MEM), "length_ms") == 130_000


def test_before_the_first_look_after_a_reboot_nothing_of_the_copy_is_told(bench: Bench) -> None:
    """The aggregator may say at once that the stream is another's."""
    burn(bench, 130)
    bench.time.reboot("boot-2")
    bench.provider.has()
    bench.kill()
    lose_stream(bench)
    bench.look()
    bench.look()
    assert batches_in(bench.spool) == []
    assert list(bench.daemon.state.live) == []


def test_a_node_that_was_renamed_tells_nothing_again(bench: Bench) -> None:
    """What may have arrived is billed to the old name; from now on it is the new one's."""
    burn(bench, 130)
    bench.node = "n2"
    bench.kill()
    lose_stream(bench)
    burn(bench, 60)
    bench.finish()
    bench.spool, bench.daemon = bench.start()
    records = bench.records()
    assert records[0].start_ms == START_MS + 140_000
    assert total(records, "length_ms") == 50_000


# The loop --------------------------------------------------------------------------------


@contextmanager
def running(daemon: Daemon) -> Generator[threading.Thread]:
    """Run the daemon on a thread until the end of the block."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            daemon.run()
        except BaseException as error:  # noqa: BLE001  it is raised again below
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield thread
    finally:
        daemon.stop()
        thread.join(30)
        assert not thread.is_alive()
    for error in failures:
        raise error


def real_daemon(
    tmp_path: Path,
    provider: FakeProvider,
    link: FakeLink | Uplink,
    spool: Spool,
    sampler: FakeSampler | None = None,
) -> Daemon:
    return Daemon(
        settings=settings_of(tmp_path),
        clock=AgentClock(SystemTime()),
        providers=[provider],
        samplers=[sampler or FakeSampler()],
        spool=spool,
        uplink=link,
        notifier=Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")}),
        watcher=Watcher(),
        cpu_model=None,
    )


def asked(provider: FakeProvider, times: int) -> None:
    with provider.asked:
        assert provider.asked.wait_for(lambda: provider.times_asked >= times, 30)


def test_an_event_is_noticed_long_before_the_next_deadline(tmp_path: Path) -> None:
    """A file in the jobs directory: the daemon looks at once; it tells the service manager."""
    jobs = tmp_path / "jobs.d"
    provider = FakeProvider(watched=jobs)
    jobs.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(30)
        daemon = real_daemon(tmp_path, provider, FakeLink(), open_spool(tmp_path / "spool"))
        with running(daemon):
            asked(provider, 1)
            (jobs / "a.json").write_text("{}")
            asked(provider, 2)
        heard = [manager.recv(100)]
        while heard[-1] != b"STOPPING=1":
            heard.append(manager.recv(100))
    assert heard[0] == b"READY=1"
    assert set(heard[1:-1]) == {b"WATCHDOG=1"}


def test_a_lost_stream_wakes_the_daemon(tmp_path: Path) -> None:
    """The uplink waits for another stream; it does not wait for the next deadline."""
    link, provider = FakeLink(), FakeProvider()
    spool = open_spool(tmp_path / "spool")
    old = spool.stream_id
    daemon = real_daemon(tmp_path, provider, link, spool)
    with running(daemon):
        asked(provider, 1)
        daemon.wake()  # for nothing
        link.lost_stream = "fenced"
        daemon.wake()
        asked(provider, 2)
    assert link.calls == ["start", "resume", "stop 3"]
    assert spool.stream_id != old


def test_a_signal_ends_it_in_good_order(tmp_path: Path) -> None:
    """SIGTERM: everything is recorded, the spool is closed, `run` returns."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    now_ms = SystemTime().wall_ns() // MS
    provider, sampler = FakeProvider(), FakeSampler()
    provider.has(job(started_at_ms=now_ms - 5_000))
    sampler.cpu[job().key] = sampler.mem[job().key] = 1
    spool = open_spool(tmp_path / "spool")
    daemon = real_daemon(tmp_path, provider, FakeLink(), spool, sampler)

    def end_soon() -> None:
        asked(provider, 1)
        os.kill(os.getpid(), signal.SIGTERM)

    killer = threading.Thread(target=end_soon)
    killer.start()
    try:
        daemon.run()
    finally:
        killer.join()
        for number, handler in before.items():
            signal.signal(number, handler)
    again = open_spool(tmp_path / "spool")
    told = batches_in(again)
    again.close()
    assert sum(length_ms for batch in told for length_ms in batch.records.length_ms) >= 2 * 5_000
    assert not told[-1].run_ends


def test_a_disk_that_fails_ends_the_loop_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error reaches the caller; uplink and spool are let go."""
    link, provider = FakeLink(), FakeProvider()
    provider.has(job(started_at_ms=SystemTime().wall_ns() // MS))
    spool = open_spool(tmp_path / "spool")
    daemon = real_daemon(tmp_path, provider, link, spool)

    def broken(_fd: int) -> None:
        raise OSError(errno.EIO, "broken")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", broken)
        with pytest.raises(SpoolError, match="broken"), running(daemon) as thread:
            thread.join(30)
    assert link.calls == ["start", "stop 3"]
    daemon.close()  # once more does no harm
    open_spool(tmp_path / "spool").close()


def test_it_waits_where_there_are_no_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without inotify the deadlines do."""
    provider = FakeProvider()
    monkeypatch.setattr(Watcher, "available", property(lambda _self: False))
    daemon = real_daemon(tmp_path, provider, FakeLink(), open_spool(tmp_path / "spool"))
    with running(daemon):
        asked(provider, 1)
        daemon.wake()
    assert provider.times_asked >= 2, "the last look is at the end"


def test_from_job_to_aggregator(tmp_path: Path) -> None:
    """Daemon, spool and uplink together: start, end and usage arrive within the test."""
    jobs = tmp_path / "jobs.d"
    jobs.mkdir()
    provider = FakeProvider(watched=jobs)
    spool = open_spool(tmp_path / "spool")
    now_ms = SystemTime().wall_ns() // MS
    with serving(Aggregator()) as there:
        uplink = Uplink(f"127.0.0.1:{there.port}", IDENTITY, spool, pace=Pace(base_seconds=0.01))
        daemon = real_daemon(tmp_path, provider, uplink, spool)
        uplink.on_stream_lost = daemon.wake
        with running(daemon):
            asked(provider, 1)
            provider.has(job(started_at_ms=now_ms))
            (jobs / "a").touch()
            there.until(lambda: any(batch.runs for batch in there.batches))
            provider.has(job(started_at_ms=now_ms, ended_at_ms=now_ms + 40, cpu_usec=33))
            (jobs / "a").unlink()
            there.until(lambda: any(batch.run_ends for batch in there.batches))
    told = [batch.records for batch in there.batches]
    assert sum(used for records in told for used in records.used) == 33
    assert sum(length_ms for records in told for length_ms in records.length_ms) == 2 * 40
    assert spool.acked_through == spool.last_sequence == there.acked_through


class FakeDevices(FakeSampler):
    """A driver that knows two GPUs."""

    def __init__(self) -> None:
        super().__init__()
        self.must_restart = False
        self.known: Sequence[Device] = [
            Device(type=ResourceType.GPU, id=f"GPU-{at}", model="H200", names=frozenset({str(at)}))
            for at in range(2)
        ]

    def devices(self) -> Sequence[Device]:
        """See `DeviceSampler`."""
        return self.known


def test_devices_have_their_uuid_and_the_books_are_kept(tmp_path: Path) -> None:
    """A job that names GPU 0 is billed for its uuid; the other one is idle; Hello names both."""
    capacity = HostCapacity(cpu_m=4_000, mem_kib=1 << 20, cpu_model="EPYC")
    host = HostReader(Hierarchies(None, {}), "/proc", capacity)
    bench = Bench(tmp_path, sampler=FakeDevices(), host=host)
    share = DeviceShare(type=ResourceType.GPU, id="0", model=None)
    bench.provider.has(job(devices=[share]))
    for _ in range(24):
        bench.look()
    batches = batches_in(bench.spool)
    bench.finish()
    meters = [meter for batch in batches for meter in batch.meters]
    kinds = {
        meter.number: run.kind
        for batch in batches
        for meter in batch.meters
        for run in batch.runs
        if run.number == meter.run
    }
    gpus = {(kinds[m.number], m.device, m.model) for m in meters if m.type == "gpu"}
    assert gpus == {
        ("job", "GPU-0", "H200"),
        ("capacity", "GPU-0", "H200"),
        ("capacity", "GPU-1", "H200"),
        ("idle", "GPU-1", "H200"),
    }
    assert {"capacity", "idle", "unattributed"} <= set(kinds.values())
    assert [device.id for device in bench.link.devices] == ["GPU-0", "GPU-1"]


def test_a_job_of_two_seconds_has_its_memory(tmp_path: Path) -> None:
    """It is looked at when it starts, and every second while it is young."""
    bench = Bench(tmp_path)
    bench.look()
    run = replace(job(mem_kib=0), started_at_ms=bench.time.wall // MS)
    bench.provider.has(run)
    for mem_kib in (100, 300, 500):
        bench.sampler.mem[run.key] = mem_kib
        bench.look(1_000, Look.EVENT)
    bench.provider.has(replace(run, ended_at_ms=bench.time.wall // MS))
    bench.look(100, Look.EVENT)
    (record,) = bench.records(MEM)
    assert record.observed_ms == record.length_ms == 3_000
    assert record.used == (100 + 200 + 400) * 1_000


def test_an_old_job_is_read_at_the_deadlines_alone(tmp_path: Path) -> None:
    """An event of another one costs nothing for it."""
    bench = Bench(tmp_path)
    bench.provider.has(job())
    bench.look()
    bench.look(2 * TEN_S)
    bench.sampler.sampled.clear()
    bench.look(1_000, Look.EVENT)
    assert bench.sampler.sampled == []


def test_the_usage_of_a_month_is_told_in_many_looks(tmp_path: Path) -> None:
    """Nobody waits for it: not the other jobs, nor who asks us to end; nothing is lost."""
    bench = Bench(tmp_path)
    bench.look()
    now_ms = bench.time.wall // MS
    many = [DeviceShare(type=ResourceType.GPU, id=f"GPU-{at}", model="H200") for at in range(16)]
    run = job(devices=many, started_at_ms=now_ms - 30 * 24 * HOUR_MS)
    bench.provider.has(run)
    bench.look(70_000)
    frames = bench.spool.last_sequence
    assert 20 <= frames <= 21
    bench.daemon.finish()
    bench.kill()
    ended_at_ms = bench.time.wall // MS
    bench.provider.has(replace(run, ended_at_ms=ended_at_ms))
    before = -1
    while bench.spool.last_sequence != before:
        before = bench.spool.last_sequence
        bench.look(1_000, Look.EVENT)
    assert before > 60  # 43,200 minutes of 16 devices and more, 10,000 a frame
    records = bench.records(ResourceType.GPU)
    assert total(records, "allocated") == 16 * 126_000 * (ended_at_ms - run.started_at_ms)


def test_what_nobody_foresaw_in_a_provider_does_not_end_the_metering(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its runs stay as they were, and the log says where it was, once."""
    bench = Bench(tmp_path)
    bench.provider.has(job())
    bench.look()
    bench.provider.error = RecursionError("too deep")
    bench.look()
    bench.look()
    assert bench.daemon.counters.provider_failures["files"] == 2
    unforeseen = [one for one in caplog.records if one.message == "an unforeseen failure"]
    assert len(unforeseen) == 1
    assert unforeseen[0].exc_info
    assert list(bench.daemon.state.live)


def test_a_driver_that_was_replaced_asks_for_a_new_process(tmp_path: Path) -> None:
    """The agent records everything and ends as a failure, so that it is started anew."""
    sampler = FakeDevices()
    bench = Bench(tmp_path, sampler=sampler)
    bench.provider.has(job())
    bench.look()
    sampler.must_restart = True
    with pytest.raises(AgentError, match="the driver of the fake sampler was replaced"):
        bench.daemon.run()
    assert bench.link.calls[-1] == "stop 3"


def test_the_agent_s_figures_are_in_a_file(tmp_path: Path) -> None:
    """Whole after each full look, and true: a failing provider shows with the age of its word."""
    path = tmp_path / "nodemeter.prom"
    bench = Bench(tmp_path, sampler=FakeDevices(), textfile=path)
    bench.provider.has(job())
    bench.look()
    bench.provider.fails = True
    bench.look()
    lines = path.read_text().splitlines()
    assert 'nodemeter_agent_source_up{kind="provider",source="files"} 0' in lines
    assert 'nodemeter_agent_source_age_seconds{kind="provider",source="files"} 10' in lines
    assert 'nodemeter_agent_source_failures_total{kind="provider",source="files"} 1' in lines
    assert 'nodemeter_agent_runs{provider="files"} 1' in lines
    assert 'nodemeter_agent_device_up{device="GPU-0",model="H200",type="gpu"} 1' in lines
    assert list(tmp_path.glob("*.tmp")) == []
    families = list(text_string_to_metric_families(path.read_text()))
    assert len(families) == 13


def test_a_place_that_takes_no_figures_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """And the metering goes on."""
    bench = Bench(tmp_path, textfile=tmp_path / "missing" / "nodemeter.prom")
    bench.look()
    bench.look()
    assert len([one for one in caplog.records if "cannot be written" in one.message]) == 1


def sources_of(bench: Bench, *providers: FakeProvider, patience_ms: int = 60_000) -> Sources:
    clock = AgentClock(bench.time)
    return Sources(
        providers,
        [],
        DaemonCounters(),
        now_ms=clock.now_ms,
        procfs=ProcFs(),
        patience_ms=patience_ms,
    )


def test_a_new_run_waits_for_the_word_of_who_is_trusted_more(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """After a restart a scheduler may need its time to say that the run is its own."""
    slurm, files = FakeProvider("slurm"), FakeProvider("files")
    files.has(job())
    slurm.fails = True
    sources = sources_of(bench, slurm, files)
    assert sources.runs() == {"slurm": None, "files": []}
    assert sources.runs({job().key}) == {"slurm": None, "files": [job()]}
    slurm.fails = False
    slurm.has(job("1", provider="slurm", cgroup=job().cgroup))
    assert sources.runs()["files"] == []
    assert sources.runs()["files"] == []
    assert list(sources.refused) == [job().key]
    told = [one for one in caplog.records if one.message == "a run is not metered by itself"]
    assert len(told) == 1


def test_it_does_not_wait_for_ever(bench: Bench) -> None:
    """A scheduler that never answers must not keep others from being billed."""
    slurm, files = FakeProvider("slurm"), FakeProvider("files")
    files.has(job())
    slurm.fails = True
    sources = sources_of(bench, slurm, files)
    bench.time.pass_ms(60_000)
    assert sources.runs() == {"slurm": None, "files": [job()]}
