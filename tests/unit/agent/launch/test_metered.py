"""`exec`, the provider and the samplers together: what was used is what is billed."""

import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from agent.cgroups import find_hierarchies
from agent.clock import AgentClock, SystemTime
from agent.jobs.deathwatch import DeathWatch
from agent.jobs.files import FilesProvider
from agent.jobs.liveness import Liveness
from agent.model import MeterKey, Reading, ResourceType, Run
from agent.procfs import ProcFs
from agent.samplers.cgroup import CgroupSampler
from agent.samplers.process import ProcessSampler
from agent.samplers.pss import PssReader
from tests.unit.agent.conftest import CGROUP_ROOT, wait_until
from tests.unit.agent.launch.test_exec import KINDS, ROOT, has_cgroups

BURN = """
import os, time
for _ in range(3):
    pid = os.fork()
    if not pid:
        while time.process_time() < 0.2: pass
        os._exit(0)
    os.waitpid(pid, 0)
while time.process_time() < 0.4: pass
used = os.times()
print(used.user + used.system + used.children_user + used.children_system, flush=True)
"""


class Node:
    """The agent's edge on this machine, without the agent."""

    def __init__(self, jobs: Path, cgroup_root: str) -> None:
        time, procfs = SystemTime(), ProcFs()
        hierarchies = find_hierarchies(cgroup_root)
        self.clock = AgentClock(time)
        self.woken = threading.Event()
        self.deaths = DeathWatch(hierarchies, procfs, now_ms=self.clock.now_ms, wake=self.woken.set)
        self.jobs = jobs
        self.cgroup_root = cgroup_root
        self.provider = FilesProvider(
            jobs,
            Liveness(hierarchies, procfs, time.boottime_ns, self.deaths),
            now_ms=self.clock.now_ms,
            wall_ns=time.wall_ns,
        )
        pss = PssReader(procfs, time.monotonic_ns)
        self.samplers = (CgroupSampler(hierarchies, procfs, pss), ProcessSampler(procfs, pss))

    def sample(self, run: Run) -> Mapping[MeterKey, Reading]:
        return self.samplers[0].sample([run]) or dict(self.samplers[1].sample([run]))

    def cpu_us(self, run: Run) -> int | None:
        reading = self.sample(run).get(MeterKey(run.key, ResourceType.CPU, None))
        return reading.value if reading else None

    def start(self, *words: str) -> subprocess.Popen[str]:
        environ = {
            "NODEMETER_AGENT_CONFIG": "/dev/null",
            "NODEMETER_JOBS_DIR": str(self.jobs),
            "NODEMETER_CGROUP_ROOT": self.cgroup_root,
        }
        command = [sys.executable, "-m", "agent", "exec", "--name", "t", "--", *words]
        return subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, text=True)

    def only_run(self) -> Run | None:
        runs = self.provider.runs()
        assert len(runs) <= 1
        assert self.provider.problems() == []
        return runs[0] if runs else None


@pytest.fixture(params=["v1", "v2", "tree"])
def node(request: pytest.FixtureRequest, tmp_path: Path) -> Node:
    root = KINDS[request.param]
    if request.param != "tree" and not has_cgroups(root):
        pytest.skip(f"no cgroup can be made below {root}")
    return Node(tmp_path, root)


def test_a_job_is_metered_from_its_start_to_its_end(node: Node) -> None:
    """Readings only grow, the last one is exact, and nothing is left behind."""
    seen: list[int] = []
    with node.start(sys.executable, "-S", "-c", BURN) as process:
        while process.poll() is None:
            run = node.only_run()
            if run and run.ended_at_ms is None and (value := node.cpu_us(run)) is not None:
                seen.append(value)
        assert process.stdout
        said_us = float(process.stdout.read()) * 1e6
    run = node.only_run()
    assert run
    assert run.ended_at_ms is not None
    final = run.final[ResourceType.CPU].value
    assert said_us * 0.99 - 20_000 <= final <= said_us * 1.01 + 20_000  # starts and ends aside
    assert len(seen) > 3
    assert seen == sorted(seen)
    assert final >= seen[-1]
    assert node.clock.now_ms() - 30_000 < run.started_at_ms < run.ended_at_ms
    node.provider.settled([run.key])
    assert node.only_run() is None
    assert list(node.jobs.iterdir()) == []


def test_a_stopped_exec_keeps_its_job_alive(node: Node) -> None:
    """Its command died while `exec` cannot look: the end is still its to write."""
    with node.start("sh", "-c", "echo $$; exec sleep 600") as process:
        assert process.stdout
        child = process.stdout.readline().strip()
        run = node.only_run()
        assert run
        process.send_signal(19)
        subprocess.run(["kill", "-KILL", child], check=True)
        wait_until(lambda: Path(f"/proc/{child}/stat").read_text().split()[2] == "Z")
        still = node.only_run()
        assert still
        assert still.ended_at_ms is None
        process.send_signal(18)
        assert process.wait() == 137
    ended = node.only_run()
    assert ended
    assert ended.ended_at_ms is not None
    assert ResourceType.CPU in ended.final


def test_a_killed_exec_s_job_lives_as_long_as_its_processes(node: Node) -> None:
    """And ends with the last of them, which is heard without a look, with all their CPU time."""
    program = (
        "import time\nwhile time.process_time() < 0.3: pass\nprint(flush=True)\ntime.sleep(600)"
    )
    with node.start("sh", "-c", f"echo $$; exec {sys.executable} -S -c '{program}'") as process:
        assert process.stdout
        child = process.stdout.readline().strip()
        process.kill()
        process.wait()
        run = node.only_run()
        assert run
        assert run.ended_at_ms is None
        process.stdout.readline()
        node.woken.clear()
        before_ms = node.clock.now_ms()
        subprocess.run(["kill", "-KILL", child], check=True)
        assert node.woken.wait(20)
    after_ms = node.clock.now_ms()
    wait_until(lambda: node.clock.now_ms() > after_ms + 50)
    ended = node.only_run()
    assert ended
    assert ended.ended_at_ms is not None
    assert before_ms <= ended.ended_at_ms <= after_ms
    if ended.cgroup:
        assert ended.final[ResourceType.CPU].value >= 300_000
    node.provider.settled([ended.key])
    assert list(node.jobs.iterdir()) == []
    for top in (CGROUP_ROOT, f"{CGROUP_ROOT}/unified", *map(str, Path(CGROUP_ROOT).glob("*"))):
        for folder in Path(top, "nodemeter").glob("t-????????"):
            folder.rmdir()
