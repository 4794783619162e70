import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from aggregator.store.embedded import Server
from tests.environments import make_environment

CHECKOUT = Path(__file__).resolve().parents[4]
START_SECONDS = 60.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def free_ports() -> tuple[int, int]:
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as two,
    ):
        return int(one.getsockname()[1]), int(two.getsockname()[1])


def wait_until(what: str, condition: Callable[[], bool], seconds: float = START_SECONDS) -> float:
    """How long it took."""
    started_at = time.monotonic()
    while not condition():
        assert time.monotonic() < started_at + seconds, f"waited in vain for {what}"
        time.sleep(0.05)
    return time.monotonic() - started_at


@dataclass
class MakeRun:
    """`make run` in the background, with ports and a state directory of its own."""

    state: Path
    venv: Path
    http_port: int
    grpc_port: int
    process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("NODEMETER_")}
        self.process = subprocess.Popen(
            ["make", "run", f"VENV={self.venv}"],
            cwd=CHECKOUT,
            env={
                **environment,
                "NODEMETER_HTTP_PORT": str(self.http_port),
                "NODEMETER_GRPC_PORT": str(self.grpc_port),
                "NODEMETER_STATE_DIR": str(self.state),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def is_ready(self) -> bool:
        try:
            url = f"http://127.0.0.1:{self.http_port}/readyz"
            with urllib.request.urlopen(url, timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def pids(self) -> dict[str, int]:
        try:
            found: dict[str, int] = json.loads((self.state / "pids.json").read_text())
        except FileNotFoundError:
            return {}
        return found

    def is_up(self) -> bool:
        """Everything is ready, and said to be so."""
        assert self.process is not None
        assert self.process.poll() is None, self.said()
        return self.is_ready() and self.quickstart_is(self.pids().get("quickstart"))

    def quickstart_is(self, pid: int | None) -> bool:
        if pid is None or self.process is None:
            return False
        status = Path(f"/proc/{pid}/status")
        return status.exists() and f"PPid:\t{self.process.pid}" in status.read_text()

    def made(self) -> dict[str, tuple[int, int]]:
        """What only a first start makes: the environment, and the database's cluster."""
        places = (self.venv / ".run-stamp", self.state / "postgres/data/PG_VERSION")
        return {str(each): (each.stat().st_ino, each.stat().st_mtime_ns) for each in places}

    def interrupt(self) -> str:
        """Ctrl-C, as a terminal sends it; what was printed."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGINT)
        return self.said()

    def said(self) -> str:
        """What was printed until the end."""
        assert self.process is not None
        return self.process.communicate(timeout=90)[0]

    def end(self) -> None:
        if self.process is None:
            return
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
        if self.process.stdout is not None and not self.process.stdout.closed:
            self.said()


@pytest.fixture
def make_run(timescaledb: Server) -> Iterator[MakeRun]:
    """A `make run` that has not started; the database's programs are there already."""
    state = Path(tempfile.mkdtemp(prefix="nodemeter-test-"))
    state.chmod(0o755)
    venv = make_environment(Path(tempfile.mkdtemp(prefix="nodemeter-venv-")))
    http_port, grpc_port = free_ports()
    run = MakeRun(state, venv, http_port, grpc_port)
    yield run
    run.end()
    shutil.rmtree(state)
    shutil.rmtree(venv)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_it_comes_up_says_how_to_use_it_and_ctrl_c_stops_all_of_it(make_run: MakeRun) -> None:
    """Once up it is ready; then no process is left, and the next start makes nothing anew."""
    make_run.start()
    wait_until("readiness", make_run.is_up)
    first = make_run.pids()
    assert set(first) == {"quickstart", "database", "aggregator", "agent"}
    said = make_run.interrupt()
    for words in (
        "nodemeter is up",
        "exec --name",
        "ratios set",
        str(make_run.http_port),
        "stopped",
    ):
        assert words in said
    assert not [name for name, pid in first.items() if is_alive(pid)]

    made = make_run.made()
    make_run.start()
    wait_until("readiness", make_run.is_up)
    assert make_run.made() == made
    assert "Traceback" not in make_run.interrupt()


@pytest.mark.parametrize("victim", ["agent", "aggregator", "database"])
def test_what_is_killed_comes_back(make_run: MakeRun, victim: str) -> None:
    """A kill -9 of any part: it is reported and started again, and the rest goes on."""
    make_run.start()
    wait_until("readiness", make_run.is_up)
    before = make_run.pids()
    os.kill(before[victim], signal.SIGKILL)
    wait_until("another process", lambda: make_run.pids()[victim] != before[victim])
    wait_until("readiness", make_run.is_ready)
    after = make_run.pids()
    others = set(before) - {victim}
    if victim == "database":
        assert after["quickstart"] == before["quickstart"]
    else:
        assert {name: after[name] for name in others} == {name: before[name] for name in others}
    said = make_run.interrupt()
    assert f"the {victim} ended" in said
    assert f"the {victim} is started again" in said


def test_a_killed_run_leaves_nothing_and_the_next_one_takes_over(make_run: MakeRun) -> None:
    """A kill -9 of the supervisor itself: its children end, and the same data comes up again."""
    make_run.start()
    wait_until("readiness", make_run.is_up)
    before = make_run.pids()
    os.kill(before["quickstart"], signal.SIGKILL)
    make_run.said()
    wait_until("their end", lambda: not any(map(is_alive, before.values())))
    make_run.start()
    wait_until("readiness", make_run.is_up)


def test_a_taken_port_is_said_before_anything_starts(make_run: MakeRun) -> None:
    """Which port, and how to choose another; no database was made, the status is not 0."""
    with socket.create_server(("127.0.0.1", make_run.http_port)):
        make_run.start()
        said = make_run.said()
    assert make_run.process is not None
    assert make_run.process.returncode != 0
    assert f"port {make_run.http_port} on 127.0.0.1 (HTTP) is taken" in said
    assert "make run NODEMETER_HTTP_PORT=" in said
    assert not (make_run.state / "postgres").exists()


def test_a_second_run_on_the_same_state_is_refused(make_run: MakeRun) -> None:
    """Other ports do not make it another installation."""
    make_run.start()
    wait_until("readiness", make_run.is_up)
    other = MakeRun(make_run.state, make_run.venv, *free_ports())
    other.start()
    said = other.said()
    assert other.process is not None
    assert other.process.returncode != 0
    assert "in use by process" in said
    assert make_run.is_ready()


def test_a_run_whose_state_was_removed_ends_and_the_next_one_goes_on(make_run: MakeRun) -> None:
    """`rm -rf` of the state directory: it says so, where it would start for ever in vain."""
    make_run.start()
    wait_until("readiness", make_run.is_up)
    shutil.rmtree(make_run.state, ignore_errors=True)
    other = MakeRun(make_run.state, make_run.venv, *free_ports())
    other.start()
    try:
        said = make_run.said()
        assert make_run.process is not None
        assert make_run.process.returncode != 0
        assert f"{make_run.state} was removed or replaced" in said
        assert "Traceback" not in said
        wait_until("readiness", other.is_up)
        assert "ended" not in other.interrupt()
    finally:
        other.end()
