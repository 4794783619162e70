"""The product as a person runs it: real processes, driven only through its contract.

`Product` is `make run` with ports and a state directory of its own. `Services` are the
two daemons started one by one against a database, so that a test can kill either and
choose when it comes back. Both are driven by the commands and by HTTP alone.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter

CHECKOUT = Path(__file__).resolve().parents[2]
BIN = Path(sys.prefix) / "bin"
BURNER = Path(__file__).with_name("burner.py")

TICK_SECONDS = 0.011
"""A job knows its own age no better: the kernel notes its fork in hundredths of a second."""

Found = TypeVar("Found")
Item = dict[str, object]
ITEMS = TypeAdapter(list[Item])


def free_port() -> int:
    """A loopback port that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(what: str, probe: Callable[[], Found | None], *, seconds: float) -> Found:
    """Poll `probe` until it gives something true, or fail naming what was awaited."""
    deadline = time.monotonic() + seconds
    while True:
        found = probe()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:g} s in vain for {what}")
        time.sleep(0.1)


@dataclass(kw_only=True)
class Job:
    """A metered job that a test started, and what it said of itself at its end."""

    name: str
    process: subprocess.Popen[str]
    started: float = field(default_factory=time.monotonic)
    wall_seconds: float = 0.0
    said: dict[str, float] = field(default_factory=dict)

    def wait(self, seconds: float) -> "Job":
        out, err = self.process.communicate(timeout=seconds)
        self.wall_seconds = time.monotonic() - self.started
        assert self.process.returncode == 0, f"{self.name}: {err}"
        self.said = json.loads(out.splitlines()[-1]) if out.strip() else {}
        return self


@dataclass(kw_only=True)
class Client:
    """What a user of a running system has: the base URL, the commands, the environment."""

    http_port: int
    grpc_port: int
    env: dict[str, str]

    @property
    def bin(self) -> Path:
        """Where the commands are."""
        return BIN

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    def get(self, path: str, **query: str) -> tuple[int, Mapping[str, str], object]:
        full = f"{self.url}{path}" + (f"?{urllib.parse.urlencode(query)}" if query else "")
        try:
            with urllib.request.urlopen(full, timeout=10) as answer:
                return answer.status, dict(answer.headers), json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as refused:
            return refused.code, dict(refused.headers), refused.read().decode()

    def get_text(self, path: str) -> str:
        with urllib.request.urlopen(f"{self.url}{path}", timeout=10) as answer:
            return str(answer.read().decode())

    def items(self, kind: str, job: str, **query: str) -> list[Item]:
        """The Bills or Usages items of a job name, oldest first."""
        status, _, body = self.get(f"/api/{kind}", **query)
        assert status == 200, body
        found = [item for item in ITEMS.validate_python(body) if item["jobName"] == job]
        return sorted(found, key=lambda item: str(item["startTime"]))

    def is_ready(self) -> bool:
        try:
            return self.get("/readyz")[0] == 200
        except OSError:
            return False

    def cli(self, *words: str) -> str:
        command = [str(self.bin / "nodemeter"), "--url", self.url, *words]
        done = subprocess.run(
            command, env=self.env, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def cli_json(self, *words: str) -> list[Item]:
        return ITEMS.validate_json(self.cli("--output", "json", *words))

    def launch(self, name: str, *flags: str, command: list[str]) -> Job:
        """Start `nodemeter-agent exec --name NAME FLAGS -- COMMAND`."""
        words = [str(self.bin / "nodemeter-agent"), "exec", "--name", name, *flags, "--", *command]
        process = subprocess.Popen(
            words, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        return Job(name=name, process=process)

    def burn(
        self,
        name: str,
        *flags: str,
        seconds: float,
        mebibytes: int = 0,
        told: Path | None = None,
    ) -> Job:
        """A job that burns for so long, or until there is `told`."""
        command = ["/usr/bin/python3", str(BURNER), str(seconds), str(mebibytes)]
        return self.launch(name, *flags, command=[*command, *([str(told)] if told else [])])


@dataclass(kw_only=True)
class Product(Client):
    """`make run`, as somebody at a terminal has it."""

    state_dir: Path
    venv: Path
    process: subprocess.Popen[bytes] | None = None
    log: str = ""

    @property
    def bin(self) -> Path:
        """The commands of its environment, which find it by themselves."""
        return self.venv / "bin"

    def start(self) -> None:
        with (self.state_dir / "make-run.log").open("ab") as output:
            self.process = subprocess.Popen(
                ["make", "run", f"VENV={self.venv}"],
                cwd=CHECKOUT,
                env=self.env,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a group of its own, which Ctrl-C goes to
            )

    def wait_until_ready(self, *, seconds: float) -> None:
        def is_ready() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, self.read_log()
            return self.is_ready() and (self.state_dir / "pids.json").exists()

        until("make run to be up", is_ready, seconds=seconds)

    def read_log(self) -> str:
        return (self.state_dir / "make-run.log").read_text()

    def pid(self, who: str) -> int:
        """The process of `agent`, `aggregator`, `database` or `quickstart`."""
        return int(json.loads((self.state_dir / "pids.json").read_text())[who])

    def kill(self, who: str) -> int:
        """Kill -9; returns the pid that is gone."""
        pid = self.pid(who)
        os.kill(pid, signal.SIGKILL)
        return pid

    @contextmanager
    def without(self, who: str) -> Generator[None]:
        """Kill one and keep `make run` from bringing it back until the end of the block."""
        keeper = self.pid("quickstart")
        os.kill(keeper, signal.SIGSTOP)
        try:
            self.kill(who)
            yield
        finally:
            os.kill(keeper, signal.SIGCONT)

    def stop(self, *, seconds: float = 60) -> int:
        """Ctrl-C; returns the exit status of make."""
        assert self.process is not None
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGINT)
        code = self.process.wait(timeout=seconds)
        self.log = self.read_log()
        return code


def clean_environment() -> dict[str, str]:
    """This process's environment without settings of another running nodemeter."""
    return {key: value for key, value in os.environ.items() if not key.startswith("NODEMETER_")}
