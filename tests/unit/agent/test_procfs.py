"""Reading /proc: whatever a process calls itself, and whoever it is."""

import os
import subprocess

import pytest

from agent.procfs import ProcFs, parse_stat

PROC = ProcFs()


def test_this_process_is_itself() -> None:
    """Number, parent, owner and life as the operating system says them."""
    process = PROC.process(os.getpid())
    assert process is not None
    assert process.pid == os.getpid()
    assert process.parent == os.getppid()
    assert process.is_alive
    assert process.rss_kib > 1000
    assert PROC.owner(os.getpid()) == os.getuid()
    assert os.getpid() in set(PROC.pids())


@pytest.mark.parametrize("name", ["a b", ") S 1", "((", "x)y"])
def test_a_name_cannot_pretend_to_be_fields(name: str) -> None:
    """Only the last parenthesis ends the name."""
    line = f"42 ({name}) S 7 42 42 0 -1 0 1 2 3 4 10 20 30 40 20 0 1 0 555 1000 25 0"
    process = parse_stat(line.encode())
    assert process is not None
    assert (process.pid, process.parent, process.start) == (42, 7, 555)
    assert (process.own_ticks, process.child_ticks) == (30, 70)


def test_a_cut_line_is_no_process() -> None:
    """Nothing is guessed from half a line."""
    assert parse_stat(b"42 (a) S 7") is None


def test_a_zombie_is_not_alive() -> None:
    """It keeps its number until its parent looks."""
    with subprocess.Popen(["true"]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        process = PROC.process(child.pid)
        assert process is not None
        assert not process.is_alive
        assert not PROC.is_alive(child.pid)
    assert PROC.is_alive(os.getpid())


def test_what_does_not_exist_is_none() -> None:
    """A process can be gone at any moment."""
    gone = 4_194_304
    assert PROC.process(gone) is None
    assert not PROC.is_alive(gone)
    assert PROC.owner(gone) is None
    assert PROC.pss_kib(gone) is None


def test_pss_counts_shared_memory_once() -> None:
    """It is at most the resident size."""
    process = PROC.process(os.getpid())
    pss_kib = PROC.pss_kib(os.getpid())
    assert process is not None
    assert pss_kib is not None
    assert 0 < pss_kib <= process.rss_kib * 1.05
