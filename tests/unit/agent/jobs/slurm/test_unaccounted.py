"""v1 jobs whose cgroups count no CPU time: found, told once, and it is said what is missing."""

import pytest

from agent.jobs.slurm import SlurmProvider
from tests.unit.agent.conftest import wait_until
from tests.unit.agent.jobs.slurm.slurmnodes import CPU, ENVIRON, MEM, NOW_MS, SlurmNode, known, only

TRACKED = ("freezer",)
LIMITED = ("freezer", "cpuset", "memory")


def start(node: SlurmNode, controllers: tuple[str, ...], job: str = "7", pid: int = 100) -> str:
    """A job that has cgroups in these controllers."""
    path = node.path(f"job_{job}")
    node.make(path, controllers=controllers)
    environ = ENVIRON | {"SLURM_JOB_ID": job}
    node.start(path, pid, environ, controllers=controllers, age_s=0)
    return path


def seen_by(provider: SlurmProvider) -> set[str]:
    """The cgroups that do not count and have been noticed, whether they are told or not."""
    assert provider._unaccounted
    return set(provider._unaccounted._seen)


@pytest.mark.parametrize("controllers", [TRACKED, LIMITED, ("memory",), ("cpuset", "devices")])
def test_a_job_is_found_wherever_slurm_keeps_it(
    v1_node: SlurmNode, controllers: tuple[str, ...]
) -> None:
    """It holds what it holds, though nobody counts what it uses."""
    path = start(v1_node, controllers)
    provider = v1_node.saved()
    run = only(provider.runs())
    assert (run.job_id, run.cgroup, run.username) == ("7", path, "alice")
    assert run.quotas == {CPU: 2000, MEM: 200 * 1024}
    (problem,) = provider.problems()
    assert "JobAcctGatherType=jobacct_gather/cgroup" in problem.message


def test_a_job_that_is_counted_is_not_told_twice(v1_node: SlurmNode) -> None:
    """Its cgroups in the other controllers are parts of it."""
    start(v1_node, (*LIMITED, "cpuacct"))
    provider = v1_node.saved()
    assert only(provider.runs()).job_id == "7"
    assert provider.problems() == []


def test_it_begins_and_ends_as_others_do(v1_node: SlurmNode) -> None:
    """Also its requeued sibling is another run."""
    provider = v1_node.provider()
    assert provider.runs() == []
    path = start(v1_node, LIMITED)
    v1_node.now_ms += 1_000
    assert provider.runs() == []  # the cgroup that counts may be about to come
    v1_node.now_ms += 2_000
    run = only(known(provider))
    assert abs(run.started_at_ms - NOW_MS) <= 1_000  # its first process's, nearly
    v1_node.remove(path)
    v1_node.now_ms += 60_000
    wait_until(lambda: only(provider.runs()).ended_at_ms is not None)
    assert only(provider.runs()).key == run.key
    start(v1_node, LIMITED, pid=101)
    wait_until(lambda: provider.runs() and len(seen_by(provider)) == 2)
    v1_node.now_ms += 3_000
    ended, again = sorted(known(provider, 2), key=lambda run: run.started_at_ms)
    assert (ended.key, again.ended_at_ms) == (run.key, None)
    provider.settled([run.key])
    assert only(known(provider)).key == again.key


@pytest.mark.parametrize("late", ["cpuacct", "freezer"])
def test_controllers_that_come_one_after_the_other_are_one_job(
    v1_node: SlurmNode, late: str
) -> None:
    """Slurm makes the tracking one first, the counting one a moment later."""
    early = tuple({*LIMITED, "cpuacct"} - {late})
    provider = v1_node.provider()
    provider.runs()
    path = start(v1_node, early)
    provider.runs()
    v1_node.now_ms += 1_500
    provider.runs()
    v1_node.make(path, controllers=(late,))
    v1_node.start(path, 100, ENVIRON, controllers=(late,))
    v1_node.now_ms += 1_500
    run = only(known(provider))
    v1_node.now_ms += 60_000
    assert provider.runs() == [run]
    assert provider.problems() == []


def test_what_is_left_for_a_moment_after_the_end_is_no_job(v1_node: SlurmNode) -> None:
    """Nor is what stays in a controller that was never asked to count."""
    provider = v1_node.provider()
    path = start(v1_node, (*LIMITED, "cpuacct"))
    run = only(known(provider))
    v1_node.remove(path, "cpuacct")
    v1_node.now_ms += 1_000
    ended = only(provider.runs())
    assert ended.ended_at_ms == v1_node.now_ms
    provider.settled([run.key])
    assert provider.runs() == []
    v1_node.remove(path)
    v1_node.now_ms += 5_000
    assert provider.runs() == []
    assert provider.runs() == []


def test_a_counting_cgroup_that_comes_late_changes_nothing(v1_node: SlurmNode) -> None:
    """The run goes on under its first key until it ends."""
    path = start(v1_node, LIMITED)
    provider = v1_node.provider()
    run = only(known(provider))
    v1_node.make(path, controllers=("cpuacct",))
    v1_node.now_ms += 10_000
    assert provider.runs() == [run]
    v1_node.remove(path)
    wait_until(lambda: any(each.ended_at_ms for each in provider.runs()))
    assert run.key in {each.key for each in provider.runs() if each.ended_at_ms}


def test_an_end_that_nobody_settled_yet_hides_no_other_job(v1_node: SlurmNode) -> None:
    """Slurm may have been told to count, and then not to any more."""
    provider = v1_node.provider()
    counted = start(v1_node, (*LIMITED, "cpuacct"))
    known(provider)
    v1_node.remove(counted)
    provider.runs()
    start(v1_node, LIMITED, job="8", pid=108)
    provider.runs()
    v1_node.now_ms += 3_000
    assert {run.job_id for run in known(provider, 2)} == {"7", "8"}
