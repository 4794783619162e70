import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aggregator.errors import NodemeterError
from aggregator.quickstart.supervise import Backoff, Child, Keeper

READY = """
import os, socket, sys, time
print("hello", flush=True)
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
    sender.connect(chr(0) + os.environ["NOTIFY_SOCKET"][1:])
    sender.send(b"STATUS=starting")
    sender.send(b"STATUS=up\\nREADY=1")
time.sleep(600)
"""
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + READY

MakeChild = Callable[[str], Child]


@pytest.fixture
def make_child(tmp_path: Path) -> Iterator[MakeChild]:
    """Makes children that run a Python program, and stops what a test leaves running."""
    made: list[Child] = []

    def make(program: str) -> Child:
        command = [sys.executable, "-c", program]
        child = Child(
            name="child", command=command, environment=os.environ, log=tmp_path / "child.log"
        )
        made.append(child)
        return child

    yield make
    for child in made:
        child.stop(seconds=0)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_child_is_ready_when_it_says_so(make_child: MakeChild) -> None:
    """Other messages are not READY=1; the log keeps what it printed."""
    child = make_child(READY)
    child.start()
    assert child.wait_ready(30)
    assert child.is_running()
    assert child.said() == "hello"
    assert child.stop()
    assert not child.is_running()


def test_a_child_that_ends_is_not_ready(make_child: MakeChild) -> None:
    """Waiting stops at once, and the log says why it ended."""
    child = make_child("raise SystemExit('no such luck')")
    child.start()
    assert not child.wait_ready(30)
    assert child.said() == "no such luck"
    assert "exit status 1" in child.explain()
    assert str(child.log) in child.explain()


def test_a_child_that_never_says_so_is_not_ready(make_child: MakeChild) -> None:
    """Patience ends."""
    child = make_child("import time; time.sleep(600)")
    child.start()
    assert not child.wait_ready(0.2)


def test_a_child_that_does_not_obey_is_killed(make_child: MakeChild) -> None:
    """A stop ends, and says that it was not a clean one."""
    child = make_child(STUBBORN)
    child.start()
    assert child.wait_ready(30)
    assert not child.stop(seconds=0.2)
    assert not child.is_running()


def test_a_kill_is_explained_by_its_signal(make_child: MakeChild) -> None:
    """`killed by SIGKILL`, not a number."""
    child = make_child(READY)
    child.start()
    assert child.wait_ready(30)
    assert child.process is not None
    child.process.kill()
    child.process.wait()
    assert "killed by SIGKILL" in child.explain()


def test_a_child_dies_with_its_owner(make_child: MakeChild, tmp_path: Path) -> None:
    """Nothing is left when the supervisor itself is killed."""
    owner_program = f"""
import os, sys, time
from pathlib import Path
from aggregator.quickstart.supervise import Child
child = Child(name="inner", command=["sleep", "600"], environment=os.environ,
              log=Path({str(tmp_path / "inner.log")!r}))
child.start()
print(child.process.pid, flush=True)
time.sleep(600)
"""
    owner = make_child(owner_program)
    owner.start()
    wait_until(lambda: bool(owner.said()))
    inner = int(owner.said())
    assert owner.process is not None
    owner.process.send_signal(signal.SIGKILL)
    owner.process.wait()
    wait_until(lambda: not is_alive(inner))


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_a_log_that_has_grown_is_put_aside(make_child: MakeChild) -> None:
    """One earlier file is kept, so months of restarts fill no disk."""
    child = make_child("print('again')")
    with child.log.open("wb") as log:
        log.truncate(64 * 1024 * 1024)
    child.start()
    wait_until(lambda: not child.is_running())
    assert child.said() == "again"
    assert child.log.with_suffix(".log.1").stat().st_size == 64 * 1024 * 1024


def test_short_lives_wait_longer_each_time_and_a_long_one_forgives() -> None:
    """1, 2, 4 … 30 seconds; after a minute of running it begins anew."""
    backoff = Backoff()
    assert [backoff.after(0.1) for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]
    assert backoff.after(61) == 1


class Thing:
    """Something that runs as its test says."""

    def __init__(self) -> None:
        self.name = "thing"
        self.process: subprocess.Popen[bytes] | None = None
        self.runs = True
        self.starts = 0
        self.fails = False

    def is_running(self) -> bool:
        return self.runs

    def start(self) -> None:
        self.starts += 1
        if self.fails:
            raise NodemeterError("no room")
        self.runs = True

    def explain(self) -> str:
        return "of its own accord"


def test_what_ended_is_reported_at_once_and_started_when_due() -> None:
    """One line for the end, nothing while it waits, one line for the start."""
    thing = Thing()
    keeper = Keeper(kept=thing, started_at=0)
    assert keeper.check(now=100) is None
    thing.runs = False
    assert keeper.check(now=100) == "the thing ended (of its own accord); again in 1 s"
    assert keeper.check(now=100.9) is None
    assert keeper.check(now=101) == "the thing is started again"
    assert (thing.starts, thing.runs) == (1, True)


def test_a_start_that_fails_is_said_and_tried_again_later() -> None:
    """The others keep running meanwhile."""
    thing = Thing()
    thing.runs, thing.fails = False, True
    keeper = Keeper(kept=thing, started_at=0)
    keeper.check(now=0)
    assert keeper.check(now=1) == "the thing could not be started: no room"
    assert keeper.check(now=1) == "the thing ended (of its own accord); again in 2 s"
    thing.fails = False
    assert keeper.check(now=3) == "the thing is started again"
