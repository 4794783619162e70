"""Finds processes whose environment names a job; reads each process once.

What costs is opening files: 20 us for the state of a process, against 0.7 us for its entry
in the list of all. An entry's inode is another one for another process of the same number,
so who is known is recognised by the list alone. The environment is read when a process is
a second old: a launcher has set it up and started its program by then, and who ends before
is never read. A variable that is set later is not seen by anybody (`/proc` shows what a
program was started with).
"""

# Paths as text: a Path costs several times the system call.

import os
from collections.abc import Collection, Mapping, Sequence

from agent.errors import ProviderError
from agent.jobs.process.groups import Member
from agent.jobs.terms import bill_text
from agent.jobs.witness import Witnesses
from agent.procfs import TICK_US, Process, ProcFs

READ_AFTER_MS = 1_000
_KERNEL_THREADS = 2  # the parent of all of them


class Scan:
    """Knows all processes, and keeps those of jobs."""

    def __init__(
        self, root: str, job_id_from: Sequence[str], wanted: Collection[str], *, is_live: bool
    ) -> None:
        """Look below `root`; keep the variables `wanted`. Only live ones can be held."""
        self._root = root
        self._procfs = ProcFs(root)
        self._job_id_from = job_id_from
        self._wanted = frozenset(wanted)
        self._witnesses = Witnesses() if is_live else None
        self._listed: dict[str, int] = {}  # inode by number
        self._starts: dict[int, int] = {}  # of everybody whose state was read
        self.parents: dict[int, int] = {}  # likewise, as they were then
        self._young: dict[int, Process] = {}  # not old enough to be read
        self._members: dict[int, Member] = {}

    def look(self, uptime_ms: int) -> Mapping[int, Member]:
        """Every process that lives and names a job, by number.

        Raises:
            ProviderError: the processes cannot be listed.
        """
        listed = self._list()
        if listed != self._listed:
            self._compare(listed)
        self._read_grown(uptime_ms)
        if self._witnesses is not None:
            self._witnesses.refresh()
        for member in [each for each in self._members.values() if not self._is_alive(each)]:
            self._drop(member)
        return self._members

    def _list(self) -> dict[str, int]:
        try:
            with os.scandir(self._root) as entries:
                return {entry.name: entry.inode() for entry in entries if entry.name.isdecimal()}
        except OSError as error:
            raise ProviderError(
                f"the processes in {self._root} cannot be listed: {error.strerror}"
            ) from error

    def _compare(self, listed: dict[str, int]) -> None:
        """Forget who is gone, and meet who is new; whose state cannot be read, again next time."""
        for name in self._listed.keys() - listed.keys():
            self._forget(int(name))
        fresh = [name for name, inode in listed.items() if self._listed.get(name) != inode]
        for name in fresh:
            if not self._meet(int(name)):
                del listed[name]
        self._listed = listed

    def _meet(self, pid: int) -> bool:
        """Read the state of a process that is new, or whose entry is; False = it has none."""
        process = self._procfs.process(pid)
        if process is None or self._starts.get(pid) != process.start:
            self._forget(pid)
        if process is None or pid in self._starts:
            return process is not None
        self._starts[pid] = process.start
        self.parents[pid] = process.parent
        if process.is_alive and _KERNEL_THREADS not in {pid, process.parent}:
            self._young[pid] = process
        return True

    def _read_grown(self, uptime_ms: int) -> None:
        grown_ticks = (uptime_ms - READ_AFTER_MS) * 1000 // TICK_US
        for process in [each for each in self._young.values() if each.start <= grown_ticks]:
            del self._young[process.pid]
            member = self._read(process)
            if member is not None:
                self._members[process.pid] = member
                self._hold(member)

    def _hold(self, member: Member) -> None:
        """Hold it, and see that it is still the one whose environment was read."""
        if self._witnesses is not None:
            self._witnesses.hold(member.pid)
        process = self._procfs.process(member.pid)
        if process is None or process.start != member.start:
            self._drop(member)

    def _read(self, process: Process) -> Member | None:
        environ = self._procfs.environ(process.pid) or {}
        job_id = bill_text(next(filter(None, map(environ.get, self._job_id_from)), ""))
        uid = self._procfs.owner(process.pid) if job_id else None
        if uid is None:
            return None
        return Member(
            pid=process.pid,
            start=process.start,
            parent=process.parent,
            uid=uid,
            job_id=job_id,
            words={name: text for name, text in environ.items() if name in self._wanted},
        )

    def _is_alive(self, member: Member) -> bool:
        if self._witnesses is not None and self._witnesses.lives(member.pid):
            return True
        process = self._procfs.process(member.pid)
        return process is not None and process.is_alive and process.start == member.start

    def _forget(self, pid: int) -> None:
        self._starts.pop(pid, None)
        self.parents.pop(pid, None)
        self._young.pop(pid, None)
        if pid in self._members:
            self._drop(self._members[pid])

    def _drop(self, member: Member) -> None:
        del self._members[member.pid]
        if self._witnesses is not None:
            self._witnesses.forget(member.pid)
