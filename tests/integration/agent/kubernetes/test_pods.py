"""The whole provider, on a kubelet that speaks real gRPC and real HTTPS, over real cgroups."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

import pytest

from agent.background import Background
from agent.cgroups import find_hierarchies
from agent.cgroupwatch import CgroupWatch
from agent.clock import AgentClock, SystemTime
from agent.errors import ProviderError
from agent.jobs.kubernetes import KubernetesProvider, open_kubernetes_provider
from agent.jobs.kubernetes.kubelet import MAX_BYTES
from agent.jobs.kubernetes.sources import KubeletSource
from agent.model import ReadingKind, ResourceType, Run
from agent.procfs import ProcFs
from tests.integration.agent.kubernetes.certificates import NODE, Authority
from tests.integration.agent.kubernetes.kubelets import (
    TOKEN,
    Answer,
    Handler,
    Resources,
    serve_resources,
)
from tests.unit.agent.cgrouptrees import CgroupTree
from tests.unit.agent.conftest import CGROUP_ROOT, wait_until
from tests.unit.agent.jobs.contexts import Machine
from tests.unit.agent.jobs.kubernetes.manifests import UID, container, pod, pod_list
from tests.unit.agent.jobs.kubernetes.nodes import pod_path

_T = TypeVar("_T")
OTHER = "99999999-0000-4000-8000-000000000001"
GPU = "GPU-3f5d1c4e-8a1b-4d6e-9b11-0d2f5c7a9e01"
ASKS = {"cpu": "1500m", "memory": "2Gi", "nvidia.com/gpu": "1"}


class Node:
    """A node with a kubelet; its list of pods and its socket are the fixtures'."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.provider: KubernetesProvider = open_kubernetes_provider(machine.context())

    @property
    def source(self) -> KubeletSource:
        assert isinstance(self.provider._source, KubeletSource)
        return self.provider._source

    def runs(self) -> dict[str, Run]:
        return {run.job_id: run for run in self.provider.runs()}

    def restart(self) -> None:
        """A new agent."""
        self.source.close()
        self.machine.restart()
        self.provider = open_kubernetes_provider(self.machine.context())

    def refresh(self) -> None:
        """Ask for both now, as every half minute, and wait for the answers."""
        _ask_again(self.source._pods)
        _ask_again(self.source._allocations)


def _ask_again(background: Background[_T]) -> None:
    before = background.answer
    background.request()
    wait_until(lambda: background.answer is not before)


@pytest.fixture
def settings(url: str, kubelet_dir: Path, authority: Authority, tmp_path: Path) -> str:
    (tmp_path / "token").write_text(TOKEN)
    return f"""
[kubernetes]
kubelet_dir = "{kubelet_dir}"
kubelet_url = "{url}"
kubelet_name = "{NODE}"
token_file = "{tmp_path}/token"
ca_files = ["{authority.certificate}"]
refresh_seconds = 600
"""


@pytest.fixture
def tree(tmp_path: Path) -> CgroupTree:
    return CgroupTree(tmp_path / "cgroup", "v2")


@pytest.fixture
def node(tree: CgroupTree, settings: str) -> Iterator[Node]:
    node = Node(Machine(tree, settings))
    yield node
    node.source.close()


def test_a_pod_is_told_by_both_sides_of_the_kubelet(
    node: Node, tree: CgroupTree, answer: Answer, resources: Resources
) -> None:
    """At the first look already: the two are waited for."""
    labels = {"jobId": "j1", "userName": "alice", "vcName": "v"}
    answer.body = pod_list(pod("train", labels=labels, containers=[container(requests=ASKS)]))
    resources.holds("train", GPU)
    tree.make(pod_path())
    node.restart()
    run = node.runs()["j1"]
    assert (run.username, run.vc, run.namespace) == ("alice", "v", "team")
    assert run.quotas == {ResourceType.CPU: 1500, ResourceType.MEM: 2 << 20}
    assert [share.id for share in run.devices] == [GPU]
    assert not node.provider.problems()


def test_a_new_pod_is_asked_for_at_once(
    node: Node, tree: CgroupTree, answer: Answer, resources: Resources
) -> None:
    """Not at the next refresh, in ten minutes; and the daemon is called when it is known."""
    tree.make(pod_path())
    answer.body = pod_list(pod("a"))
    node.restart()
    assert node.runs().keys() == {"a"}
    answer.body = pod_list(pod("a"), pod("b", uid=OTHER, containers=[container(requests=ASKS)]))
    resources.holds("b", GPU)
    tree.make(pod_path(OTHER))
    assert node.runs().keys() == {"a"}
    wait_until(lambda: node.machine.wakes)
    wait_until(lambda: node.runs().keys() == {"a", "b"})
    assert node.runs()["b"].started_at_ms == node.machine.now_ms
    assert [share.id for share in node.runs()["b"].devices] == [GPU]


@pytest.fixture
def known(node: Node, tree: CgroupTree, answer: Answer, resources: Resources) -> Run:
    """A pod that has been answered with everything."""
    answer.body = pod_list(pod("train", containers=[container(requests=ASKS)]))
    resources.holds("train", GPU)
    tree.make(pod_path())
    node.restart()
    return node.runs()["train"]


def _hang(handler: Handler) -> None:
    threading.Event().wait(2)
    handler.close_connection = True


def _fail(handler: Handler) -> None:
    handler.reply(500, b"oops")


def _garbage(handler: Handler) -> None:
    handler.reply(200, b"<html>")


def _huge(handler: Handler) -> None:
    handler.reply(200, b" " * (MAX_BYTES + 1))


def _half(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "99999")
    handler.end_headers()
    handler.wfile.write(b'{"kind":"PodList","items":[')
    handler.close_connection = True


def _empty(handler: Handler) -> None:
    handler.reply(200, pod_list())


def _unauthorized(handler: Handler) -> None:
    handler.reply(401, b"Unauthorized")


def _forbidden(handler: Handler) -> None:
    handler.reply(403, b"Forbidden")


@pytest.mark.parametrize(
    ("respond", "problem"),
    [
        (_hang, "/pods"),
        (_fail, "answers 500"),
        (_garbage, "is not understood"),
        (_huge, "more than 32 MiB"),
        (_half, "/pods"),
        (_unauthorized, "nodes/pods"),
        (_forbidden, "nodes/pods"),
        (_empty, None),
    ],
)
def test_a_list_that_fails_keeps_what_it_said_last(
    node: Node,
    known: Run,
    answer: Answer,
    respond: Callable[[Handler], None],
    problem: str | None,
) -> None:
    """The run is the same; what is wrong is told, and not any more when it works again."""
    answer.respond = respond
    node.refresh()
    assert node.runs()["train"] is known
    problems = [found.message for found in node.provider.problems()]
    assert [problem for message in problems if problem and problem in message] == (
        [problem] if problem else []
    )
    answer.respond = None
    node.refresh()
    assert node.runs()["train"] is known
    assert not node.provider.problems()


def test_a_socket_that_vanishes_keeps_the_last_answer_in_force(
    tree: CgroupTree, node: Node, answer: Answer, socket_path: Path
) -> None:
    """While pods are there it is a failure; when it is back, everything goes on."""
    answer.body = pod_list(pod("train", containers=[container(requests=ASKS)]))
    tree.make(pod_path())
    held = Resources()
    held.holds("train", GPU)
    with serve_resources(socket_path, held):
        node.restart()
        known = node.runs()["train"]
    node.refresh()
    with pytest.raises(ProviderError, match=f"no socket {socket_path}"):
        node.runs()
    with serve_resources(socket_path, held):
        node.refresh()
        assert node.runs()["train"] is known


def test_a_restart_without_a_kubelet_gives_no_answer(
    node: Node, tree: CgroupTree, socket_path: Path
) -> None:
    """An agent that begins while the kubelet is away must not end what it knows."""
    tree.make(pod_path(), pids=(os.getpid(),))
    node.restart()
    with pytest.raises(ProviderError, match="no socket"):
        node.runs()


def test_without_the_right_to_see_pods_they_are_metered_nonetheless(
    node: Node, tree: CgroupTree, answer: Answer, resources: Resources
) -> None:
    """At once, with what the cgroup says; what is missing is named."""
    answer.token = "another"
    tree.make(pod_path(), pids=(os.getpid(),))
    tree.limit(pod_path(), cpu_m=500)
    node.restart()
    run = node.runs()[UID]
    assert (run.username, run.quotas[ResourceType.CPU]) == (None, 500)
    (problem,) = node.provider.problems()
    assert "401" in problem.message
    assert "nodes/pods" in problem.message
    assert TOKEN not in problem.message


def test_a_list_is_parsed_again_only_if_a_pod_has_changed(
    node: Node, tree: CgroupTree, answer: Answer, resources: Resources
) -> None:
    """By the API server's versions, in whatever order they come; without them each time."""
    assert not resources.requests
    tree.make(pod_path())
    one, other = pod("train", version="7"), pod("x", uid=OTHER, version="8")
    answer.body = pod_list(one, other)
    node.restart()
    node.runs()
    before = node.source._pods.answer.value
    answer.body = pod_list(other, one)
    node.refresh()
    assert node.source._pods.answer.value is before
    answer.body = pod_list(other, pod("train", labels={"jobName": "new"}, version="9"))
    node.refresh()
    assert node.runs()["train"].job_name == "new"
    answer.body = pod_list(pod("train", labels={"jobName": "other"}), other)
    node.refresh()
    answer.body = pod_list(pod("train", labels={"jobName": "third"}), other)
    node.refresh()
    assert node.runs()["train"].job_name == "third"


# Real cgroups --------------------------------------------------------------------------------


class RealPods:
    """Pods' cgroups on this machine, below a root of the test's own."""

    def __init__(self, mounts: list[str]) -> None:
        self.mounts = mounts
        self.root = f"/nodemeter-test-{uuid4().hex[:8]}"
        self._made: list[str] = []
        self.make("/kubepods/burstable")

    def make(self, path: str) -> None:
        for mount in self.mounts:
            Path(f"{mount}{self.root}{path}").mkdir(parents=True)
        self._made.append(path)

    def remove(self, path: str) -> None:
        self._made.remove(path)
        for mount in self.mounts:
            wait_until(partial(_is_removed, f"{mount}{self.root}{path}"))

    def remove_all(self) -> None:
        for path in sorted(self._made, key=len, reverse=True):
            self.remove(path)
        for path in ("/kubepods", ""):
            for mount in self.mounts:
                Path(f"{mount}{self.root}{path}").rmdir()


def _is_removed(folder: str) -> bool:
    with suppress(OSError):
        Path(folder).rmdir()
    return not Path(folder).exists()


def _mounts() -> dict[str, list[str]]:
    hierarchies = find_hierarchies(CGROUP_ROOT)
    v1 = [hierarchies.v1[name] for name in ("cpuacct", "memory") if name in hierarchies.v1]
    return {"v1": v1, "v2": [hierarchies.v2] if hierarchies.v2 else []}


@pytest.fixture(params=["v1", "v2"])
def real_pods(request: pytest.FixtureRequest) -> Iterator[RealPods]:
    mounts = _mounts()[request.param]
    if not mounts or not all(os.access(mount, os.W_OK) for mount in mounts):
        pytest.skip(f"no {request.param} cgroup can be made here")
    pods = RealPods(mounts)
    yield pods
    pods.remove_all()


BURN = """
import os, sys, time
for folder in sys.argv[2:]:
    with open(folder + "/cgroup.procs", "w") as procs:
        procs.write(str(os.getpid()))
print("in", flush=True)
sys.stdin.readline()
until = time.process_time() + float(sys.argv[1])
while time.process_time() < until:
    pass
"""


def test_a_short_pod_on_real_cgroups_is_metered_exactly(
    real_pods: RealPods, settings: str, answer: Answer, resources: Resources, tmp_path: Path
) -> None:
    """It begins and ends between two looks: its birth, its end, in v2 its last CPU time."""
    clock = AgentClock(SystemTime())
    hierarchies = find_hierarchies(CGROUP_ROOT)
    watch = CgroupWatch(hierarchies, now_ms=clock.now_ms, told=lambda: None, procfs=ProcFs())
    machine = Machine(CgroupTree(tmp_path / "unused", "v2"), settings)
    machine.settings = f'[cgroup]\nroot = "{CGROUP_ROOT}"\n{settings}\n'
    machine.settings += f'cgroup_roots = ["{real_pods.root}"]\n'
    machine.watch = watch
    path = f"/kubepods/burstable/pod{UID}"
    answer.body = pod_list(pod("train", containers=[container(requests=ASKS)]))
    resources.holds("train", GPU)
    provider = open_kubernetes_provider(machine.context())
    watch.start()
    try:
        assert provider.runs() == ()
        before_ms = clock.now_ms()
        real_pods.make(path)
        real_pods.make(f"{path}/{'5' * 64}")
        born_ms = clock.now_ms()
        folders = [f"{mount}{real_pods.root}{path}/{'5' * 64}" for mount in real_pods.mounts]
        with subprocess.Popen(
            [sys.executable, "-c", BURN, "0.05", *folders],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as burner:
            burner.communicate(b"\n", timeout=60)
        assert burner.returncode == 0
        followed = provider._cgroups._followed
        if real_pods.mounts == [hierarchies.v2]:
            wait_until(lambda: any(one.cpu_us for one in followed.found()))
        real_pods.remove(f"{path}/{'5' * 64}")
        ending_ms = clock.now_ms()
        real_pods.remove(path)
        gone_ms = clock.now_ms()
        wait_until(lambda: any(one.ended_at_ms for one in followed.found()))
        machine.now_ms = clock.now_ms()
        wait_until(provider.runs)
        (run,) = provider.runs()
    finally:
        watch.close()
        assert isinstance(provider._source, KubeletSource)
        provider._source.close()
    assert run.job_id == "train"
    assert run.cgroup == f"{real_pods.root}{path}"
    assert before_ms - 20 <= run.started_at_ms <= born_ms + 20
    assert run.ended_at_ms is not None
    assert ending_ms - 20 <= run.ended_at_ms <= gone_ms + 20
    assert [share.id for share in run.devices] == [GPU]
    if real_pods.mounts == [hierarchies.v2]:
        final = run.final[ResourceType.CPU]
        assert final.kind is ReadingKind.COUNTER
        assert 50_000 <= final.value < 2_000_000
