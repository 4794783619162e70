"""The process sampler: trees, their dead, and memory that is shared."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from agent.clock import SystemTime
from agent.model import MeterKey, ResourceType, Run, RunKey
from agent.procfs import TICK_US, Process, ProcFs
from agent.samplers.process import Machine, ProcessSampler, Tree
from agent.samplers.pss import PssReader

KEY = RunKey("k")


class FakeProc(ProcFs):
    """A machine whose processes the test writes down."""

    def __init__(self) -> None:
        super().__init__("/nonexistent")
        self.table: dict[int, Process] = {}
        self.pss: dict[int, int] = {}
        self.pss_reads = 0

    def put(
        self, pid: int, parent: int, own: int = 0, dead: int = 0, *, start: int = 0, rss: int = 0
    ) -> None:
        self.table[pid] = Process(
            pid=pid,
            parent=parent,
            is_alive=True,
            start=start or pid,
            own_ticks=own,
            child_ticks=dead,
            rss_kib=rss,
        )

    def pids(self) -> Iterator[int]:
        return iter(sorted(self.table))

    def process(self, pid: int) -> Process | None:
        return self.table.get(pid)

    def pss_kib(self, pid: int) -> int | None:
        self.pss_reads += 1
        return self.pss.get(pid)


@pytest.fixture
def proc() -> FakeProc:
    return FakeProc()


def look(tree: Tree, proc: FakeProc) -> int:
    tree.update(Machine(proc))
    return tree.ticks()


def run_of(*pids: int) -> Run:
    return Run(
        key=KEY,
        provider="files",
        job_id="j",
        job_name="j",
        started_at_ms=0,
        quotas={},
        pids=pids,
    )


def test_a_tree_is_its_roots_and_all_below(proc: FakeProc) -> None:
    """Own time and that of the children waited for, of every member; nobody else's."""
    proc.put(10, 1, 100, 7)
    proc.put(11, 10, 30)
    proc.put(12, 11, 5)
    proc.put(20, 1, 999)
    assert look(Tree([10]), proc) == 142


def test_the_dead_move_to_who_waited_for_them(proc: FakeProc) -> None:
    """A child's time is its parent's child time after the wait, and counts once."""
    tree = Tree([10])
    proc.put(10, 1, 100)
    proc.put(11, 10, 30)
    assert look(tree, proc) == 130
    del proc.table[11]
    proc.put(10, 1, 100, 35)
    assert look(tree, proc) == 135


def test_an_orphan_stays_a_member_and_its_time_is_kept(proc: FakeProc) -> None:
    """Its parent died, then it did, waited for by somebody outside: nothing is lost."""
    tree = Tree([10])
    proc.put(10, 1, 100)
    proc.put(11, 10, 10)
    proc.put(12, 11, 50)
    assert look(tree, proc) == 160
    del proc.table[11]
    proc.put(10, 1, 100, 10)
    proc.put(12, 1, 60)
    assert look(tree, proc) == 170
    del proc.table[12]
    assert look(tree, proc) == 170


def test_a_total_never_falls(proc: FakeProc) -> None:
    """Nobody waited for the child: its time is in no counter, and stays counted."""
    tree = Tree([10])
    proc.put(10, 1, 100)
    proc.put(11, 10, 50)
    assert look(tree, proc) == 150
    del proc.table[11]
    assert look(tree, proc) == 150


def test_a_number_that_is_used_again_is_not_a_member(proc: FakeProc) -> None:
    """After the first look a process is known by its start as well."""
    tree = Tree([10])
    proc.put(10, 1, 100)
    assert look(tree, proc) == 100
    proc.put(10, 1, 5, start=999)
    assert not tree.update(Machine(proc))
    assert tree.ticks() == 100


def test_a_tree_that_is_gone_gives_no_reading(proc: FakeProc) -> None:
    """Its last reading stands; 0 would be a lie."""
    sampler = ProcessSampler(proc, PssReader(proc, lambda: 0))
    proc.put(10, 1, 3, rss=40)
    readings = sampler.sample([run_of(10, 11)])
    assert readings[MeterKey(KEY, ResourceType.CPU, None)].value == 3 * TICK_US
    proc.table.clear()
    assert sampler.sample([run_of(10, 11)]) == {}
    sampler.forget([KEY])


def test_no_run_of_processes_costs_no_look(proc: FakeProc) -> None:
    """/proc is listed only where somebody needs it."""
    unreadable = ProcFs("/nonexistent")
    assert ProcessSampler(unreadable, PssReader(proc, lambda: 0)).sample([]) == {}


def test_shared_pages_count_once(proc: FakeProc) -> None:
    """Two workers over the same 1,000 KiB hold 1,000 KiB."""
    proc.put(10, 1, rss=1000)
    proc.put(11, 10, rss=1000)
    proc.pss = {10: 500, 11: 500}
    reader = PssReader(proc, lambda: 0)
    assert reader.total_kib(proc.table.values()) == 1000


def test_without_the_right_to_pss_the_resident_size_stands(proc: FakeProc) -> None:
    """An agent that may not look into a process still sees how large it is."""
    proc.put(10, 1, rss=1000)
    assert PssReader(proc, lambda: 0).total_kib(proc.table.values()) == 1000


def test_pss_is_read_for_a_thousandth_of_the_time(proc: FakeProc) -> None:
    """In between it follows the resident size in proportion; a new process is read at once."""
    now_ns = iter([100, 105, 200, 5104, 5106, 5107, 5108])
    reader = PssReader(proc, lambda: next(now_ns))
    proc.put(10, 1, rss=1000)
    proc.pss = {10: 500}
    assert reader.total_kib(proc.table.values()) == 500  # took 5 ns: due at 5105
    proc.put(10, 1, rss=2000)
    proc.pss = {10: 1500}
    assert reader.total_kib(proc.table.values()) == 1000
    assert reader.total_kib(proc.table.values()) == 1000
    assert proc.pss_reads == 1
    assert reader.total_kib(proc.table.values()) == 1500
    assert proc.pss_reads == 2


PROGRAM = """
import os, sys, time

def burn(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end: pass

for _ in range(10):            # waited for
    pid = os.fork()
    if not pid:
        burn(0.05)
        os._exit(0)
    os.waitpid(pid, 0)
pid = os.fork()                # alive beside its parent
if not pid:
    burn(0.3)
    print(flush=True)
    time.sleep(600)
burn(0.3)
print(flush=True)
sys.stdin.read()
"""


def test_a_real_tree_is_its_rusage_within_one_percent() -> None:
    """Twelve processes, ten of them dead: the sum is what `wait4` says in the end."""
    sampler = ProcessSampler(ProcFs(), PssReader(ProcFs(), SystemTime().monotonic_ns))
    tree = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert tree.stdin
    assert tree.stdout
    tree.stdout.readline()
    tree.stdout.readline()
    readings = sampler.sample([run_of(tree.pid)])
    sampled_us = readings[MeterKey(KEY, ResourceType.CPU, None)].value
    memory_kib = readings[MeterKey(KEY, ResourceType.MEM, None)].value
    (child,) = Machine(ProcFs()).children[tree.pid]
    child_us = child.own_ticks * TICK_US
    os.kill(child.pid, 9)
    tree.stdin.close()
    _, _, usage = os.wait4(tree.pid, 0)
    tree.returncode = 0
    tree.stdout.close()
    used_us = int((usage.ru_utime + usage.ru_stime) * 1e6) + child_us
    assert abs(sampled_us - used_us) <= used_us // 100 + 4 * TICK_US
    assert 2_000 < memory_kib < 40_000


def test_a_root_that_is_listed_later_is_a_part_of_the_run(proc: FakeProc) -> None:
    """A second step of a job: what it has used since it began is the run's, and once only."""
    proc.put(10, 1, own=100)
    tree = Tree([10])
    assert look(tree, proc) == 100
    proc.put(20, 1, own=30)
    proc.put(21, 20, own=7)
    assert look(tree, proc) == 100
    for _ in range(2):
        tree.add([10, 20])
        assert look(tree, proc) == 137
    del proc.table[20]
    proc.put(20, 1, own=5_000, start=99)  # somebody else of that number
    assert look(tree, proc) == 137


def test_a_child_that_becomes_a_root_counts_once(proc: FakeProc) -> None:
    """Its parent ends before it; the run lists it in the parent's place."""
    proc.put(10, 1, own=100)
    proc.put(11, 10, own=50)
    tree = Tree([10])
    assert look(tree, proc) == 150
    del proc.table[10]
    proc.put(11, 1, own=60, start=11)
    tree.add([11])
    assert look(tree, proc) == 160
