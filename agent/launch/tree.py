"""The job's processes where no cgroup can be made: everything below `exec` itself.

`exec` adopts the orphans of its command, so that their CPU time is in its own child time
when they have ended, and so that it can end them.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import time

_PR_SET_CHILD_SUBREAPER = 36
_PATIENCE_SECONDS = 5.0


def adopt_orphans() -> None:
    """Become the parent of every process below whose own parent ends (prctl(2))."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def kill_tree() -> bool:
    """Kill every process below and wait for each; orphans become ours in turn.

    Returns:
        Whether none is left; another user's cannot be killed.
    """
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while _has_children():
        if time.monotonic() > deadline:
            return False
        for pid in _descendants(os.getpid()):
            try:
                os.kill(pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                continue
        time.sleep(0.002)
    return True


def cpu_usec() -> int:
    """What every process that was waited for has used, with those it had waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return round((usage.ru_utime + usage.ru_stime) * 1e6)


def _has_children() -> bool:
    """Reap what is dead; say whether anything else is left."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def _descendants(root: int) -> list[int]:
    from agent.procfs import ProcFs  # noqa: PLC0415  needed only where something is left

    procfs = ProcFs()
    below = {root}
    for pid in procfs.pids():
        process = procfs.process(pid)
        if process and process.parent in below:
            below.add(pid)
    return [*(below - {root})]
