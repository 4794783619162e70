"""Which runs the processes on an NPU belong to."""

from collections.abc import Iterable, Iterator, Sequence

from agent.model import Run, RunKey
from agent.procfs import ProcFs

_MAX_DEPTH = 64


def working_runs(
    pids: Iterable[int], holders: Sequence[Run], procfs: ProcFs
) -> frozenset[RunKey] | None:
    """The holders that these processes are of; None = one of them is nobody's we know."""
    found: set[RunKey] = set()
    for pid in pids:
        run = _run_of(pid, holders, procfs)
        if run is None:
            return None
        found.add(run)
    return frozenset(found)


def _run_of(pid: int, holders: Sequence[Run], procfs: ProcFs) -> RunKey | None:
    cgroups = [cgroup.removesuffix(" (deleted)") for cgroup in procfs.cgroups(pid)]
    for run in holders:
        above = f"{run.cgroup}/" if run.cgroup and run.cgroup != "/" else None
        if above and any(f"{cgroup}/".startswith(above) for cgroup in cgroups):
            return run.key
    ancestors = set(_ancestors(pid, procfs)) if any(run.pids for run in holders) else set[int]()
    return next((run.key for run in holders if ancestors.intersection(run.pids)), None)


def _ancestors(pid: int, procfs: ProcFs) -> Iterator[int]:
    """A process, its parent, and so on."""
    for _ in range(_MAX_DEPTH):
        process = procfs.process(pid) if pid > 1 else None
        if process is None:
            return
        yield pid
        pid = process.parent
