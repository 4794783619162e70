"""One run of a command as a metered job: start, wait, end.

The parent of the command for its whole life, so the job lasts from fork to wait.
"""

from __future__ import annotations

import os
import signal
import sys
import time

from agent.errors import LaunchError
from agent.launch.child import Child, Signals
from agent.launch.group import JobGroup
from agent.launch.record import Record

TYPE_CHECKING = False  # importing it from `typing` would cost 3 ms
if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.launch.record import Values


class Job:
    """A command, its record, and its cgroup if it has one."""

    def __init__(
        self, job_id: str, record: Record, group: JobGroup | None, *, needs_group: bool
    ) -> None:
        """Take what was prepared; nothing runs yet."""
        self._job_id = job_id
        self._record = record
        self._group = group
        self._needs_group = needs_group
        self._started_ns = 0
        self._booted_ns = 0

    def run(self, program: str, command: list[str], environ: Mapping[str, str]) -> int:
        """Run the command to its end; returns what a shell would call its status.

        Raises:
            LaunchError: it was not started.
        """
        signals = Signals()
        self._started_ns = time.clock_gettime_ns(time.CLOCK_REALTIME)
        self._booted_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        child = Child(program, command, environ, signals, self._group)
        try:
            self._settle(child.refusal)
            self._record.open(self._life(child.pid))
        except LaunchError:
            child.abandon()
            self._remove_group()
            raise
        try:
            child.go()
            return _wait(child.pid, signals.all)
        finally:
            self._finish(child.pid)

    def _settle(self, refusal: str | None) -> None:
        """Where the child could not enter the cgroup, take its orphans over instead."""
        if self._group is not None and refusal is None:
            return
        self._remove_group()
        self._group = None
        if self._needs_group:
            raise LaunchError(
                f"--enforce is impossible: the job may not enter its cgroup ({refusal}); leave "
                "--enforce out"
            )
        from agent.launch.tree import adopt_orphans  # noqa: PLC0415  ctypes costs 3 ms

        adopt_orphans()

    def _finish(self, pid: int) -> None:
        """Take the time, end what is left, write the end, and only then clear away."""
        elapsed_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - self._booted_ns
        cpu_usec = self._end_leftovers()
        ended_at = show_time(self._started_ns + elapsed_ns)
        more: Values = {**self._life(pid), "ended_at": ended_at}
        if cpu_usec is not None:
            more = {**more, "cpu_usec": cpu_usec}
        reason = self._record.close(more)
        if reason is not None:
            complain(
                f"the end of job {self._job_id} could not be written to {self._record.path} "
                f"({reason}): it ended at {ended_at} and used {cpu_usec} us of CPU; "
                "it will be billed until the agent last saw it"
            )
        self._remove_group()

    def _end_leftovers(self) -> int | None:
        """Kill what the command left running; returns the CPU time of all of it."""
        if self._group is not None:
            self._group.kill()
            return self._group.cpu_usec()
        from agent.launch.tree import cpu_usec, kill_tree  # noqa: PLC0415  imported already

        if not kill_tree():
            complain(f"job {self._job_id} left processes of another user, which go on unmetered")
        return cpu_usec()

    def _life(self, pid: int) -> Values:
        """What the record says while the job lives."""
        started_at = show_time(self._started_ns)
        if self._group is not None:
            return {"started_at": started_at, "cgroup": self._group.path}
        return {"started_at": started_at, "pids": [pid]}

    def _remove_group(self) -> None:
        if self._group is not None:
            self._group.remove()


def show_time(wall_ns: int) -> str:
    """Write an instant as jobs.d wants it, to the millisecond."""
    seconds, rest_ns = divmod(wall_ns, 1_000_000_000)
    clock = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{clock}.{rest_ns // 1_000_000:03}Z"


def complain(sentence: str) -> None:
    """Tell the caller on stderr; a closed one cannot be told."""
    stderr = sys.__stderr__
    if stderr is None:
        return
    try:
        stderr.write(f"nodemeter-agent exec: {sentence}\n")
        stderr.flush()
    except OSError:
        return


def _wait(pid: int, awaited: set[signal.Signals]) -> int:
    """Pass signals on until the command has ended.

    What the terminal sends (Ctrl-C, Ctrl-Z, its end) reaches the command directly, which is
    in the same process group; only what processes send to us alone is passed on.
    """
    while True:
        info = signal.sigwaitinfo(awaited)
        is_sent_by_process = info.si_code <= 0  # SI_USER and its kin; the kernel's are positive
        if info.si_signo == signal.SIGCHLD:
            status = _reap(pid)
            if status is not None:
                return status
        elif is_sent_by_process:
            os.kill(pid, info.si_signo)
        if info.si_signo == signal.SIGTSTP:
            os.kill(os.getpid(), signal.SIGSTOP)  # until somebody sends SIGCONT


def _reap(pid: int) -> int | None:
    """Wait for everything that is dead, orphans included; the command's status, if it is."""
    status: int | None = None
    while True:
        try:
            dead, raw = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return status
        if not dead:
            return status
        if dead == pid:
            code = os.waitstatus_to_exitcode(raw)
            status = code if code >= 0 else 128 - code
