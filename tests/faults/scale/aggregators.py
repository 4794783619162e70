"""An aggregator process that a test kills and starts again, and what it costs."""

import os
import signal
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.acceptance.product import BIN, Client, clean_environment, free_port, until


@dataclass(kw_only=True)
class Aggregator(Client):
    """The process at two ports that stay the same from start to start."""

    log: Path
    process: subprocess.Popen[bytes] | None = field(default=None)

    def start(self) -> None:
        """Begin; `wait_until_ready` tells when it serves."""
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [str(BIN / "nodemeter-aggregator"), "serve"],
                env=self.env,
                stdout=output,
                stderr=output,
            )

    def wait_until_ready(self) -> None:
        """Wait for its health, and notice if it ends."""

        def is_ready() -> bool:
            assert self.running.poll() is None, self.log.read_text()
            return self.is_ready()

        until(f"the aggregator, see {self.log}", is_ready, seconds=120)

    @property
    def running(self) -> "subprocess.Popen[bytes]":
        assert self.process is not None
        return self.process

    def kill(self) -> None:
        """End it as a power cut would."""
        self.running.kill()
        self.running.wait()

    def stop(self) -> int:
        """End it in good order; its exit status."""
        if self.running.poll() is None:
            self.running.send_signal(signal.SIGTERM)
        return self.running.wait(timeout=120)

    def peak_mib(self) -> float:
        """The most memory that was ever resident."""
        return _status_mib(self.running.pid, "VmHWM")

    def resident_mib(self) -> float:
        """The memory that is resident now."""
        return _status_mib(self.running.pid, "VmRSS")

    def descriptors(self) -> int:
        """How many it holds open now."""
        return sum(1 for _ in Path(f"/proc/{self.running.pid}/fd").iterdir())

    def metric(self, name: str) -> float:
        """The value of one of its metrics that has no labels."""
        for line in self.get_text("/metrics").splitlines():
            word, _, value = line.partition(" ")
            if word == f"nodemeter_aggregator_{name}":
                return float(value)
        raise AssertionError(f"no metric {name}")

    def logged(self, action: str) -> list[str]:
        """The lines of its log of one kind."""
        lines = self.log.read_text(errors="replace").splitlines()
        return [line for line in lines if f" action={action} " in f"{line} "]


def aggregator_on(database_url: str, log: Path, **settings: str) -> Aggregator:
    """One that is not started yet; `settings` by the names of their variables, lower case."""
    http_port, grpc_port = free_port(), free_port()
    env = clean_environment() | {
        "NODEMETER_DATABASE_URL": database_url,
        "NODEMETER_HTTP_PORT": str(http_port),
        "NODEMETER_GRPC_PORT": str(grpc_port),
        "NODEMETER_AGGREGATOR_CONFIG": os.devnull,
        **{f"NODEMETER_{name.upper()}": value for name, value in settings.items()},
    }
    return Aggregator(http_port=http_port, grpc_port=grpc_port, env=env, log=log)


@contextmanager
def running_on(database_url: str, log: Path, **settings: str) -> Generator[Aggregator]:
    """One that serves, and is stopped at the end."""
    aggregator = aggregator_on(database_url, log, **settings)
    aggregator.start()
    try:
        aggregator.wait_until_ready()
        yield aggregator
    finally:
        aggregator.stop()


def _status_mib(pid: int, name: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise AssertionError(name)
