"""Runs a program of our own package beside the daemon, so that its needs are not the daemon's."""

import subprocess
import sys
import threading
from collections.abc import Sequence

from agent.errors import AgentError

_LOOK_SECONDS = 0.2


def run_program(
    module: str, arguments: Sequence[str], stopping: threading.Event, seconds: float
) -> str:
    """What `python -m module` prints.

    Raises:
        AgentError: it failed, took longer than `seconds`, or we are stopping.
    """
    try:
        child = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
    except OSError as error:
        raise AgentError(f"{module} cannot be started: {error.strerror}") from error
    with child:
        for _ in range(round(seconds / _LOOK_SECONDS)):
            try:
                said, complaint = child.communicate(timeout=_LOOK_SECONDS)
            except subprocess.TimeoutExpired:
                if stopping.is_set():
                    break
                continue
            if child.returncode == 0:
                return said
            last = complaint.strip().rpartition("\n")[2]
            raise AgentError(last or f"{module} ended with status {child.returncode}")
        child.kill()
        child.communicate()
    raise AgentError(f"{module} was stopped: it took too long")
