"""The `docker` provider: cgroups say who lives, the engine says who it is, and ends nobody."""

import os
import pwd
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from agent.cgroups import find_hierarchies
from agent.config import Reader
from agent.errors import ProviderError
from agent.jobs.docker import GRACE_MS, DockerProvider, open_docker_provider
from agent.jobs.docker.identities import LIST_EVERY_MS, Identities
from agent.model import ResourceType, Run
from agent.sections.docker import ask_docker
from tests.unit.agent.cgrouptrees import CgroupTree
from tests.unit.agent.conftest import CGROUP_ROOT, wait_until
from tests.unit.agent.jobs.contexts import NOW_MS, Machine
from tests.unit.agent.jobs.docker.engines import (
    Engine,
    container,
    engine_at,
    says,
    status,
)

CPU, MEM = ResourceType.CPU, ResourceType.MEM
A, B = "a1" * 32, "b2" * 32
STARTED_MS = 1_770_346_800_123
_ID = re.compile(r"[0-9a-f]{64}")


def docker(id_: str) -> str:
    return f"/system.slice/docker-{id_}.scope"


def podman(id_: str) -> str:
    return f"/machine.slice/libpod-{id_}.scope"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    yield from engine_at(tmp_path / "docker.sock")


@pytest.fixture(params=["v1", "v2"])
def machine(tmp_path: Path, request: pytest.FixtureRequest) -> Machine:
    tree = CgroupTree(tmp_path / "cgroup", str(request.param))
    for folder in ("/system.slice", "/machine.slice", "/docker"):
        tree.make(folder)
    return Machine(tree, f'[docker]\nsockets = ["{tmp_path}/*.sock"]\n')


class Node:
    """A provider on a machine; what it answers is awaited, since the engine is slow."""

    def __init__(self, machine: Machine, *, is_live: bool = True) -> None:
        self.machine = machine
        self.provider: DockerProvider = open_docker_provider(machine.context(is_live=is_live))

    def runs(self) -> dict[str, Run]:
        """By container, whatever the job's id is."""
        runs = self.provider.runs()
        return {match[0]: run for run in runs if (match := _ID.search(run.key))}

    def run(self, id_: str) -> Run:
        """This container's run, as soon as there is one."""
        wait_until(lambda: id_ in self.runs())
        return self.runs()[id_]

    def problem(self) -> str:
        (problem,) = self.provider.problems()
        return problem.message


def test_a_container_is_a_run(machine: Machine, engine: Engine) -> None:
    """Names, quotas and devices by the engine; life, cgroup and key by the cgroup."""
    labels = {"userName": "alice", "vcName": "vision", "com.docker.compose.project": "p"}
    host = {"NanoCpus": 1_500_000_000, "Memory": 1 << 30}
    env = ["NVIDIA_VISIBLE_DEVICES=0,1"]
    engine.run(A, container(A, host, name="/train", labels=labels, env=env))
    machine.tree.make(docker(A))
    run = Node(machine).run(A)
    assert (run.job_id, run.job_name, run.username) == (A, "train", "alice")
    assert (run.vc, run.project, run.provider) == ("vision", "p", "docker")
    assert run.quotas == {CPU: 1500, MEM: 1 << 20}
    assert [share.id for share in run.devices] == ["0", "1"]
    assert run.cgroup == docker(A)
    assert run.key.startswith(f"docker:{docker(A)}#")
    assert run.started_at_ms == STARTED_MS


def test_nothing_said_is_nothing_invented(machine: Machine, engine: Engine) -> None:
    """No user, no quota, no device; the default virtual cluster."""
    engine.run(A)
    machine.tree.make(docker(A))
    run = Node(machine).run(A)
    assert (run.username, run.vc, run.project) == (None, "default", "")
    assert (run.quotas, run.devices) == ({CPU: 0, MEM: 0}, ())


def test_the_predecessors_variables_name_job_user_and_vc(machine: Machine, engine: Engine) -> None:
    """DLTS and DLWS, as a container's variables; whatever they hold fits a bill."""
    env = ["DLWS_JOB_ID=j-1", "DLTS_USER_NAME=bob", "DLWS_VC_NAME=" + "x\n" * 400]
    engine.run(A, container(A, env=env))
    machine.tree.make(docker(A))
    run = Node(machine).run(A)
    assert (run.job_id, run.username) == ("j-1", "bob")
    assert len(run.vc) == 256
    assert "\n" not in run.vc


def test_the_names_of_labels_are_settings(machine: Machine, engine: Engine) -> None:
    """A site that labels differently says how."""
    machine.settings += 'user_from = ["org.example.owner"]\njob_id_from = ["org.example.job"]\n'
    labels = {"org.example.owner": "carol", "org.example.job": "7", "userName": "alice"}
    engine.run(A, container(A, labels=labels))
    machine.tree.make(docker(A))
    run = Node(machine).run(A)
    assert (run.job_id, run.username) == ("7", "carol")


def test_each_container_is_asked_for_once(machine: Machine, engine: Engine) -> None:
    """Looks cost the engine nothing while nothing changes, and give the same objects."""
    for id_ in (A, B):
        engine.run(id_)
        machine.tree.make(docker(id_))
    node = Node(machine)
    node.run(A)
    before = node.runs()
    for _ in range(5):
        machine.now_ms += 10_000
        assert all(run is before[id_] for id_, run in node.runs().items())
    assert sorted(engine.inspected()) == [A, B]


def test_a_start_is_heard_and_asked_for_between_two_looks(tmp_path: Path, engine: Engine) -> None:
    """A container of 300 ms is known by name although it is gone when the daemon looks."""
    machine = Machine(CgroupTree(tmp_path / "cgroup", "v2"), "")
    machine.settings += f'[docker]\nsockets = ["{engine.path}"]\n'
    machine.tree.make("/system.slice")
    node = Node(machine)
    assert node.runs() == {}
    with machine.hearing():
        engine.run(A, container(A, {"Memory": 1 << 30}, name="/brief"))
        machine.tree.make(docker(A))
        wait_until(lambda: A in engine.inspected())
        wait_until(lambda: machine.wakes)
        machine.now_ms += 300
        machine.tree.remove(docker(A))
        del engine.containers[A]
        wait_until(lambda: node.runs().get(A) and node.runs()[A].ended_at_ms)
    run = node.runs()[A]
    assert (run.job_name, run.quotas[MEM]) == ("brief", 1 << 20)
    assert (run.started_at_ms, run.ended_at_ms) == (NOW_MS, NOW_MS + 300)


def test_a_restart_is_another_run(machine: Machine, engine: Engine) -> None:
    """The same container in another cgroup: what ended stays so, and settles by itself."""
    engine.run(A)
    machine.tree.make(docker(A))
    node = Node(machine)
    first = node.run(A)
    machine.now_ms += 60_000
    machine.tree.remove(docker(A))
    assert node.runs()[A].ended_at_ms == machine.now_ms
    machine.now_ms += 5_000
    machine.tree.make(docker(A))
    wait_until(lambda: len(node.provider.runs()) == 2)
    second = next(run for run in node.provider.runs() if run.ended_at_ms is None)
    assert second.key != first.key
    assert second.started_at_ms == machine.now_ms
    node.provider.settled([first.key, second.key])
    assert node.provider.runs() == [second]


def test_changed_limits_are_asked_for(machine: Machine, engine: Engine) -> None:
    """`docker update` changes the quota of the same run."""
    engine.run(A, container(A, {"NanoCpus": 500_000_000}))
    machine.tree.make(docker(A))
    machine.tree.limit(docker(A), cpu_m=500)
    node = Node(machine)
    first = node.run(A)
    engine.run(A, container(A, {"NanoCpus": 2_000_000_000}))
    assert node.runs()[A] is first
    machine.tree.limit(docker(A), cpu_m=2000)
    wait_until(lambda: node.runs()[A].quotas[CPU] == 2000)
    assert node.runs()[A].key == first.key


def test_a_key_survives_the_agent(machine: Machine, engine: Engine) -> None:
    """The checkpoint's run is met again."""
    engine.run(A)
    machine.tree.make(docker(A))
    before = Node(machine).run(A)
    machine.restart()
    machine.now_ms += 600_000
    assert Node(machine).run(A).key == before.key


# An engine that does not answer ---------------------------------------------------------


def test_known_containers_live_and_end_without_the_engine(machine: Machine, engine: Engine) -> None:
    """The daemon is restarted, as with live-restore: nobody ends, and who ends ends exactly."""
    for id_ in (A, B):
        engine.run(id_)
        machine.tree.make(docker(id_))
    node = Node(machine)
    node.run(A)
    engine.stop()
    machine.now_ms += 60_000
    assert set(node.runs()) == {A, B}
    machine.tree.remove(docker(B))
    assert node.runs()[B].ended_at_ms == machine.now_ms
    assert node.runs()[A].ended_at_ms is None


def _no_socket(_path: Path) -> None:
    """No engine is installed any more."""


def _refusing(path: Path) -> None:
    """The engine is dead and its socket is left: nobody listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(path))


@pytest.mark.parametrize(
    ("leave", "says"),
    [(_no_socket, "no engine listens"), (_refusing, "does not answer: Connection refused")],
)
def test_what_was_there_before_us_waits_for_the_engines_word_no_longer_than_the_grace(
    machine: Machine, engine: Engine, leave: Callable[[Path], None], says: str
) -> None:
    """After a restart without an engine: half a minute, then by the ids, old ones and new ones."""
    engine.run(A)
    machine.tree.make(docker(A))
    machine.tree.limit(docker(A), cpu_m=500)
    engine.stop()
    leave(engine.path)
    node = Node(machine)
    with pytest.raises(ProviderError, match=rf"container {A[:12]} cannot be described"):
        node.runs()
    machine.now_ms += GRACE_MS - 1
    with pytest.raises(ProviderError, match=says):
        node.runs()
    machine.now_ms += 1
    run = node.runs()[A]
    assert (run.job_id, run.username, run.quotas) == (A, None, {CPU: 500, MEM: 0})
    (problem,) = [each for each in node.provider.problems() if each.source == docker(A)]
    assert "is metered by its id" in problem.message
    assert says in problem.message
    with machine.hearing():
        machine.tree.make(docker(B))
        wait_until(lambda: len(node.provider._followed.found()) == 2)
        assert set(node.runs()) == {A}
        machine.now_ms += GRACE_MS
        assert set(node.runs()) == {A, B}
    machine.tree.remove(docker(A))
    assert node.runs()[A].ended_at_ms == machine.now_ms
    node.provider.settled([node.runs()[A].key])
    assert set(node.runs()) == {B}
    engine.path.unlink(missing_ok=True)
    engine.run(B)
    engine.start()
    wait_until(lambda: node.runs()[B].job_name == "burn")
    assert node.provider.problems() == []


def test_an_old_container_that_nobody_described_and_that_is_gone_holds_up_nobody(
    machine: Machine, engine: Engine
) -> None:
    """It ends as it was known: by its id, and by when its cgroup was removed."""
    machine.tree.make(docker(A))
    engine.stop()
    node = Node(machine)
    with pytest.raises(ProviderError, match="cannot be described"):
        node.runs()
    machine.tree.remove(docker(A))
    machine.now_ms += GRACE_MS
    run = node.runs()[A]
    assert run.ended_at_ms == machine.now_ms
    node.provider.settled([run.key])
    assert node.runs() == {}
    assert node.provider._units == {}


def test_a_name_that_anybody_may_use_is_not_metered_while_no_engine_answers(
    machine: Machine, engine: Engine
) -> None:
    """It may be another runtime's; it is said, and nobody waits for it."""
    machine.tree.make(f"/jobs/{A}")
    machine.tree.make(docker(B))
    engine.stop()
    _refusing(engine.path)
    node = Node(machine)
    with pytest.raises(ProviderError, match="cannot be described"):
        node.runs()
    machine.now_ms += GRACE_MS
    assert set(node.runs()) == {B}
    (problem,) = [each for each in node.provider.problems() if each.source == f"/jobs/{A}"]
    assert "is not metered until an engine says that it is a container" in problem.message
    machine.tree.remove(f"/jobs/{A}")
    assert set(node.runs()) == {B}
    assert [each.source for each in node.provider.problems()][1:] == [docker(B)]
    engine.path.unlink()
    engine.start()


@pytest.mark.parametrize("behaviour", ["hang", "drip"])
def test_a_slow_engine_holds_up_no_look_after_the_first(
    machine: Machine, engine: Engine, monkeypatch: pytest.MonkeyPatch, behaviour: str
) -> None:
    """A new container waits for half a minute, then it is metered by what its cgroup tells."""
    monkeypatch.setattr("agent.jobs.docker.FIRST_ANSWER_SECONDS", 0.05)
    engine.reply = getattr(engine, behaviour)
    node = Node(machine)
    assert node.runs() == {}
    machine.tree.make(docker(A))
    machine.tree.limit(docker(A), cpu_m=1500, mem_bytes=1 << 30)
    assert node.runs() == {}
    machine.now_ms += GRACE_MS
    run = node.runs()[A]
    assert (run.job_id, run.job_name, run.username) == (A, A[:12], None)
    assert (run.quotas, run.started_at_ms) == ({CPU: 1500, MEM: 1 << 20}, NOW_MS)
    assert any("metered by its id" in each.message for each in node.provider.problems())


BAD = {
    "a server's error": status(500),
    "garbage": says(b"\x00" * 1000),
    "no container": says(b"HTTP/1.0 200 OK\r\n\r\n{}"),
    "another container": says(
        b'HTTP/1.0 200 OK\r\n\r\n{"Id": "x", "Config": {"a": 1}, "HostConfig": {"a": 1}}'
    ),
    "cut off": says(b'HTTP/1.0 200 OK\r\nContent-Length: 99\r\n\r\n{"Id": "a1'),
    "too much": says(b"HTTP/1.0 200 OK\r\n\r\n" + b"[" * 9_000_000),
}


@pytest.mark.parametrize("what", BAD)
def test_one_container_without_a_usable_answer_hurts_no_other(
    machine: Machine, engine: Engine, what: str
) -> None:
    """It waits, and is metered by its id after half a minute; the engine is not down."""
    good = engine.answer
    engine.reply = lambda connection, target: (BAD[what] if A in target else good)(
        connection, target
    )
    node = Node(machine)
    assert node.runs() == {}
    for id_ in (A, B):
        engine.run(id_)
        machine.tree.make(docker(id_))
    assert node.run(B).job_name == "burn"
    assert set(node.runs()) == {B}
    machine.now_ms += GRACE_MS
    assert node.run(A).job_name == A[:12]
    wait_until(lambda: f"container {A[:12]} at" in node.problem())
    engine.reply = good
    wait_until(lambda: node.runs()[A].job_name == "burn")
    assert node.provider.problems() == []


def test_an_old_container_that_the_engine_cannot_show_holds_up_the_rest_for_a_while(
    machine: Machine, engine: Engine
) -> None:
    """It may have been told of before a restart: half a minute without an answer, no more."""
    engine.reply = status(500)
    machine.tree.make(docker(A))
    node = Node(machine)
    with pytest.raises(ProviderError, match=r"answers with status 500"):
        node.runs()
    machine.now_ms += GRACE_MS
    assert node.runs()[A].username is None


# Places and engines ---------------------------------------------------------------------


def test_podman_needs_no_daemon(machine: Machine) -> None:
    """Without a socket its containers are metered by their ids, at once; its helpers are not."""
    machine.tree.make(podman(A))
    machine.tree.make(f"/machine.slice/libpod-conmon-{A}.scope")
    machine.tree.limit(podman(A), cpu_m=500)
    node = Node(machine)
    assert node.runs()[A].quotas == {CPU: 500, MEM: 0}
    assert "no engine listens at" in node.problem()
    machine.tree.limit(podman(A), cpu_m=750)
    assert node.runs()[A].quotas[CPU] == 750


def test_docker_without_its_socket_is_a_failure(machine: Machine) -> None:
    """Its containers cannot have been started without one: it has gone, and they live."""
    machine.tree.make(docker(A))
    with pytest.raises(ProviderError, match=r"name its socket in \[docker\] sockets"):
        Node(machine).runs()


def test_a_node_without_engines_answers_that_there_is_nothing(machine: Machine) -> None:
    """No socket, no container: complete, and no thread is started for it."""
    node = Node(machine)
    assert node.runs() == {}
    assert not node.provider._background._thread.is_alive()
    assert node.provider.problems() == []
    assert node.provider.watch_paths() == ()


def test_of_two_engines_the_one_that_knows_it_is_asked(
    machine: Machine, engine: Engine, tmp_path: Path
) -> None:
    """Docker and Podman side by side; one that is down is no reason to know nothing."""
    pods = Engine(tmp_path / "podman.sock")
    pods.start()
    pods.run(B, container(B, name="/pod"))
    engine.run(A)
    machine.tree.make(docker(A))
    machine.tree.make(podman(B))
    node = Node(machine)
    assert {node.run(A).job_name, node.run(B).job_name} == {"burn", "pod"}
    pods.stop()


def test_a_container_that_no_engine_knows_is_metered_by_its_id(
    machine: Machine, engine: Engine
) -> None:
    """It was removed before we asked; its cgroup was an engine's for certain."""
    machine.tree.make(docker(A))
    run = Node(machine).run(A)
    assert (run.job_id, run.username) == (A, None)
    assert engine.inspected() == [A]


def test_a_name_that_anybody_may_use_needs_an_engine_that_knows_it(
    machine: Machine, engine: Engine
) -> None:
    """`docker run --cgroup-parent /jobs`, beside a cgroup of another runtime."""
    engine.run(A)
    for place in (f"/jobs/{A}", f"/other/{B}"):
        machine.tree.make(place)
    node = Node(machine)
    wait_until(lambda: len(node.provider.runs()) == 1)
    assert node.provider.runs()[0].cgroup == f"/jobs/{A}"
    wait_until(lambda: B in engine.inspected())
    machine.tree.remove(f"/other/{B}")
    assert len(node.provider.runs()) == 1
    assert node.provider.problems() == []
    assert len(node.provider._units) == 1


def test_pods_are_left_to_kubernetes(machine: Machine, engine: Engine) -> None:
    """By their label, wherever the runtime has put them; and not by their place alone."""
    engine.run(A, container(A, labels={"io.kubernetes.pod.uid": "u"}))
    engine.run(B)
    machine.tree.make(docker(A))
    machine.tree.make(docker(B))
    machine.tree.make(f"/kubepods.slice/kubepods-pod1.slice/docker-{'c3' * 32}.scope")
    node = Node(machine)
    node.run(B)
    wait_until(lambda: A in engine.inspected())
    assert set(node.runs()) == {B}
    machine.tree.remove(docker(A))
    assert set(node.runs()) == {B}
    assert len(node.provider._units) == 1


def test_the_user_of_a_rootless_container_is_who_runs_it(machine: Machine, engine: Engine) -> None:
    """Its labels are that user's own word, who might name another one."""
    uid = os.getuid()
    manager = f"/user.slice/user-{uid}.slice/user@{uid}.service"
    machine.tree.make(f"{manager}/user.slice/libpod-{A}.scope")
    engine.run(A, container(A, labels={"userName": "somebody-else", "vcName": "v"}))
    node = Node(machine)
    wait_until(lambda: len(node.provider.runs()) == 1)
    (run,) = node.provider.runs()
    assert (run.username, run.vc) == (pwd.getpwuid(uid).pw_name, "v")


def test_a_users_engine_is_not_asked_for_others_containers(
    machine: Machine, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever may listen somewhere could else say that this container is another one's."""

    def stranger(_path: str) -> int:
        return 4_000_000_001

    monkeypatch.setattr("agent.jobs.docker.identities._owner_of", stranger)
    engine.run(A)
    machine.tree.make(docker(A))
    run = Node(machine).run(A)
    assert run.job_name == A[:12]
    assert engine.inspected() == []


def test_containers_in_no_place_that_is_looked_at_are_reported(
    machine: Machine, engine: Engine
) -> None:
    """Of two lists, so that one that begins meanwhile is not; with what to do about it."""
    engine.run(A, container(A, name="/hidden"))
    machine.tree.make(f"/a/b/c/{A}")
    node = Node(machine)
    node.runs()
    for _ in range(2):
        wait_until(lambda: node.provider._background.answer.answered_at_ms == machine.now_ms)
        assert node.provider.problems() == []
        machine.now_ms += LIST_EVERY_MS
        node.provider._background.request()
        wait_until(lambda: node.provider._background.answer.answered_at_ms == machine.now_ms)
        if node.provider.problems():
            break
    assert node.problem() == (
        "container hidden runs in no cgroup that is looked at; name its parent as [docker] parents"
    )
    machine.settings += 'parents = ["/a/b/c"]\n'
    machine.restart()
    again = open_docker_provider(machine.context())
    wait_until(lambda: [run.job_name for run in again.runs()] == ["hidden"])


def test_a_list_that_cannot_be_used_is_a_problem_and_no_failure(
    machine: Machine, engine: Engine
) -> None:
    """The containers are known one by one."""
    good = engine.answer
    engine.reply = lambda connection, target: (
        good if A in target else says(b"HTTP/1.0 200 OK\r\n\r\n{}")
    )(connection, target)
    engine.run(A)
    machine.tree.make(docker(A))
    node = Node(machine)
    node.run(A)
    wait_until(node.provider.problems)
    assert "the list of containers at" in node.problem()
    assert "it is no list" in node.problem()


def test_a_container_that_was_heard_by_another_name_leaves_nothing(
    tmp_path: Path, engine: Engine
) -> None:
    """Its scope in v2 is made a moment before the one in v1, by which it is known for good."""
    tree = CgroupTree(tmp_path / "cgroup", "both")
    tree.make("/system.slice")
    (tmp_path / "cgroup/unified/system.slice").mkdir()
    machine = Machine(tree, f'[docker]\nsockets = ["{engine.path}"]\n')
    node = Node(machine)
    engine.run(A)
    with machine.hearing():
        node.runs()
        (tmp_path / f"cgroup/unified{docker(A)}").mkdir()
        wait_until(lambda: node.provider._identities._known)
        tree.make(docker(A))
        wait_until(lambda: len(node.provider._identities._known) == 2)
    for _ in range(2):
        node.runs()
    assert len(node.provider._identities._known) == len(node.runs()) == 1


def test_a_saved_tree_is_read_without_an_engine(machine: Machine, engine: Engine) -> None:
    """Of another machine's containers this machine's engine knows nothing."""
    engine.run(A)
    machine.tree.make(docker(A))
    machine.tree.make(f"/jobs/{B}")
    machine.tree.limit(docker(A), cpu_m=500)
    (run,) = Node(machine, is_live=False).provider.runs()
    assert (run.job_id, run.quotas[CPU]) == (A, 500)
    assert engine.asked == []


def test_settling_unknown_runs_is_harmless(machine: Machine, engine: Engine) -> None:
    """Keys of others, and of those that live, are passed over."""
    engine.run(A)
    machine.tree.make(docker(A))
    node = Node(machine)
    run = node.run(A)
    node.provider.settled([run.key])
    node.provider.settled([])
    assert node.runs() == {A: run}


def _always(paths: list[str]) -> Callable[[Identities], list[str]]:
    return lambda _identities: paths


def _answers(node: Node) -> bool:
    try:
        return bool(node.runs())
    except ProviderError:
        return False


def test_a_real_cgroup_of_a_container(engine: Engine, tmp_path: Path) -> None:
    """This kernel's own: heard at mkdir, its limit read, ended at rmdir, never by the engine."""
    hierarchies = find_hierarchies(CGROUP_ROOT)
    mounts = [hierarchies.v1[name] for name in ("cpuacct", "memory") if name in hierarchies.v1]
    mounts = mounts or ([hierarchies.v2] if hierarchies.v2 else [])
    if not mounts or not all(os.access(mount, os.W_OK) for mount in mounts):
        pytest.skip("no cgroup can be made here")
    parent = f"/nodemeter-test-{uuid4().hex[:8]}.slice"
    folders = [Path(f"{mount}{parent}/docker-{A}.scope") for mount in mounts]
    for folder in folders:
        folder.parent.mkdir()
    machine = Machine(CgroupTree(tmp_path / "unused", "v2"), "")
    machine.tree.root = Path(CGROUP_ROOT)
    machine.restart()
    machine.settings = f'[cgroup]\nroot = "{CGROUP_ROOT}"\n[docker]\nsockets = ["{engine.path}"]\n'
    engine.run(A)
    node = Node(machine)
    try:
        with machine.hearing():
            assert node.runs() == {}
            for folder in reversed(folders):
                folder.mkdir()
            wait_until(lambda: A in engine.inspected())
            run = node.run(A)
            assert (run.cgroup, run.started_at_ms) == (f"{parent}/docker-{A}.scope", NOW_MS)
            machine.now_ms += 5_000
            for folder in folders:
                folder.rmdir()
            wait_until(lambda: node.runs()[A].ended_at_ms == NOW_MS + 5_000)
    finally:
        for path in [*folders, *(folder.parent for folder in folders)]:
            if path.exists():
                path.rmdir()


@pytest.mark.parametrize("parent", ["jobs", "/jobs/", "/", "/a/../b", ""])
def test_a_parent_that_is_no_cgroup_is_refused(parent: str) -> None:
    """With an example of a right one."""
    reader = Reader({"docker": {"parents": [parent]}}, {})
    ask_docker(reader)
    (problem,) = reader.problems()
    assert "must be a cgroup such as /jobs/gpu" in problem


def test_a_socket_that_vanishes_while_it_is_looked_at_is_an_engine_that_went(
    machine: Machine, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its directory was listed a moment before."""
    gone = [f"{engine.path}.gone"]
    monkeypatch.setattr(Identities, "sockets", _always(gone))
    machine.tree.make(docker(A))
    with pytest.raises(ProviderError, match=r"gone does not answer: No such file"):
        Node(machine).runs()


def test_a_list_that_is_refused_is_a_problem_and_no_failure(
    machine: Machine, engine: Engine
) -> None:
    """A proxy before the engine that lets inspects through, and no lists."""
    good = engine.answer
    engine.reply = lambda connection, target: (good if A in target else status(403))(
        connection, target
    )
    engine.run(A)
    machine.tree.make(docker(A))
    node = Node(machine)
    node.run(A)
    wait_until(node.provider.problems)
    assert node.problem().endswith("the engine answers with status 403")
