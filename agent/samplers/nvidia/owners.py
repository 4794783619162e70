"""Whose a process on a GPU is: the run whose cgroup it is in, or whose process tree.

NVML's numbers are those of the host, and so are ours. A process that has ended is still
known for a while: what it used is told only afterwards.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from agent.model import Run, RunKey
from agent.procfs import ProcFs

_MAX_DEPTH = 64
_MAX_KNOWN = 4096
_MPS_SERVER = "nvidia-cuda-mps"  # as far as the kernel keeps the name


class _Known(NamedTuple):
    start: int
    run: RunKey


class Owners:
    """Finds the runs of processes, for one look after the other."""

    def __init__(self, procfs: ProcFs, proc: str = "/proc") -> None:
        """Look below `procfs`, whose root is `proc`."""
        self._procfs = procfs
        self._proc = proc
        self._known: dict[int, _Known] = {}

    def find(self, pids: Sequence[int], runs: Sequence[Run]) -> Mapping[int, RunKey]:
        """The run of each process that is one's; strangers are left out."""
        by_cgroup = {run.cgroup: run.key for run in runs if run.cgroup and run.cgroup != "/"}
        by_root = {pid: run.key for run in runs for pid in run.pids}
        keys = {run.key for run in runs}
        found: dict[int, RunKey] = {}
        for pid in pids:
            owner = self._find(pid, by_cgroup, by_root)
            if owner is not None and owner in keys:
                found[pid] = owner
        while len(self._known) > _MAX_KNOWN:
            del self._known[next(iter(self._known))]
        return found

    def is_mps_server(self, pid: int) -> bool:
        """Whether it works for others: then what it used says nothing of whose it was."""
        try:
            return (
                Path(f"{self._proc}/{pid}/comm").read_text(errors="replace").strip() == _MPS_SERVER
            )
        except OSError:
            return False

    def exists(self, pid: int) -> bool:
        """Whether there is such a process."""
        return Path(f"{self._proc}/{pid}").exists()

    def _find(
        self, pid: int, by_cgroup: Mapping[str, RunKey], by_root: Mapping[int, RunKey]
    ) -> RunKey | None:
        known = self._known.pop(pid, None)
        process = self._procfs.process(pid)
        if process is None or (known is not None and known.start == process.start):
            owner, start = (known.run, known.start) if known else (None, 0)
        else:
            start = process.start
            owner = self._by_cgroup(pid, by_cgroup) or self._by_tree(pid, by_root)
        if owner is not None:
            self._known[pid] = _Known(start, owner)
        return owner

    def _by_cgroup(self, pid: int, runs: Mapping[str, RunKey]) -> RunKey | None:
        """The innermost cgroup above it that is a run's."""
        if not runs:
            return None
        paths = (path.removesuffix(" (deleted)") for path in self._procfs.cgroups(pid))
        found = (runs[above] for path in paths for above in _upward(path) if above in runs)
        return next(found, None)

    def _by_tree(self, pid: int, runs: Mapping[int, RunKey]) -> RunKey | None:
        """The nearest ancestor that is one of a run's first processes."""
        if not runs:
            return None
        for _ in range(_MAX_DEPTH):
            if pid in runs:
                return runs[pid]
            process = self._procfs.process(pid)
            if process is None or process.parent <= 1:
                return None
            pid = process.parent
        return None


def _upward(path: str) -> Iterator[str]:
    while path and path != "/":
        yield path
        path = path.rpartition("/")[0]
