"""The `process` provider: one run per job and account, which cannot be somebody else's."""

import os
import pwd
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import pytest

from agent.config import Reader
from agent.errors import ProviderError
from agent.jobs.process import ProcessProvider, open_process_provider
from agent.model import ResourceType, Run
from agent.sections.process import ask_process
from tests.unit.agent.cgrouptrees import CgroupTree
from tests.unit.agent.conftest import wait_until
from tests.unit.agent.jobs.contexts import NOW_MS, Machine
from tests.unit.agent.jobs.process.processes import Processes

JOB = {"DLWS_JOB_ID": "j-1", "DLWS_USER_NAME": "mallory", "DLTS_VC_NAME": "vision"}


class Node:
    """A machine of written processes, one look every ten seconds."""

    def __init__(self, folder: Path) -> None:
        self.processes = Processes(folder / "proc")
        self.folder = folder
        self.machine = Machine(CgroupTree(folder / "cgroup", "v2"), "")
        self.machine.settings += f'[agent]\nstate_dir = "{folder}"\n'
        self.settings = ""
        self.provider: ProcessProvider
        self.restart()

    def restart(self, *, is_live: bool = True) -> None:
        machine = Machine(self.machine.tree, "")
        machine.settings = self.machine.settings + self.settings
        context = machine.context(is_live=is_live, root=str(self.folder))
        machine.now_ms = self.machine.now_ms
        self.machine = machine
        self.machine.settings = machine.settings.removesuffix(self.settings)
        self.provider = open_process_provider(context)

    def pass_s(self, seconds: int) -> None:
        self.machine.now_ms += seconds * 1000
        self.processes.uptime_s += seconds

    def runs(self) -> dict[str, Run]:
        return {run.job_id: run for run in self.provider.runs()}

    def look(self) -> dict[str, Run]:
        self.pass_s(10)
        return self.runs()


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_processes_of_one_job_are_one_run(node: Node) -> None:
    """The roots are those whose parent is not of the job; the start is that of the first one."""
    first = node.processes.start(JOB, at_s=400)
    node.processes.start(JOB, at_s=500, parent=first)
    second = node.processes.start(JOB, at_s=600)
    node.processes.start({"HOME": "/"}, at_s=300)
    run = node.runs()["j-1"]
    assert run.pids == (first, second)
    assert (run.job_name, run.vc, run.project) == ("j-1", "vision", "")
    assert run.quotas == {ResourceType.CPU: 0, ResourceType.MEM: 0}
    assert run.started_at_ms == NOW_MS - 600_000
    assert (run.devices, run.cgroup) == ((), None)
    assert node.provider.problems() == ()
    assert node.provider.watch_paths() == ()


def test_the_user_is_the_account_whatever_the_environment_says(node: Node) -> None:
    """Nobody bills somebody else, and nobody gets into another one's run."""
    node.processes.start(JOB, at_s=1, uid=os.getuid())
    node.processes.start(JOB, at_s=1, uid=4_000_000_001)
    users = {run.username for run in node.provider.runs()}
    assert users == {pwd.getpwuid(os.getuid()).pw_name, "4000000001"}


def test_a_site_may_trust_the_variables(node: Node) -> None:
    """Where launchers set them and users cannot; then also devices are taken from them."""
    node.settings = "[process]\ntrust_user_variables = true\ntrust_device_variables = true\n"
    node.restart()
    node.processes.start(
        {**JOB, "NVIDIA_VISIBLE_DEVICES": "0,2", "ASCEND_VISIBLE_DEVICES": "1"}, at_s=1
    )
    node.processes.start({"JOB_ID": "2"}, at_s=1, uid=4_000_000_001)
    runs = node.runs()
    assert runs["j-1"].username == "mallory"
    assert [share.id for share in runs["j-1"].devices] == ["0", "2", "phy:1"]
    assert (runs["2"].username, runs["2"].devices) == ("4000000001", ())


def test_devices_are_nobodys_by_default(node: Node) -> None:
    """A user may name what another one holds."""
    node.processes.start({**JOB, "NVIDIA_VISIBLE_DEVICES": "all"}, at_s=1)
    assert node.runs()["j-1"].devices == ()


def test_the_names_of_variables_are_settings_in_their_order(node: Node) -> None:
    """The first that says anything."""
    node.settings = '[process]\njob_id_from = ["B", "A"]\nproject_from = ["P"]\n'
    node.restart()
    node.processes.start({"A": "a", "B": ""}, at_s=1)
    node.processes.start({"A": "a", "B": "b", "P": "p"}, at_s=1)
    node.processes.start(JOB, at_s=1)
    runs = node.runs()
    assert set(runs) == {"a", "b"}
    assert runs["b"].project == "p"


def test_whatever_stands_in_an_environment_fits_a_bill(node: Node) -> None:
    """Control characters, bytes that are no text, and pages of it."""
    value = "x\n\udcff" * 400
    node.processes.start({"JOB_ID": value, "DLWS_VC_NAME": value}, at_s=1)
    (run,) = node.provider.runs()
    assert len(run.job_id) == len(run.vc) == 256
    assert (run.job_id + run.vc).isprintable() or "\N{REPLACEMENT CHARACTER}" in run.job_id
    assert len(run.key) <= 512
    run.key.encode()


def test_a_run_is_told_when_others_had_the_time_to_claim_it(node: Node) -> None:
    """Two intervals after its first process; its start is exact all the same."""
    node.processes.start(JOB)
    for _ in range(2):
        assert node.runs() == {}
        node.pass_s(9)
    node.pass_s(2)
    assert node.runs()["j-1"].started_at_ms == NOW_MS
    node.processes.start(JOB)
    node.pass_s(10)
    assert len(node.runs()["j-1"].pids) == 2


def test_roots_come_and_go_and_the_run_stays(node: Node) -> None:
    """A child that outlives its parent is a root; key and start are what they were."""
    first = node.processes.start(JOB, at_s=400)
    child = node.processes.start(JOB, at_s=500, parent=first)
    before = node.runs()["j-1"]
    assert node.look()["j-1"] is before
    node.processes.end(first)
    after = node.look()["j-1"]
    assert after.pids == (child,)
    assert (after.key, after.started_at_ms) == (before.key, before.started_at_ms)


def test_it_ends_when_it_was_seen_last(node: Node) -> None:
    """Until it is settled it is answered; the same id later is another run."""
    pid = node.processes.start(JOB, at_s=400)
    first = node.runs()["j-1"]
    node.look()
    seen_ms = node.machine.now_ms
    node.processes.end(pid)
    for _ in range(2):
        ended = node.look()["j-1"]
        assert (ended.key, ended.ended_at_ms) == (first.key, seen_ms)
    node.processes.start(JOB)
    for _ in range(3):
        node.look()
    runs = node.provider.runs()
    assert len(runs) == 2
    node.provider.settled([run.key for run in runs])
    (again,) = node.provider.runs()
    assert again.key != first.key
    assert again.ended_at_ms is None


def test_a_zombie_is_no_process(node: Node) -> None:
    """Its parent may never look; the run has ended nevertheless."""
    pid = node.processes.start(JOB, at_s=400)
    node.processes.start(JOB | {"DLWS_JOB_ID": "j-2"}, at_s=400)
    node.runs()
    node.processes.become_zombie(pid)
    runs = node.look()
    assert runs["j-1"].ended_at_ms is not None
    assert runs["j-2"].ended_at_ms is None


def test_a_number_that_comes_again_is_another_process(node: Node) -> None:
    """Of another job, or of none: the inode of its entry tells, and its start."""
    pids = [node.processes.start(JOB | {"DLWS_JOB_ID": each}, at_s=400) for each in "ab"]
    node.runs()
    for pid, environ in zip(pids, [JOB | {"DLWS_JOB_ID": "c"}, {}], strict=True):
        node.processes.end(pid)
        node.processes.start(environ, pid=pid)
    for _ in range(3):
        node.look()
    runs = node.runs()
    assert [runs[job].ended_at_ms for job in "ab"] == [NOW_MS, NOW_MS]
    assert (runs["c"].pids, runs["c"].started_at_ms) == ((pids[0],), NOW_MS)


def test_a_job_without_a_gap_is_one_run(node: Node) -> None:
    """One process after the other, and none of them lasts: it was alive at every look."""
    pid = node.processes.start(JOB, at_s=400)
    first = node.runs()["j-1"]
    for _ in range(3):
        node.pass_s(5)
        node.processes.end(pid)
        pid = node.processes.start(JOB)
        node.pass_s(5)
        run = node.runs()["j-1"]
        assert (run.key, run.pids) == (first.key, (pid,))


def test_an_environment_is_read_once(node: Node) -> None:
    """Also when the kernel gives the entry of the same process another inode."""
    pid = node.processes.start(JOB, at_s=400)
    other = node.processes.start({}, at_s=400)
    before = node.runs()["j-1"]
    node.processes.set_environ(pid, "DLWS_JOB_ID=x\0")
    node.processes.set_environ(other, "DLWS_JOB_ID=y\0")
    assert node.look()["j-1"] is before
    node.processes.replace_entry(pid)
    node.processes.replace_entry(other)
    assert node.look() == {"j-1": before}


def test_a_young_process_is_not_read_yet(node: Node) -> None:
    """Between fork and exec it shows its parent's environment."""
    pid = node.processes.start({"DLWS_JOB_ID": "launcher"}, at_s=999.5)
    assert node.runs() == {}
    node.processes.set_environ(pid, "DLWS_JOB_ID=j-1\0")
    for _ in range(3):
        node.look()
    assert set(node.runs()) == {"j-1"}


def test_what_cannot_be_read_is_no_job(node: Node) -> None:
    """Another user's environment, a process that is gone, a kernel thread, a broken line."""
    hidden = node.processes.start(JOB, at_s=400)
    (node.processes.root / str(hidden) / "environ").unlink()
    nobody = node.processes.start(JOB, at_s=400)
    (node.processes.root / str(nobody) / "status").unlink()
    node.processes.start(JOB, at_s=400, parent=2)
    broken = node.processes.start(JOB, at_s=400)
    (node.processes.root / str(broken) / "stat").write_text("")
    node.processes.become_zombie(node.processes.start(JOB, at_s=400))
    assert node.runs() == {}


def test_looks_in_between_cost_nothing(node: Node) -> None:
    """Events of other providers do not list the processes of the machine each time."""
    pid = node.processes.start(JOB, at_s=400)
    first = node.runs()["j-1"]
    node.processes.end(pid)
    node.pass_s(4)
    assert node.runs()["j-1"] is first
    node.pass_s(1)
    assert node.runs()["j-1"].ended_at_ms == NOW_MS


def test_without_a_list_there_is_no_answer(node: Node) -> None:
    """/proc is not there to be read: nobody has ended."""
    node.processes.start(JOB, at_s=400)
    before = node.runs()
    aside = node.processes.root.rename(node.folder / "aside")
    node.machine.now_ms += 10_000
    with pytest.raises(ProviderError, match=r"the processes in .* cannot be listed: No such file"):
        node.provider.runs()
    aside.rename(node.processes.root)
    assert node.look().keys() == before.keys()


# Restarts of the agent ------------------------------------------------------------------


def test_a_run_without_its_first_process_is_known_after_a_restart(node: Node) -> None:
    """Else what the rest has used since it began would be billed once more."""
    first = node.processes.start(JOB, at_s=400)
    node.processes.start(JOB, at_s=500, parent=first)
    before = node.runs()["j-1"]
    node.processes.end(first)
    node.look()
    node.restart()
    node.pass_s(60)
    after = node.runs()["j-1"]
    assert after.key == before.key
    assert after.started_at_ms == before.started_at_ms


def test_the_next_run_of_a_job_is_another_one_after_a_restart(node: Node) -> None:
    """A process that began after the last look cannot be of the run that was seen then."""
    pid = node.processes.start(JOB, at_s=400)
    before = node.runs()["j-1"]
    node.processes.end(pid)
    node.pass_s(60)
    node.processes.start(JOB)
    node.pass_s(60)
    node.restart()
    assert node.runs()["j-1"].key != before.key


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", '{"boot_id": "boot-1"}', "\x00" * 99, "[" * 100_000,
     '{"boot_id": "boot-1", "seen": "x", "starts": []}',
     '{"boot_id": "boot-1", "seen": 99999999, "starts": [["j-1", 1000]]}',
     '{"boot_id": "boot-1", "seen": 99999999, "starts": [["j-1", 1000, "x"]]}',
     '{"boot_id": "boot-0", "seen": 99999999, "starts": [["j-1", 1000, 1]]}',
     '{"boot_id": "boot-1", "seen": 99999999, "starts": [["j-1", 1000, 99999998]]}'],
)  # fmt: skip
def test_a_memory_that_cannot_be_used_is_none(node: Node, content: str) -> None:
    """Damaged, of another boot, or impossible: the start is that of the first process."""
    (node.folder / "process-runs.json").write_text(content)
    node.restart()
    node.processes.start(JOB, at_s=400)
    assert node.runs()["j-1"].started_at_ms == NOW_MS - 600_000


def test_a_memory_that_cannot_be_written_stops_nobody(node: Node) -> None:
    """A full disk, or none at all."""
    (node.folder / "process-runs.new").mkdir()
    node.processes.start(JOB, at_s=400)
    assert set(node.runs()) == {"j-1"}


def test_a_saved_tree_is_looked_at_and_left_alone(node: Node) -> None:
    """No file is written, no account of this machine is named."""
    node.processes.start(JOB, at_s=400, uid=0)
    node.restart(is_live=False)
    assert node.runs()["j-1"].username == "0"
    assert not (node.folder / "process-runs.json").exists()


def test_a_saved_tree_without_boot_id(node: Node) -> None:
    """It was not asked for when the tree was saved."""
    (node.processes.root / "sys/kernel/random/boot_id").unlink()
    node.restart(is_live=False)
    node.processes.start(JOB, at_s=400)
    assert node.runs()["j-1"].key.endswith("~unknown")


# This machine's own processes -----------------------------------------------------------

FORKS = """
import os, time, sys
if os.fork():
    sys.stdout.write("x"); sys.stdout.flush()
    sys.stdin.read(1)
    os._exit(0)
time.sleep(600)
"""


@pytest.fixture
def name() -> str:
    """A variable that no other process here can have."""
    return f"NODEMETER_TEST_{uuid4().hex[:8].upper()}"


@pytest.fixture
def tree(name: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process with a child that outlives it."""
    with subprocess.Popen(
        [sys.executable, "-c", FORKS],
        env=os.environ | {name: "real"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.read(1) == b"x"
        yield process
        with suppress(ProcessLookupError):
            os.killpg(process.pid, 9)


def test_real_processes(name: str, tree: subprocess.Popen[bytes], tmp_path: Path) -> None:
    """Found, followed when the parent dies before its child, and ended with the last one."""
    machine = Machine(CgroupTree(tmp_path, "v2"), "")
    machine.settings += (
        f'[agent]\nsample_interval_seconds = 1\nstate_dir = "{tmp_path}"\n'
        f'[process]\njob_id_from = ["{name}"]\n'
    )
    provider = open_process_provider(machine.context())

    def look() -> list[Run]:
        machine.now_ms += 1_000
        return list(provider.runs())

    wait_until(look)
    (run,) = look()
    assert (run.job_id, run.username) == ("real", pwd.getpwuid(os.getuid()).pw_name)
    assert run.pids == (tree.pid,)
    assert tree.stdin is not None
    tree.stdin.write(b"x")
    tree.stdin.flush()
    tree.wait(20)
    wait_until(lambda: look()[0].pids != (tree.pid,))
    (orphan,) = look()[0].pids
    assert orphan != tree.pid
    os.kill(orphan, 9)
    wait_until(lambda: look()[0].ended_at_ms)
    assert look()[0].key == run.key


@pytest.mark.parametrize("value", ["", "A=B"])
def test_a_name_that_no_variable_can_have_is_refused(value: str) -> None:
    """With what it must be."""
    reader = Reader({"process": {"job_id_from": [value]}}, {})
    ask_process(reader)
    (problem,) = reader.problems()
    assert "must be the name of a variable" in problem
