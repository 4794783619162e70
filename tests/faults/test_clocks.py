"""A real agent whose wall clock is set, whose machine sleeps and reboots: durations are true."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from aggregator.store.embedded import Server
from tests.acceptance.product import until
from tests.faults.clocks import Clocks
from tests.faults.jobs import LiveJob
from tests.faults.processes import Agent, Rig
from tests.faults.truth import Verdict, compare, read_quarantine

HOUR = timedelta(hours=1)
TEN_YEARS = timedelta(days=3653)
MS = timedelta(milliseconds=1)

pytestmark = pytest.mark.timeout(600)


class Machine:
    """A rig with one agent that has clocks of its own, three hours slow."""

    def __init__(self, rig: Rig, clocks: Clocks) -> None:
        self.rig, self.clocks = rig, clocks
        clocks.set_wall(-3 * HOUR)
        self.agent: Agent = rig.add_agent("node", clocks.env)
        self.agent.workload.clock = clocks.now
        self._begun: dict[str, timedelta] = {}
        self._seen = 0

    def begin(self, job: LiveJob | None = None) -> LiveJob:
        """Begin a job (or that one has begun), and see it metered."""
        runs = self._runs()
        job = job or self.agent.workload.begin()
        self._begun[job.job_id] = self.clocks.elapsed()
        until("the job to be known", lambda: self._runs() > runs, seconds=60)
        return job

    def _runs(self) -> int:
        return len(self.rig.database.execute("SELECT run_id FROM run"))

    def use(self, job: LiveJob, cpu_usec: int) -> None:
        """Let it use CPU time."""
        job.cpu_usec += cpu_usec
        assert job.cgroup is not None
        self.agent.workload.cgroups.count(job.cgroup, job.cpu_usec)

    def end(self, job: LiveJob) -> None:
        """End it, as who counted its life and did not look at the wall clock."""
        lived = self.clocks.elapsed() - self._begun[job.job_id]
        self.agent.workload.end(job, job.started_at + lived // MS * MS)

    def see(self, what: str) -> None:
        """Wait until the agent has said that in its log once more."""
        log = self.agent.child.log

        def is_said() -> bool:
            return log.read_text().count(what) > self._seen

        until(f"the agent to say {what}", is_said, seconds=60)
        self._seen = log.read_text().count(what)


@pytest.fixture
def machine(fault_server: Server, tmp_path: Path) -> Iterator[Machine]:
    with Rig(fault_server, tmp_path) as rig:
        yield Machine(rig, Clocks(tmp_path / "clocks"))


@pytest.mark.parametrize("step", [HOUR, -HOUR])
def test_a_clock_that_is_set_changes_no_duration(machine: Machine, step: timedelta) -> None:
    """The job's allocation is its life, its CPU time the kernel's."""
    job = machine.begin()
    machine.use(job, 123_457)
    machine.clocks.set_wall(step)
    machine.see("clock_step")
    machine.use(job, 765_432)
    machine.end(job)
    machine.rig.finish()
    verdict = machine.rig.verdict()
    assert verdict.is_exact, verdict.faults


@pytest.mark.parametrize("step", [TEN_YEARS, -TEN_YEARS])
def test_usage_of_another_decade_is_set_aside_and_nothing_else(
    machine: Machine, step: timedelta
) -> None:
    """What was metered while the clock was wrong is in quarantine, whole, and not lost."""
    job = machine.begin()
    machine.use(job, 111_111)
    machine.clocks.set_wall(step)
    machine.see("clock_step")
    machine.use(job, 222_222)
    machine.clocks.set_wall(-step)
    machine.see("clock_step")
    machine.use(job, 333_333)
    machine.end(job)
    machine.rig.finish()
    ledger = machine.rig.ledger()
    assert ledger.quarantined
    aside = read_quarantine(machine.rig.database.url)
    verdict: Verdict = compare(machine.rig.truth().less(aside), ledger)
    assert verdict.is_exact, verdict.faults


def test_a_machine_that_sleeps_loses_no_time_and_sees_none(machine: Machine) -> None:
    """Ten minutes asleep are allocated, and not observed, however late its end is told."""
    job = machine.begin()
    machine.use(job, 100_000)
    machine.clocks.suspend(timedelta(minutes=10))
    machine.use(job, 50_000)
    machine.end(job)
    machine.rig.finish()
    verdict = machine.rig.verdict()
    assert verdict.is_exact, verdict.faults
    ((unobserved_ms,),) = machine.rig.database.execute(
        "SELECT sum(length_ms - observed_ms) FROM bill WHERE type = 'cpu'"
    )
    assert 599_000 < int(str(unobserved_ms)) < 700_000  # two clocks are read one after the other


def test_a_reboot_ends_what_ran_and_counts_from_zero(machine: Machine) -> None:
    """Job id and cgroup come again with counters at zero: two runs, each with its own."""
    workload, agent = machine.agent.workload, machine.agent
    job = machine.begin()
    machine.use(job, 900_000)
    agent.kill()
    machine.end(job)
    machine.clocks.reboot()
    agent.start()
    until("the first run to be told", agent.is_told, seconds=60)
    again = machine.begin(workload.begin_again(job))
    machine.use(again, 300_000)
    machine.end(again)
    machine.rig.finish()
    verdict = machine.rig.verdict()
    assert verdict.is_exact, verdict.faults
    assert machine.rig.database.execute("SELECT count(*) FROM run") == [(2,)]
