"""Jobs of a real Slurm: found at the instant, with the right user and allocation, ended exactly."""

import time
from collections.abc import Callable, Iterator

import pytest

from agent.cgroups import find_hierarchies
from agent.cgroupwatch import CgroupWatch
from agent.clock import AgentClock, SystemTime
from agent.context import Context
from agent.errors import ProviderError
from agent.jobs.slurm import SlurmProvider, open_slurm_provider
from agent.model import MeterKey, ReadingKind, ResourceType, Run
from agent.procfs import ProcFs
from agent.samplers.cgroup import open_cgroup_sampler
from agent.settings import load_settings
from tests.integration.agent.slurm.cluster import CGROUPS, USER, Cluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

CPU, MEM = ResourceType.CPU, ResourceType.MEM


class Node:
    """The agent's side of the node: its provider, and the jobs of this cluster."""

    def __init__(self, cluster: Cluster, scontrol: str) -> None:
        clock, procfs = AgentClock(SystemTime()), ProcFs()
        environ = {
            "NODEMETER_SLURM_SCONTROL": scontrol,
            "NODEMETER_SLURM_SHARDS_PER_GPU": "4",
        }
        self.now_ms = clock.now_ms
        self.cluster = cluster
        self.watch = CgroupWatch(
            find_hierarchies(str(CGROUPS)), now_ms=clock.now_ms, told=lambda: None, procfs=procfs
        )
        self.context = Context(
            settings=load_settings(None, environ),
            now_ms=clock.now_ms,
            cgroups=self.watch,
            wake=lambda: None,
        )
        self.provider: SlurmProvider = open_slurm_provider(self.context)
        self.watch.start()

    def runs(self, job_id: str) -> list[Run]:
        """What is told of a job now, the first run first."""
        try:
            runs = self.provider.runs()
        except ProviderError:
            return []
        ours = f"/slurm_{self.cluster.node}/"
        found = [run for run in runs if run.job_id == job_id and ours in (run.cgroup or "")]
        return sorted(found, key=lambda run: run.started_at_ms)

    def wait(self, job_id: str, condition: Callable[[list[Run]], object]) -> list[Run]:
        """Look until what is told of a job is so."""
        self.cluster.wait(lambda: condition(self.runs(job_id)))
        return self.runs(job_id)

    def live(self, job_id: str) -> Run:
        """The run of a job that has just been submitted."""
        (run,) = self.wait(job_id, len)
        return run

    def close(self) -> None:
        """Stop looking."""
        self.provider.close()
        self.watch.close()


@pytest.fixture
def node(cluster: Cluster) -> Iterator[Node]:
    """An agent that asks this cluster's scontrol."""
    node = Node(cluster, cluster.script("scontrol"))
    yield node
    node.close()


def calls(cluster: Cluster) -> list[str]:
    """What scontrol was asked for by the agent."""
    noted = cluster.base / "scontrol.calls"
    return noted.read_text().splitlines() if noted.exists() else []


def start_ms(cluster: Cluster, job_id: str) -> int:
    """When Slurm says that a job started, in whole seconds."""
    (field,) = [
        word
        for word in cluster.call("scontrol", "-o", "show", "job", job_id).split()
        if word.startswith("StartTime=")
    ]
    return round(time.mktime(time.strptime(field[10:], "%Y-%m-%dT%H:%M:%S")) * 1000)


def test_a_job_is_found_with_its_user_name_and_allocation(cluster: Cluster, node: Node) -> None:
    """One CPU, memory and a GPU; without a question to the controller; and it uses CPU."""
    asked = len(calls(cluster))
    burn = "while :; do :; done"
    job = cluster.submit("--job-name=train", "--mem=100", "--gres=gpu:1", script=burn)
    run = node.live(job)
    assert (run.job_id, run.job_name, run.username, run.vc) == (job, "train", USER, "main")
    assert run.quotas == {CPU: 1000, MEM: 100 * 1024}
    assert [device.id for device in run.devices] in (["minor:0"], ["minor:1"])
    assert -50 <= run.started_at_ms - start_ms(cluster, job) <= 3_000
    sampler = open_cgroup_sampler(node.context)
    key = MeterKey(run.key, CPU, None)
    cluster.wait(lambda: sampler.sample([run])[key].value > 50_000)
    assert sampler.sample([run])[key].kind is ReadingKind.COUNTER
    before_ms = node.now_ms()
    cluster.call("scancel", job)
    (ended,) = node.wait(job, lambda runs: runs and runs[0].ended_at_ms)
    assert ended.key == run.key
    assert before_ms <= (ended.ended_at_ms or 0) <= node.now_ms()
    assert len(calls(cluster)) == asked
    node.provider.settled([run.key])
    assert node.runs(job) == []


def test_a_requeued_job_is_another_run(cluster: Cluster, node: Node) -> None:
    """The same number; the first has ended before the second began."""
    job = cluster.submit("--job-name=again", "--mem=50", "--requeue")
    first = node.live(job)
    cluster.call("scontrol", "requeue", job)
    runs = node.wait(job, lambda runs: len(runs) == 2)
    assert runs[0].key == first.key
    assert runs[0].ended_at_ms is not None
    assert runs[0].ended_at_ms <= runs[1].started_at_ms
    assert (runs[1].job_id, runs[1].job_name, runs[1].ended_at_ms) == (job, "again", None)
    cluster.call("scancel", job)


def test_a_suspended_job_keeps_its_allocation(cluster: Cluster, node: Node) -> None:
    """It is stopped, not ended."""
    job = cluster.submit("--mem=50")
    run = node.live(job)
    cluster.call("scontrol", "suspend", job)
    cluster.wait(lambda: "SUSPENDED" in cluster.call("scontrol", "show", "job", job))
    assert node.runs(job) == [run]
    cluster.call("scontrol", "resume", job)
    assert node.runs(job) == [run]
    cluster.call("scancel", job)


def test_a_job_that_requested_no_memory_has_none(cluster: Cluster, node: Node) -> None:
    """Slurm limits it to the node's; it is asked once whether that was requested."""
    job = cluster.submit("--job-name=frugal")
    run = node.live(job)
    assert run.quotas == {CPU: 1000, MEM: 0}
    node.runs(job)
    assert [call for call in calls(cluster) if call.endswith(f" {job}")] == [
        f"-d -o show job {job}"
    ]
    cluster.call("scancel", job)


def test_shards_are_parts_of_a_gpu(cluster: Cluster, node: Node) -> None:
    """Two of the four that a GPU is cut into, whatever the user says of it."""
    export = "--export=ALL,CUDA_MPS_ACTIVE_THREAD_PERCENTAGE=1"
    job = cluster.submit("--mem=50", "--gres=shard:2", export)
    (device,) = node.live(job).devices
    assert device.part == (0, 2, 4)
    cluster.call("scancel", job)


def test_a_job_of_an_instant_is_not_lost(cluster: Cluster, node: Node) -> None:
    """Over before the next look: whose it was is known, and how long it was."""
    job = cluster.submit("--job-name=short", "--mem=50", script="true")
    cluster.wait(lambda: "JobState=COMPLETED" in cluster.call("scontrol", "show", "job", job))
    (run,) = node.wait(job, lambda runs: runs and runs[0].ended_at_ms)
    assert (run.job_name, run.username) == ("short", USER)
    assert run.quotas == {CPU: 1000, MEM: 50 * 1024}
    assert 0 < (run.ended_at_ms or 0) - run.started_at_ms < 10_000


def test_after_a_restart_the_agent_knows_the_jobs_that_run(cluster: Cluster, node: Node) -> None:
    """Under the same key, in its very first answer, from the start of its first process."""
    job = cluster.submit("--job-name=long", "--mem=50")
    run = node.live(job)
    later = Node(cluster, cluster.script("scontrol"))
    (again,) = later.runs(job)
    later.close()
    assert (again.key, again.job_name, again.username) == (run.key, "long", USER)
    assert again.quotas == run.quotas
    assert abs(again.started_at_ms - run.started_at_ms) < 1_000
    cluster.call("scancel", job)


def test_a_job_whose_cgroups_count_nothing_is_found_all_the_same(
    uncounted_cluster: Cluster,
) -> None:
    """It holds what it holds; and what is missing in slurm.conf is said."""
    cluster = uncounted_cluster
    node = Node(cluster, cluster.script("scontrol"))
    job = cluster.submit("--job-name=uncounted", "--mem=50")
    run = node.live(job)
    assert (run.job_name, run.username) == ("uncounted", USER)
    assert run.quotas == {CPU: 1000, MEM: 50 * 1024}
    assert -1_000 <= run.started_at_ms - start_ms(cluster, job) <= 3_000
    messages = [problem.message for problem in node.provider.problems()]
    assert any("JobAcctGatherType" in message for message in messages)
    cluster.call("scancel", job)
    (ended,) = node.wait(job, lambda runs: runs and runs[0].ended_at_ms)
    assert ended.key == run.key
    node.close()
