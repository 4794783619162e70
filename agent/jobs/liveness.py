"""Whether a run's processes still exist, and whose they are.

A cgroup lives while it holds a process. A listed process lives while its number still
belongs to the process that was meant: one that started after the file was written is
somebody else's. A file that its writer still holds locked (`exec` does) speaks for a run
that lives, whatever its processes look like at this instant.
"""

# Paths as text: a Path costs several times the system call.
# ruff: noqa: PTH116

import fcntl
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress

from agent.cgroups import Hierarchies, members
from agent.jobs.deathwatch import DeathWatch
from agent.jobs.witness import Witnesses
from agent.keptfiles import KeptFiles
from agent.model import Reading, ReadingKind, ResourceType, Run, RunKey
from agent.procfs import TICK_US, ProcFs, number_after

_REMEMBERED = 4096
"""Cgroups of which it is known whose usage they have counted."""
_FRESH_MS = 10_000
"""A run is new for so long; and processes that much older than it were there before it."""
_SLACK_US = 2_000_000
"""A process this much younger than its file may be the one meant: ticks are coarse."""


class Liveness:
    """Looks at the cgroups and processes that runs claim; keeps descriptors for speed."""

    def __init__(
        self,
        hierarchies: Hierarchies,
        procfs: ProcFs,
        boottime_ns: Callable[[], int],
        deaths: DeathWatch | None = None,
    ) -> None:
        """Look below these mounts and this /proc, whose times count from the boot.

        `deaths` hears of what happens between two looks; None = nobody does.
        """
        self._deaths = deaths
        self._boottime_ns = boottime_ns
        self._hierarchies = hierarchies
        self._procfs = procfs
        self._kept = KeptFiles()
        self._witnesses = Witnesses()
        self._where: dict[str, str] = {}  # by cgroup: which file knows it
        self._first: dict[str, int] = {}  # by file: the process that it names first
        self._starts: dict[tuple[str, int], int] = {}
        self._counted: dict[str, tuple[int, RunKey]] = {}  # by cgroup: its inode, and whose it was

    def refresh(self) -> None:
        """Take notice of what has exited since the last look."""
        self._witnesses.refresh()

    def is_alive(self, run: Run, written_us_ago: int) -> bool:
        """Whether any process of the run exists; its file is `written_us_ago` old."""
        if run.cgroup is not None:
            return self._is_populated(run.cgroup)
        same = [self._is_same(run, pid, written_us_ago) for pid in run.pids]  # each is noted
        return any(same)

    def has_counted(self, run: Run, age_ms: int) -> bool | None:
        """Whether what it claims counted before it began, `age_ms` ago; None = it is not there.

        That is so of a cgroup in which an earlier run was metered, and where a new run has
        older processes. Of one that began long ago the counter tells more than it hides.
        """
        if run.cgroup is None:
            return self._has_older(run.pids, age_ms)
        inode = self._inode(run.cgroup)
        if inode is None:
            return None
        before = self._counted.pop(run.cgroup, None)
        self._counted[run.cgroup] = inode, run.key
        if len(self._counted) > _REMEMBERED:
            del self._counted[next(iter(self._counted))]
        if before is not None and before[0] == inode and before[1] != run.key:
            return True
        folders = self._hierarchies.folders(run.cgroup)
        pids = {pid for folder in folders for pid in members(folder)}
        return bool(self._has_older(pids, age_ms))

    def watch(self, run: Run) -> None:
        """Hear from now on when this run, which lives, has no process left."""
        if self._deaths:
            self._deaths.watch(run)

    def died_at_ms(self, run: Run) -> int | None:
        """Agent time when its last process ended; None = nobody heard."""
        return self._deaths.ended_at_ms(run.key) if self._deaths else None

    def strangers(self, run: Run, uid: int) -> str | None:
        """Say what the run claims that is not `uid`'s; None = nothing."""
        if run.cgroup is not None:
            return self._foreign_cgroup(run.cgroup, uid)
        for pid in run.pids:
            owner = self._procfs.owner(pid)
            if owner not in {uid, None}:
                return f"pids: process {pid} is another user's; list only your own"
        return None

    def owned(self, pids: Iterable[int], uid: int) -> tuple[int, ...]:
        """Those of the processes that exist and are `uid`'s."""
        return tuple(pid for pid in pids if self._procfs.owner(pid) == uid)

    def final(self, run: Run) -> Mapping[ResourceType, Reading]:
        """What the cgroup of a run that has died still tells: the CPU time of all of it."""
        cpu_us = None if run.cgroup is None else self._cpu_us(run.cgroup)
        if cpu_us is None:
            return {}
        total = Reading(kind=ReadingKind.COUNTER, value=cpu_us)
        return {ResourceType.CPU: total}

    def forget(self, run: Run) -> None:
        """Let go of what was kept for the run."""
        if self._deaths:
            self._deaths.forget(run.key)
        if run.cgroup is not None:
            self._where.pop(run.cgroup, None)
            for where in self._places(run.cgroup):
                self._kept.forget(where)
                self._dismiss(where)
        for pid in run.pids:
            self._witnesses.forget(pid)
            self._starts.pop((run.key, pid), None)

    def _is_populated(self, cgroup: str) -> bool:
        where = self._where.get(cgroup)
        if where is not None:
            first = self._first.get(where)
            if first is not None and self._witnesses.lives(first):
                return True  # who was in it lives, and hardly ever moves out
            if self._has_process(where):
                return True
        for where in self._places(cgroup):
            if self._has_process(where):
                self._where[cgroup] = where
                return True
        folders = self._hierarchies.folders(cgroup)  # v1 lists no processes of inner cgroups
        return any(self._procfs.is_alive(pid) for folder in folders for pid in members(folder))

    def _cpu_us(self, cgroup: str) -> int | None:
        """The counter that samples are taken from; nothing is kept for one reading."""
        v1, v2 = self._hierarchies.v1.get("cpuacct"), self._hierarchies.v2
        files = KeptFiles(limit=0)
        if v1 and (data := files.read(f"{v1}{cgroup}/cpuacct.usage", 64)):
            return int(data) // 1000
        data = files.read(f"{v2}{cgroup}/cpu.stat", 256) if v2 is not None else None
        return number_after(data, b"usage_usec ") if data else None

    def _places(self, cgroup: str) -> Iterator[str]:
        """The files that say whether the cgroup holds a process, the surest first."""
        if self._hierarchies.v2 is not None:
            yield f"{self._hierarchies.v2}{cgroup}/cgroup.events"
        for mount in self._hierarchies.v1.values():
            yield f"{mount}{cgroup}/cgroup.procs"

    def _has_process(self, where: str) -> bool:
        """v2 says so itself; v1 lists processes, dead ones too until somebody waits for them."""
        data = self._kept.read(where, 64) or b""
        first = data.partition(b"\n")[0]
        if not first.isdigit():
            self._dismiss(where)
            return b"populated 1" in data
        pid = int(first)
        if self._first.get(where) == pid and self._witnesses.lives(pid):
            return True
        self._dismiss(where)
        self._witnesses.hold(pid)
        self._first[where] = pid
        return self._procfs.is_alive(pid)

    def _dismiss(self, where: str) -> None:
        pid = self._first.pop(where, None)
        if pid is not None:
            self._witnesses.forget(pid)

    def _is_same(self, run: Run, pid: int, written_us_ago: int) -> bool:
        """Whether the process that the run meant by this number exists."""
        known = self._starts.get((run.key, pid))
        if known is not None and self._witnesses.lives(pid):
            return True
        self._witnesses.hold(pid)
        process = self._procfs.process(pid)
        if process is None or not process.is_alive or known not in {None, process.start}:
            self._witnesses.forget(pid)
            return False
        age_us = self._boottime_ns() // 1000 - process.start * TICK_US
        if known is None and age_us + _SLACK_US < written_us_ago:
            return False
        self._starts[run.key, pid] = process.start
        return True

    def _has_older(self, pids: Iterable[int], age_ms: int) -> bool | None:
        """Whether a run that has just begun has processes that had not; None = it has none."""
        processes = [process for pid in pids if (process := self._procfs.process(pid))]
        if not processes:
            return None
        first_us = min(process.start for process in processes) * TICK_US
        oldest_ms = (self._boottime_ns() // 1000 - first_us) // 1000
        return age_ms <= _FRESH_MS and oldest_ms - age_ms > _FRESH_MS

    def _inode(self, cgroup: str) -> int | None:
        for folder in self._hierarchies.folders(cgroup):
            with suppress(OSError):
                return os.stat(folder).st_ino
        return None

    def _foreign_cgroup(self, cgroup: str, uid: int) -> str | None:
        for folder in self._hierarchies.folders(cgroup):
            try:
                owner = os.stat(folder).st_uid
            except OSError:
                continue
            if owner != uid:
                return f"cgroup: {cgroup} is another user's; name one that is your own"
        return None


def is_held(path: str) -> bool:
    """Whether the writer of the file still holds it locked; only its owner can lock it."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.lockf(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False
