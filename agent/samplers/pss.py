"""How much memory processes hold together, shared pages counted once.

/proc/PID/smaps_rollup has the exact figure (PSS) and walks the page tables for it: 18 ms
for each resident GiB were measured, with the process's memory map locked meanwhile. The
resident size costs nothing but counts shared pages again in each process. So PSS is read
as often as 0.1 % of the time pays for, and in between the last one follows the resident
size in proportion.
"""

from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

from agent.procfs import Process, ProcFs

_PAUSE = 1_000
"""A reading is followed by a pause so many times as long as it took."""


class _Known(NamedTuple):
    start: int
    rss_kib: int
    pss_kib: int
    due_ns: int


class PssReader:
    """Remembers what it last read of each process, by number."""

    def __init__(self, procfs: ProcFs, monotonic_ns: Callable[[], int]) -> None:
        """Read below `procfs`, and time it by `monotonic_ns`."""
        self._procfs = procfs
        self._now_ns = monotonic_ns
        self._known: dict[int, _Known] = {}

    def total_kib(self, processes: Iterable[Process]) -> int:
        """The memory of these processes, each page once as far as can be seen."""
        return sum(self._one(process) for process in processes if process.rss_kib)

    def forget_all_but(self, pids: Collection[int]) -> None:
        """Let go of the processes that no longer exist."""
        for pid in self._known.keys() - set(pids):
            del self._known[pid]

    def _one(self, process: Process) -> int:
        known = self._known.get(process.pid)
        if known is None or known.start != process.start or self._now_ns() >= known.due_ns:
            known = self._read(process)
        if not known.rss_kib:
            return process.rss_kib
        return process.rss_kib * known.pss_kib // known.rss_kib

    def _read(self, process: Process) -> _Known:
        """Read PSS; where that is not allowed, the resident size takes its place."""
        begun_ns = self._now_ns()
        pss_kib = self._procfs.pss_kib(process.pid)
        ended_ns = self._now_ns()
        value = process.rss_kib if pss_kib is None else pss_kib
        due_ns = ended_ns + (ended_ns - begun_ns) * _PAUSE
        known = _Known(process.start, process.rss_kib, value, due_ns)
        self._known[process.pid] = known
        return known
