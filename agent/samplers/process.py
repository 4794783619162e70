"""The `process` sampler: runs that are process trees, because no cgroup could be made.

Weaker than a cgroup, and honest about it:

- CPU is the time of every process seen in the tree, the dead ones included, and never
  goes down. A process that nobody waits for and that lived only between two samples is
  missed until the end, when `exec` reports the total.
- Memory is PSS, so that the pages that forked workers share count once (three workers
  over one GiB are one GiB, not three). What PSS costs, and how that is bounded, stands in
  `agent.samplers.pss`.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

from agent.clock import SystemTime
from agent.context import Context
from agent.model import MeterKey, Reading, ReadingKind, ResourceType, Run, RunKey
from agent.procfs import TICK_US, Process, ProcFs
from agent.samplers.pss import PssReader


def open_process_sampler(context: Context) -> "ProcessSampler":
    """Make the sampler of this machine's /proc."""
    procfs = ProcFs(context.settings.at("/proc"))
    return ProcessSampler(procfs, PssReader(procfs, SystemTime().monotonic_ns))


class ProcessSampler:
    """Reads CPU time and memory of the runs that list processes."""

    name = "process"

    def __init__(self, procfs: ProcFs, pss: PssReader) -> None:
        """Look at the processes of `procfs`."""
        self._procfs = procfs
        self._pss = pss
        self._trees: dict[RunKey, Tree] = {}

    def sample(self, runs: Sequence[Run]) -> Mapping[MeterKey, Reading]:
        """One look at every process of the machine serves all runs; none costs nothing."""
        wanted = [run for run in runs if run.pids and run.ended_at_ms is None]
        if not wanted:
            return {}
        machine = Machine(self._procfs)
        readings: dict[MeterKey, Reading] = {}
        for run in wanted:
            tree = self._trees.setdefault(run.key, Tree(()))
            tree.add(run.pids)
            living = tree.update(machine)
            if living:  # a tree that is gone is read no more: its last reading stands
                readings |= _readings(run.key, tree.ticks(), self._pss.total_kib(living))
        self._pss.forget_all_but(machine.processes)
        return readings

    def forget(self, keys: Collection[RunKey]) -> None:
        """Let go of the trees of these runs."""
        for key in keys:
            self._trees.pop(key, None)


class Machine:
    """One look at every process: by number, and by parent."""

    def __init__(self, procfs: ProcFs) -> None:
        """Look now, parents before their children.

        A child that dies in between is then missing from both, until the next look, and
        not in both.
        """
        found = ((pid, procfs.process(pid)) for pid in procfs.pids())
        self.processes = {pid: process for pid, process in found if process}
        self.children: dict[int, list[Process]] = defaultdict(list)
        for process in self.processes.values():
            self.children[process.parent].append(process)

    def find(self, process: Process) -> Process | None:
        """The same process as it is now; not another one of its number."""
        now = self.processes.get(process.pid)
        return now if now and now.start == process.start else None


class Tree:
    """The processes of one run: who belongs to it, and what the dead ones used.

    A member stays one when its parent dies before it. A member that vanished is taken to
    be in the child time of its nearest living ancestor in the tree, which has waited for
    it; where there is none, its last known time is carried on here.
    """

    def __init__(self, roots: Collection[int]) -> None:
        """Begin with the processes that the run lists."""
        self._listed: frozenset[int] = frozenset()
        self._new: Collection[int] = ()  # listed since the last look
        self.add(roots)
        self._members: dict[int, Process] = {}
        self._carried_ticks = 0
        self._shown_ticks = 0

    def add(self, roots: Collection[int]) -> None:
        """Take the processes that the run lists now; who was listed before is known."""
        listed = frozenset(roots)
        self._new = {*self._new, *(listed - self._listed)}
        self._listed = listed

    def update(self, machine: Machine) -> Collection[Process]:
        """Take a new look; returns the members that exist now."""
        members = self._find(machine)
        for pid, process in self._members.items():
            if pid not in members and not self._is_absorbed(process, members):
                self._carried_ticks += process.own_ticks + process.child_ticks
        self._members = members
        return members.values()

    def ticks(self) -> int:
        """CPU time of the tree since it began; never less than before."""
        living = sum(process.own_ticks + process.child_ticks for process in self._members.values())
        self._shown_ticks = max(self._shown_ticks, self._carried_ticks + living)
        return self._shown_ticks

    def _find(self, machine: Machine) -> dict[int, Process]:
        """The members that still exist, and everything below them."""
        found = [machine.find(process) for process in self._members.values()]
        found += [machine.processes.get(pid) for pid in self._new]  # the first look says who
        self._new = ()
        pending = [process for process in found if process]
        members: dict[int, Process] = {}
        while pending:
            process = pending.pop()
            if process.pid not in members:
                members[process.pid] = process
                pending += machine.children.get(process.pid, ())
        return members

    def _is_absorbed(self, process: Process, members: Mapping[int, Process]) -> bool:
        """Whether an ancestor in the tree lives that can have waited for it."""
        for _ in self._members:  # bounded: numbers may have come round in a circle
            if process.parent in members:
                return True
            parent = self._members.get(process.parent)
            if parent is None:
                return False
            process = parent
        return False


def _readings(run: RunKey, ticks: int, memory_kib: int) -> dict[MeterKey, Reading]:
    cpu = Reading(kind=ReadingKind.COUNTER, value=ticks * TICK_US)
    mem = Reading(kind=ReadingKind.LEVEL, value=memory_kib)
    return {
        MeterKey(run, ResourceType.CPU, None): cpu,
        MeterKey(run, ResourceType.MEM, None): mem,
    }
