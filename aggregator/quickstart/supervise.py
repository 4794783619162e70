"""Keeps child processes running: starts them, hears that they are ready, restarts, stops.

Knows nothing of what the children do. Readiness is sd_notify's `READY=1`, heard on a socket
of each child's own. Must be used from the main thread (see `lifeline`).
"""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from aggregator.errors import NodemeterError
from aggregator.lifeline import ending_of, tied

_FIRST_DELAY_SECONDS = 1.0
_LAST_DELAY_SECONDS = 30.0
_SETTLED_SECONDS = 60.0
_STOP_SECONDS = 30.0
_LOG_BYTES = 16 * 1024 * 1024


@dataclass(slots=True)
class Backoff:
    """How long to wait before the next start; a long life forgives earlier deaths."""

    delay_seconds: float = _FIRST_DELAY_SECONDS

    def after(self, lived_seconds: float) -> float:
        """The delay after a life of that length; doubles with every short one."""
        if lived_seconds >= _SETTLED_SECONDS:
            self.delay_seconds = _FIRST_DELAY_SECONDS
        delay = self.delay_seconds
        self.delay_seconds = min(delay * 2, _LAST_DELAY_SECONDS)
        return delay


class Kept(Protocol):
    """What shall always run: a child, or the database."""

    name: str
    process: subprocess.Popen[bytes] | None

    def is_running(self) -> bool:
        """Whether it runs."""
        ...

    def start(self) -> None:
        """Start it; NodemeterError where that fails."""
        ...

    def explain(self) -> str:
        """Why it ended."""
        ...


@dataclass(slots=True, kw_only=True)
class Keeper:
    """Starts something again when it has ended, each time later."""

    kept: Kept
    backoff: Backoff = field(default_factory=Backoff)
    started_at: float = field(default_factory=time.monotonic)
    due_at: float | None = None

    def check(self, *, now: float) -> str | None:
        """Call often, with the monotonic time. What there is to say: it ended, it was started."""
        if self.kept.is_running():
            return None
        if self.due_at is None:
            delay = self.backoff.after(now - self.started_at)
            self.due_at = now + delay
            return f"the {self.kept.name} ended ({self.kept.explain()}); again in {delay:g} s"
        return self._start_again(now) if now >= self.due_at else None

    def _start_again(self, now: float) -> str:
        self.due_at, self.started_at = None, now
        try:
            self.kept.start()
        except NodemeterError as error:
            return f"the {self.kept.name} could not be started: {error}"
        return f"the {self.kept.name} is started again"


@dataclass(slots=True, kw_only=True)
class Child:
    """One program that shall run, and its present process."""

    name: str
    command: Sequence[str | Path]
    environment: Mapping[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    listener: socket.socket | None = None

    def start(self) -> None:
        """Start the program; what it prints is added to its log."""
        _shorten(self.log)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                env={**self.environment, "NOTIFY_SOCKET": self._notify_address()},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a Ctrl-C is the supervisor's, which stops in order
                preexec_fn=tied(signal.SIGTERM),  # noqa: PLW1509 - one system call, no locks
            )

    def wait_ready(self, seconds: float) -> bool:
        """Whether the program says that it is ready, before it ends and before `seconds` pass."""
        deadline = time.monotonic() + seconds
        while self.is_running() and time.monotonic() < deadline:
            if self._heard_ready():
                return True
        return False

    def is_running(self) -> bool:
        """Whether the process lives."""
        return self.process is not None and self.process.poll() is None

    def stop(self, *, seconds: float = _STOP_SECONDS) -> bool:
        """End the program in good order; whether it did so without being killed."""
        if self.listener is not None:
            self.listener.close()
        if self.process is None:
            return True
        self.process.terminate()
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return False
        return True

    def said(self, lines: int = 20) -> str:
        """The end of the log."""
        text = self.log.read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def explain(self) -> str:
        """How the process ended, and where to read more."""
        return f"{ending_of(self.process)}; its log: {self.log}"

    def _notify_address(self) -> str:
        if self.listener is None:
            self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self.listener.settimeout(0.1)
            self.listener.bind("")  # Linux chooses an abstract address
        return "@" + os.fsdecode(self.listener.getsockname()[1:])

    def _heard_ready(self) -> bool:
        assert self.listener is not None
        try:
            return b"READY=1" in self.listener.recv(4096).split(b"\n")
        except TimeoutError:
            return False


def _shorten(log: Path) -> None:
    """Put a log that has grown aside; one earlier file is kept."""
    if log.exists() and log.stat().st_size > _LOG_BYTES:
        log.replace(log.with_suffix(".log.1"))
