"""Whatever is used again under a name that was somebody's, nothing is doubled or lost.

The whole daemon with the real systemd provider and the real cgroup sampler, on a tree of
cgroups whose counters, and a clock, that the test moves.
"""

from pathlib import Path

import pytest

from agent.cgroups import find_hierarchies
from agent.jobs.systemd import SystemdProvider, open_systemd_provider
from agent.procfs import ProcFs
from agent.samplers.cgroup import CgroupSampler
from agent.samplers.pss import PssReader
from tests.unit.agent.cgrouptrees import CgroupTree
from tests.unit.agent.daemon.bench import HOUR_MS, MS, Bench, batches_in
from tests.unit.agent.jobs.contexts import Machine
from tests.unit.agent.nodes import CPU, START_MS, total

JOB = "/jobs.slice/job-1.scope"
UNITS = '[systemd]\nunits = ["jobs.slice/job-*.scope"]\njob_id = "{1}"\n'
TEN_S = 10_000


class Node:
    """One node whose jobs are the scopes of a slice; CPU counters are in microseconds."""

    def __init__(self, tmp_path: Path, layout: str) -> None:
        self.tree = CgroupTree(tmp_path / "cgroup", layout)
        self.tree.make("/jobs.slice")
        self.machine = Machine(self.tree, UNITS)
        self.machine.now_ms = START_MS
        self.bench = Bench(tmp_path, others=(self._provider(), self._sampler()))

    def _provider(self) -> SystemdProvider:
        return open_systemd_provider(self.machine.context())

    def _sampler(self) -> CgroupSampler:
        procfs = ProcFs()
        pss = PssReader(procfs, lambda: 0)
        return CgroupSampler(find_hierarchies(str(self.tree.root)), procfs, pss)

    def make(self, cpu_us: int = 0, path: str = JOB) -> None:
        self.tree.make(path)
        self.use(cpu_us, path)

    def use(self, cpu_us: int, path: str = JOB) -> None:
        """Set what a cgroup has used since it was made."""
        if self.tree.v1:
            usage = Path(f"{self.tree.v1['cpuacct']}{path}/cpuacct.usage")
            usage.write_text(f"{cpu_us * 1000}\n")
        else:
            Path(f"{self.tree.v2}{path}/cpu.stat").write_text(f"usage_usec {cpu_us}\n")

    def look(self, after_ms: int = TEN_S) -> None:
        self.bench.time.pass_ms(after_ms)
        self.machine.now_ms = self.bench.time.wall // MS
        self.bench.look(0)

    def restart(self) -> None:
        """Kill the agent, and start one that has to find everything again."""
        self.machine.restart()
        self.bench.others = self._provider(), self._sampler()
        self.bench.kill()

    def totals(self) -> tuple[int, int, int]:
        """Jobs' runs, their length in ms and their CPU time in us, when all was told."""
        self.tree.remove(JOB)
        self.look()
        batches = batches_in(self.bench.spool)
        runs = {run.key for batch in batches for run in batch.runs if run.job_id == "1"}
        records = self.bench.records(CPU)
        return len(runs), total(records, "length_ms"), total(records, "used")


@pytest.fixture(params=["v1", "v2"])
def node(request: pytest.FixtureRequest, tmp_path: Path) -> Node:
    layout: str = request.param
    return Node(tmp_path, layout)


def test_a_counter_that_began_again_is_counted_from_zero(node: Node) -> None:
    """5 s, then 1 s after the reset, then 2 s more: 8 s, and never less than nothing."""
    node.make()
    node.look(0)
    for cpu_us in (5_000_000, 1_000_000, 3_000_000):
        node.use(cpu_us)
        node.look()
    assert node.totals() == (1, 40_000, 8_000_000)


def test_a_cgroup_of_the_same_name_is_another_run(node: Node) -> None:
    """Removed and made between two looks: both are billed, each its own CPU time."""
    node.make()
    node.look(0)
    node.use(4_000_000)
    node.look()
    node.tree.remove(JOB)
    node.make(1_000_000)
    node.look()
    node.use(2_000_000)
    node.look()
    assert node.totals() == (2, 40_000, 6_000_000)


def test_a_job_id_that_is_used_again_is_two_runs(node: Node) -> None:
    """An hour apart: the time between is nobody's."""
    node.make()
    node.look(0)
    node.look()
    node.tree.remove(JOB)
    node.look()
    node.look(HOUR_MS)
    node.make()
    node.look(0)
    assert node.totals() == (2, 30_000, 0)


def test_a_requeued_job_is_another_run(node: Node) -> None:
    """Also where the agent was killed in between."""
    node.make()
    node.look(0)
    node.use(3_000_000)
    node.look()
    node.restart()
    node.tree.remove(JOB)
    node.make(500_000)
    node.look()
    node.look()
    runs, _, used = node.totals()
    assert (runs, used) == (2, 3_500_000)


def test_a_restart_makes_no_other_run_of_a_job(node: Node) -> None:
    """It is found again by name and inode, and goes on."""
    node.make()
    node.look(0)
    node.use(3_000_000)
    node.look()
    node.restart()
    node.use(5_000_000)
    node.look()
    assert node.totals() == (1, 30_000, 5_000_000)


def test_a_suspended_machine_loses_no_time_and_sees_none(node: Node) -> None:
    """An hour asleep is allocated and unobserved; CPU time stands still meanwhile."""
    node.make()
    node.look(0)
    node.use(1_000_000)
    node.look()
    node.bench.time.suspend_ms(HOUR_MS)
    node.use(2_000_000)
    node.look()
    assert node.totals() == (1, 30_000 + HOUR_MS, 2_000_000)
    assert total(node.bench.records(CPU), "observed_ms") == 20_000  # not the last ten seconds


@pytest.mark.parametrize("step_ms", [HOUR_MS, -HOUR_MS])
def test_a_clock_that_is_set_changes_no_duration(node: Node, step_ms: int) -> None:
    """An hour either way, in mid-job; the run is the same."""
    node.make()
    node.look(0)
    node.use(1_000_000)
    node.look()
    node.bench.time.step_ms(step_ms)
    node.use(2_000_000)
    node.look()
    assert node.totals() == (1, 30_000, 2_000_000)
    assert node.bench.daemon.counters.clock_steps == 1
