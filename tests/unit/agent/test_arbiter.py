"""A run that two providers claim is metered once, by the more trusted."""

from dataclasses import replace

from agent.daemon.arbiter import Answers, Arbiter
from agent.model import Run
from tests.unit.agent.nodes import job

PLACES = {77: ["/slurm/uid_7/job_1/step_0/task_0"], 78: ["/"], 79: []}


def slurm(cgroup: str = "/slurm/uid_7/job_1") -> Run:
    return job("1", provider="slurm", cgroup=cgroup)


def processes(*pids: int) -> Run:
    return replace(job("p", provider="process", cgroup=None), pids=pids)


def names(answers: Answers) -> list[str]:
    return [run.key for runs in answers.values() for run in runs]


def decide(arbiter: Arbiter, **answers: list[Run]) -> list[str]:
    return names(arbiter.decide(answers))


def arbiter() -> Arbiter:
    return Arbiter(lambda pid: PLACES[pid])


def test_one_provider_alone_is_believed() -> None:
    """Nothing is compared where nobody could disagree."""
    assert decide(arbiter(), slurm=[slurm()], files=[]) == ["slurm:1"]


def test_a_cgroup_is_claimed_with_all_below_and_above_it() -> None:
    """A container in a Slurm job is the job's."""
    inner = job("c", provider="docker", cgroup="/slurm/uid_7/job_1/docker-1")
    outer = job("o", provider="files", cgroup="/slurm/uid_7")
    assert decide(arbiter(), slurm=[slurm()], docker=[inner], files=[outer]) == ["slurm:1"]


def test_a_process_in_a_claimed_cgroup_is_part_of_it() -> None:
    """One outside is a run of its own."""
    one = arbiter()
    assert decide(one, slurm=[slurm()], process=[processes(77)]) == ["slurm:1"]
    assert "slurm:1" in one.refused["process:p"]  # type: ignore[index]
    both = ["slurm:1", "process:p"]
    assert decide(arbiter(), slurm=[slurm()], process=[processes(78, 79)]) == both


def test_who_was_refused_is_not_billed_for_its_end_either() -> None:
    """And is forgotten when its provider has settled it."""
    one = arbiter()
    decide(one, slurm=[slurm()], process=[processes(77)])
    ended = replace(processes(77), ended_at_ms=5)
    assert decide(one, slurm=[slurm()], process=[ended]) == ["slurm:1"]
    assert decide(one, slurm=[slurm()], process=[]) == ["slurm:1"]
    assert one.refused == {}


def test_when_the_better_claim_ends_the_other_one_holds() -> None:
    """A process that outlives the Slurm job is metered from then on."""
    one = arbiter()
    decide(one, slurm=[slurm()], process=[processes(77)])
    ended = replace(slurm(), ended_at_ms=5)
    assert decide(one, slurm=[ended], process=[processes(77)]) == ["slurm:1", "process:p"]
