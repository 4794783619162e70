"""Ties the life of a child process to the thread that starts it, and says how it ended.

Whoever supervises children may itself be killed; then the kernel sends them a signal, so that
nothing is left that nobody would ever stop.
"""

import ctypes
import signal
import subprocess
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def tied(number: signal.Signals) -> Callable[[], None]:
    """What a child does before it becomes the program (`preexec_fn`): ask for `number`.

    It will be sent when the thread that started the child ends: start from the main thread.
    Not by way of setpriv(1), which needs system calls that a hardened service may not make.
    """

    def tie() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)

    return tie


def ending_of(process: subprocess.Popen[bytes] | None) -> str:
    """How a process ended, in words."""
    if process is None or process.returncode is None:
        return "not started"
    if process.returncode < 0:
        return f"killed by {signal.Signals(-process.returncode).name}"
    return f"exit status {process.returncode}"
