"""The daemon: whatever is killed, stepped or silent, the bill is right."""

import logging
from collections.abc import Sequence
from pathlib import Path

import pytest

from agent.daemon.schedule import Look
from agent.model import Run
from tests.unit.agent.daemon.bench import HOUR_MS, MS, Bench, batches_in, burn
from tests.unit.agent.fakes import FakeProvider, FakeTime
from tests.unit.agent.nodes import CPU, MEM, START_MS, TEN_S, job, total

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
