"""A run that two providers claim is metered once, by the more trusted."""

from collections.abc import Callable
from dataclasses import replace

from agent.daemon.arbiter import LINGER_MS, Answers, Arbiter
from agent.model import Run, RunKey
from agent.state import Moment
from tests.unit.agent.nodes import CPU, MEM, START_MS, Node, cpu_of, job, total

ORDER = ("slurm", "process")

PLACES = {77: ["/slurm/uid_7/job_1/step_0/task_0"], 78: ["/"], 79: []}


def slurm(cgroup: str = "/slurm/uid_7/job_1") -> Run:
    return job("1", provider="slurm", cgroup=cgroup)


def processes(*pids: int) -> Run:
    return replace(job("p", provider="process", cgroup=None), pids=pids)


def names(answers: Answers) -> list[str]:
    return [run.key for runs in answers.values() for run in runs]


def decide(arbiter: Arbiter, **answers: list[Run]) -> list[str]:
    return names(arbiter.decide(answers, {}))


def arbiter(now_ms: Callable[[], int] = lambda: 0) -> Arbiter:
    return Arbiter(lambda pid: PLACES[pid], now_ms)


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


def test_who_begins_in_a_job_that_is_not_described_yet_is_part_of_it() -> None:
    """Also where he has ended by then: the job is metered from its own start."""
    one, awaited = arbiter(), {"slurm": ["/slurm/uid_7/job_1"]}
    short = replace(processes(77), key=RunKey("process:short"))
    outside = replace(processes(78), key=RunKey("process:outside"))
    said = {"slurm": [], "process": [processes(77), short, outside]}
    assert names(one.decide(said, awaited)) == ["process:outside"]
    short = replace(short, ended_at_ms=5)
    said = {"slurm": [], "process": [processes(77), short, outside]}
    assert names(one.decide(said, awaited)) == ["process:outside"]
    said["slurm"] = [slurm()]
    assert names(one.decide(said, {"slurm": []})) == ["slurm:1", "process:outside"]


def test_who_was_refused_is_not_billed_for_its_end_either() -> None:
    """And is forgotten when its provider has settled it."""
    one = arbiter()
    decide(one, slurm=[slurm()], process=[processes(77)])
    ended = replace(processes(77), ended_at_ms=5)
    assert decide(one, slurm=[slurm()], process=[ended]) == ["slurm:1"]
    assert decide(one, slurm=[slurm()], process=[]) == ["slurm:1"]
    assert one.refused == {}


def test_who_outlives_the_better_claim_is_metered_from_its_end_on() -> None:
    """What was before is billed already; and the CPU counter holds all of it."""
    node = Node()
    one = arbiter(lambda: node.now_ms)
    hour = 3_600_000 * 1000
    outer = replace(slurm(), started_at_ms=START_MS, quotas={CPU: 1000, MEM: 0})
    inner = replace(processes(77), started_at_ms=START_MS, quotas={CPU: 100, MEM: 0})

    def look(after_ms: int, cpu: int, *named: Run) -> None:
        node.now_ms += after_ms
        said = {each: [run for run in named if run.provider == each] for each in ORDER}
        kept = one.decide(said, {})
        moment = Moment(now_ms=node.now_ms, latest_ms=node.now_ms)
        for provider, runs in kept.items():
            node.state.reconcile(provider, runs, moment)
        living = [run for runs in kept.values() for run in runs if run.ended_at_ms is None]
        readings = {key: one for run in living for key, one in cpu_of(run, cpu).items()}
        node.state.observe(node.now_ms, readings)
        node.state.conclude(node.now_ms, readings)
        node.tell()

    look(10_000, 10_000_000, outer, inner)
    look(3_590_000, hour, outer, inner)
    look(0, hour, replace(outer, ended_at_ms=node.now_ms), inner)
    for _ in range(LINGER_MS // 10_000):
        look(10_000, hour, inner)
    look(10_000, hour + 3_000_000, inner)
    look(20_000, hour + 3_000_000, inner)
    node.tell(flush=True)
    assert total(node.told.of(CPU, "1"), "effective") == hour
    assert total(node.told.of(CPU, "p"), "allocated") == 100 * 60_000
    assert total(node.told.of(CPU, "p"), "used") == 3_000_000
    assert total(node.told.of(CPU, "p"), "effective") == 100 * 50_000 + 3_000_000


def test_who_hardly_outlives_the_better_claim_is_its_part_to_the_end() -> None:
    """His provider may have looked before the other one's, or be the only one to answer."""
    one = arbiter()
    decide(one, slurm=[slurm()], process=[processes(77)])
    ended = replace(slurm(), ended_at_ms=5)
    assert decide(one, slurm=[ended], process=[processes(77)]) == ["slurm:1"]
    assert decide(one, slurm=[], process=[processes(77)]) == []
    assert decide(one, slurm=[], process=[replace(processes(77), ended_at_ms=6)]) == []
    assert list(one.refused) == ["process:p"]
    assert decide(one, slurm=[], process=[]) == []
    assert one.refused == {}
