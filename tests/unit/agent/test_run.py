"""`nodemeter-agent run` as a process: ready, metering, and gone when it is asked to."""

import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.unit.agent.conftest import wait_until

ROOT = Path(__file__).parents[3]
AGENT = [sys.executable, "-m", "agent"]


class Agent:
    """An agent with folders of its own, and nobody at its target."""

    command: Sequence[str] = AGENT

    def __init__(self, directory: Path) -> None:
        self.jobs = directory / "run" / "jobs.d"
        self.state = directory / "state"
        self.log = directory / "log"
        self.notify_socket = directory / "notify"
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.listener.bind(str(self.notify_socket))
        self.listener.settimeout(30)
        self.process: subprocess.Popen[bytes] | None = None

    def environ(self) -> dict[str, str]:
        others = {k: v for k, v in os.environ.items() if not k.startswith("NODEMETER_")}
        return others | {
            "NODEMETER_AGENT_CONFIG": "/dev/null",
            "NODEMETER_AGENT_STATE_DIR": str(self.state),
            "NODEMETER_JOBS_DIR": str(self.jobs),
            "NODEMETER_UPLINK_TARGET": "127.0.0.1:9",
            "NOTIFY_SOCKET": str(self.notify_socket),
        }

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.command, "run"], cwd=ROOT, env=self.environ(), stderr=log
            )
        assert self.heard(b"READY=1")

    def heard(self, message: bytes) -> bool:
        """Wait for a message to the service manager."""
        while self.listener.recv(1000) != message:
            pass
        return True

    def exec(self, *command: str) -> int:
        words = [*AGENT, "exec", "--name", "t", "--", *command]
        return subprocess.run(words, cwd=ROOT, env=self.environ(), check=False).returncode

    def stop(self, number: int) -> int:
        assert self.process
        self.process.send_signal(number)
        return self.process.wait(timeout=30)


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    made = Agent(tmp_path)
    yield made
    if made.process and made.process.poll() is None:
        made.stop(signal.SIGKILL)
    made.listener.close()


def test_it_says_that_it_is_ready_and_that_it_stops(agent: Agent) -> None:
    """The service manager hears all of it; SIGTERM is an orderly end."""
    agent.start()
    assert agent.heard(b"WATCHDOG=1")
    assert agent.stop(signal.SIGTERM) == 0
    assert agent.heard(b"STOPPING=1")
    assert "Traceback" not in agent.log.read_text()


def test_it_makes_the_jobs_directory_for_everybody(agent: Agent) -> None:
    """As root anybody may hand in jobs; a plain user's is his own."""
    agent.start()
    mode = stat.S_IMODE(agent.jobs.stat().st_mode)
    assert mode == 0o1777 if os.geteuid() == 0 else not mode & 0o022


def test_a_job_s_file_goes_once_its_end_is_durable(agent: Agent) -> None:
    """An event wakes the agent: long before the next sample the file is settled."""
    agent.start()
    assert agent.exec("true") == 0
    wait_until(lambda: not list(agent.jobs.glob("*.json")), seconds=8)
    assert list((agent.state / "spool").glob("*.seg"))


def test_a_job_that_ran_while_no_agent_did_is_taken_up(agent: Agent) -> None:
    """The file waits for the next agent."""
    agent.start()
    agent.stop(signal.SIGKILL)
    assert agent.exec("sh", "-c", "exit 4") == 4
    assert len(list(agent.jobs.glob("*.json"))) == 1
    agent.start()
    wait_until(lambda: not list(agent.jobs.glob("*.json")))


def test_two_agents_do_not_share_a_spool(agent: Agent) -> None:
    """The second one says so and ends with status 1."""
    agent.start()
    done = subprocess.run(
        [*AGENT, "run"],
        cwd=ROOT,
        env=agent.environ(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "another agent works on the spool" in done.stderr


def test_a_directory_that_cannot_be_made_is_a_sentence(agent: Agent) -> None:
    """It says which, why and what to do."""
    environ = agent.environ() | {"NODEMETER_JOBS_DIR": "/proc/none"}
    done = subprocess.run(
        [*AGENT, "run"], cwd=ROOT, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("nodemeter-agent: the jobs directory /proc/none cannot be made")


def test_a_target_off_this_host_is_refused_when_checked() -> None:
    """A configuration with which the agent would not start is not valid."""
    environ = os.environ | {"NODEMETER_UPLINK_TARGET": "192.0.2.1:50051"}
    command = [*AGENT, "--config", "/dev/null", "check-config"]
    done = subprocess.run(
        command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "plain text is spoken on loopback only" in done.stderr
