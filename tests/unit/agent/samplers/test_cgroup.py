"""The cgroup sampler: this kernel's own counters, in both layouts, and never a guess."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.cgroups import find_hierarchies
from agent.clock import SystemTime
from agent.model import MeterKey, Reading, ReadingKind, ResourceType, Run, RunKey
from agent.procfs import ProcFs
from agent.samplers.cgroup import CgroupSampler
from agent.samplers.pss import PssReader
from tests.descriptors import open_descriptors
from tests.unit.agent.conftest import CGROUP_ROOT, RealCgroup

MIB = 1 << 20


def run_in(cgroup: str | None, *, ended_at_ms: int | None = None, key: str = "k") -> Run:
    return Run(
        key=RunKey(key),
        provider="files",
        job_id="j",
        job_name="j",
        started_at_ms=0,
        ended_at_ms=ended_at_ms,
        quotas={},
        cgroup=cgroup,
    )


def sampler(root: str) -> CgroupSampler:
    procfs = ProcFs()
    return CgroupSampler(
        find_hierarchies(root), procfs, PssReader(procfs, SystemTime().monotonic_ns)
    )


def values(found: CgroupSampler, *runs: Run) -> dict[ResourceType, int]:
    return {key.type: reading.value for key, reading in found.sample(runs).items()}


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def v2(tmp_path: Path) -> Path:
    """A machine with cgroup v2 alone, and one job on it."""
    write(tmp_path / "cgroup.controllers", "cpu memory pids\n")
    job = tmp_path / "nodemeter" / "a"
    write(job / "cpu.stat", "usage_usec 1234567\nuser_usec 1000000\nsystem_usec 234567\n")
    write(job / "memory.current", f"{100 * MIB}\n")
    write(job / "memory.stat", f"anon 5\nfile 7\ninactive_anon 9\ninactive_file {30 * MIB}\n")
    return tmp_path


@pytest.fixture
def v1(tmp_path: Path) -> Path:
    """A machine with cgroup v1 alone, and one job on it."""
    for controller in ("cpu", "cpuacct", "memory"):
        write(tmp_path / controller / "tasks", "")
    job = "nodemeter/a"
    write(tmp_path / "cpuacct" / job / "cpuacct.usage", "1234567899\n")
    write(tmp_path / "memory" / job / "memory.usage_in_bytes", f"{100 * MIB}\n")
    stat = f"cache 1\ninactive_file 1\ntotal_cache 2\ntotal_inactive_file {30 * MIB}\n"
    write(tmp_path / "memory" / job / "memory.stat", stat)
    return tmp_path


def test_v2_gives_cpu_time_and_working_set(v2: Path) -> None:
    """Microseconds as they stand; usage - inactive_file in KiB."""
    readings = sampler(str(v2)).sample([run_in("/nodemeter/a")])
    assert readings == {
        MeterKey(RunKey("k"), ResourceType.CPU, None): Reading(
            kind=ReadingKind.COUNTER, value=1234567
        ),
        MeterKey(RunKey("k"), ResourceType.MEM, None): Reading(
            kind=ReadingKind.LEVEL, value=70 * 1024
        ),
    }


def test_v1_gives_the_same(v1: Path) -> None:
    """Nanoseconds become microseconds; the file cache is that of the whole subtree."""
    found = values(sampler(str(v1)), run_in("/nodemeter/a"))
    assert found == {ResourceType.CPU: 1234567, ResourceType.MEM: 70 * 1024}


def test_both_layouts_at_once_complete_each_other(v1: Path) -> None:
    """CPU time from the v2 side where cpuacct does not know the cgroup, memory from v1."""
    write(v1 / "unified" / "cgroup.controllers", "")
    write(v1 / "unified" / "nodemeter" / "a" / "cpu.stat", "usage_usec 5\n")
    assert values(sampler(str(v1)), run_in("/nodemeter/a"))[ResourceType.CPU] == 1234567
    (v1 / "cpuacct" / "nodemeter" / "a" / "cpuacct.usage").unlink()
    found = values(sampler(str(v1)), run_in("/nodemeter/a"))
    assert found == {ResourceType.CPU: 5, ResourceType.MEM: 70 * 1024}


def test_the_working_set_is_never_negative(v2: Path) -> None:
    """The two files are not read at one instant."""
    write(v2 / "nodemeter" / "a" / "memory.current", "4096\n")
    assert values(sampler(str(v2)), run_in("/nodemeter/a"))[ResourceType.MEM] == 0


def test_what_cannot_be_read_is_absent(v2: Path) -> None:
    """Never 0: unknown memory is not unused memory, an unknown cgroup is not an idle one."""
    (v2 / "nodemeter" / "a" / "memory.stat").unlink()
    assert values(sampler(str(v2)), run_in("/nodemeter/a")) == {ResourceType.CPU: 1234567}
    assert values(sampler(str(v2)), run_in("/nodemeter/b")) == {}
    assert values(sampler(str(v2)), run_in(None)) == {}
    assert values(sampler(str(v2)), run_in("/nodemeter/a", ended_at_ms=5)) == {}


def test_a_still_usage_is_not_taken_apart_each_time(v2: Path) -> None:
    """The expensive file is read again when the usage moved, or after a minute."""
    found, run = sampler(str(v2)), run_in("/nodemeter/a")
    stat = v2 / "nodemeter" / "a" / "memory.stat"
    assert values(found, run)[ResourceType.MEM] == 70 * 1024
    stat.write_text(f"anon 5\ninactive_file {20 * MIB}\n")
    seen = [values(found, run)[ResourceType.MEM] for _ in range(6)]
    assert seen == [70 * 1024] * 5 + [80 * 1024]
    stat.write_text(f"anon 5\ninactive_file {10 * MIB}\n")
    write(v2 / "nodemeter" / "a" / "memory.current", f"{101 * MIB}\n")
    assert values(found, run)[ResourceType.MEM] == 91 * 1024


Start = Callable[[str], subprocess.Popen[bytes]]


@pytest.fixture
def start(real_cgroup: RealCgroup) -> Iterator[Start]:
    """Starts a Python program that enters the cgroup first and then says one line."""
    children: list[subprocess.Popen[bytes]] = []

    def go(program: str) -> subprocess.Popen[bytes]:
        procs = [f"{folder}{real_cgroup.name}/cgroup.procs" for folder in real_cgroup.folders]
        enter = f"for path in {procs!r}: open(path, 'w').write('0')\nimport sys, time\n"
        command = [sys.executable, "-c", enter + program]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        children.append(child)
        assert child.stdout
        child.stdout.readline()
        return child

    yield go
    for child in children:
        child.kill()
        child.communicate()


BURN = """
begin = time.process_time()
print(flush=True)
while time.process_time() < begin + 0.7: pass
print(time.process_time() - begin, flush=True)
"""

HOLD = """
held = bytearray(%d << 20)
for i in range(0, len(held), 4096): held[i] = 1
print(flush=True)
sys.stdin.read()
"""

WRITE = """
with open(%r, "wb") as file:
    for _ in range(64): file.write(bytes(1 << 20))
print(flush=True)
sys.stdin.read()
"""


def test_the_counter_is_what_the_process_used(real_cgroup: RealCgroup, start: Start) -> None:
    """A burner's CPU by the sampler is the one by its own clock, within 1 %, also dead."""
    burner = start(BURN)
    found, run = sampler(CGROUP_ROOT), run_in(real_cgroup.name)
    alive = values(found, run)[ResourceType.CPU]
    assert burner.stdout
    used_us = int(float(burner.stdout.readline()) * 1e6)
    last = values(found, run)[ResourceType.CPU]
    assert 0 < alive <= last
    assert abs(last - used_us) <= used_us // 100
    burner.communicate()
    dead = values(found, run)[ResourceType.CPU]
    assert dead >= last
    assert values(found, run)[ResourceType.CPU] == dead


def test_memory_is_what_the_process_holds(real_cgroup: RealCgroup, start: Start) -> None:
    """200 MiB touched are 200 MiB of working set, the interpreter aside."""
    start(HOLD % 200)
    found = values(sampler(CGROUP_ROOT), run_in(real_cgroup.name))
    assert 199 * 1024 <= found[ResourceType.MEM] <= 230 * 1024


def test_page_cache_is_not_memory_in_use(
    real_cgroup: RealCgroup, start: Start, tmp_path: Path
) -> None:
    """A file of 64 MiB that was only written stays out of the working set."""
    start(WRITE % str(tmp_path / "cached"))
    found = values(sampler(CGROUP_ROOT), run_in(real_cgroup.name))
    assert found[ResourceType.MEM] < 40 * 1024


def test_a_removed_cgroup_is_absent_and_a_new_one_counts_from_zero(
    real_cgroup: RealCgroup, start: Start
) -> None:
    """The kept descriptor of the old one must not answer for the new one."""
    start("print(flush=True)\nsum(range(10**7))").communicate()
    found, run = sampler(CGROUP_ROOT), run_in(real_cgroup.name)
    assert values(found, run)[ResourceType.CPU] > 10_000
    real_cgroup.remove()
    assert values(found, run) == {}
    RealCgroup(real_cgroup.folders, real_cgroup.name)
    assert values(found, run)[ResourceType.CPU] < 10_000


def test_forgetting_a_run_closes_its_files(real_cgroup: RealCgroup) -> None:
    """Three descriptors per run, and none after it."""
    found, run = sampler(CGROUP_ROOT), run_in(real_cgroup.name)
    found.sample([run])
    assert kept_open(real_cgroup) > 0
    found.forget([run.key, RunKey("unknown")])
    assert kept_open(real_cgroup) == 0


def kept_open(cgroup: RealCgroup) -> int:
    return sum(open_descriptors(f"{folder}{cgroup.name}") for folder in cgroup.folders)


def test_without_a_memory_controller_the_processes_are_asked(start: Start, tmp_path: Path) -> None:
    """A cgroup2 mount that controls nothing still knows its processes and their CPU."""
    holder = start(HOLD % 50)
    write(tmp_path / "cgroup.controllers", "")
    write(tmp_path / "a" / "cpu.stat", "usage_usec 5\n")
    write(tmp_path / "a" / "cgroup.procs", f"{holder.pid}\n")
    found = values(sampler(str(tmp_path)), run_in("/a"))
    assert found[ResourceType.CPU] == 5
    assert 50 * 1024 <= found[ResourceType.MEM] <= 80 * 1024
