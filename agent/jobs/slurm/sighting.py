"""Looks into the cgroup of a job: whose processes are there, and what Slurm told them.

Slurm's own hand is believed first: the path, the title of slurmstepd, the user that a
process runs as. An environment counts only if it is about this very job and belongs to a
process of the job's user, the oldest of the batch script's first: later ones show what the
user has made of it.
"""

# Paths as text: a Path costs several times the system call.
# ruff: noqa: PTH208

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from heapq import nsmallest
from typing import NamedTuple

from agent.cgroups import members
from agent.cgroupwatch import FoundCgroup
from agent.context import NowMs
from agent.jobs.slurm.facts import Facts, Gpu, facts_of, is_about
from agent.jobs.slurm.gpus import noted_gpus
from agent.jobs.slurm.paths import JobPlace
from agent.jobs.slurm.quotas import Limits, Quotas
from agent.keptfiles import KeptFiles
from agent.procfs import TICK_US, Process, ProcFs

_TITLE = re.compile(rb"slurmstepd: \[([0-9]{1,10})\.")
_FIRST_STEPS = ("step_batch", "step_interactive")
_LAST_STEP = "step_extern"
_MAX_PROCESSES = 64
"""So many of each step are looked at: those that Slurm started have the lowest numbers."""


class Subject(NamedTuple):
    """A job's cgroup and where it is mounted."""

    found: FoundCgroup
    place: JobPlace
    folder: str  # absolute


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """What was seen in a job's cgroup so far; None = nothing of that kind yet.

    `is_hidden` = there are processes of which none shows its environment.
    """

    environ: Facts | None = None
    uid: int | None = None
    job_id: str | None = None
    noted: tuple[Gpu, ...] | None = None
    limits: Limits = field(default_factory=Limits)
    oldest_ms: int | None = None
    is_populated: bool = False
    is_hidden: bool = False

    def after(self, earlier: "Sighting") -> "Sighting":
        """This one, with what was seen earlier and cannot be seen any more."""
        return replace(
            self,
            environ=earlier.environ or self.environ,
            uid=self.uid if earlier.uid is None else earlier.uid,
            job_id=earlier.job_id or self.job_id,
            noted=self.noted if earlier.noted is None else earlier.noted,
            limits=self.limits.after(earlier.limits),
            oldest_ms=self.oldest_ms if earlier.oldest_ms is None else earlier.oldest_ms,
        )


class Looker:
    """Looks into cgroups. Every call reads anew; any thread may make it."""

    def __init__(self, proc: str, quotas: Quotas, gpu_files: Sequence[str], now_ms: NowMs) -> None:
        """Look at the processes of `proc`, and for what a prolog left in `gpu_files`."""
        self._proc = proc
        self._procfs = ProcFs(proc)
        self._quotas = quotas
        self._gpu_files = gpu_files
        self._now_ms = now_ms

    def look(self, subject: Subject) -> Sighting:
        """Everything that can be seen now."""
        found, place, folder = subject
        processes = self._processes(folder)
        environ, shown = self._environ(processes, place)
        job_id = place.job_id or self._title(folder)
        seen = environ or Facts()
        uid = next((uid for uid in (place.uid, seen.uid) if uid is not None), None)
        if uid is None:
            uid = self._user(processes)
        number = job_id or seen.job_id
        noted = noted_gpus(self._gpu_files, number, uid) if number else None
        return Sighting(
            environ=environ,
            uid=uid,
            job_id=job_id,
            noted=None if noted is None else tuple(noted),
            limits=self._quotas.read_once(found.path, is_v2=found.is_v2),
            oldest_ms=self._oldest_ms(processes),
            is_populated=bool(processes) or is_populated(folder),
            is_hidden=bool(processes) and not shown,
        )

    def _processes(self, folder: str) -> Sequence[Process]:
        """The first ones of each step, the most telling step first."""
        pids = [
            pid
            for step in sorted(_steps(folder), key=_rank)
            for pid in nsmallest(_MAX_PROCESSES, members(f"{folder}/{step}"))
        ]
        processes = (self._procfs.process(pid) for pid in pids)
        return [process for process in processes if process]

    def _environ(self, processes: Sequence[Process], place: JobPlace) -> tuple[Facts | None, bool]:
        """What Slurm told the first process that is the job's, and whether any could be read."""
        has_read = False
        for process in processes:
            environ = self._procfs.environ(process.pid)
            has_read |= environ is not None
            if not environ or not is_about(environ, job_id=place.job_id, sluid=place.sluid):
                continue
            facts = facts_of(environ)
            uid = _user_of(facts, place, self._procfs.owner(process.pid))
            if uid is not None:
                return replace(facts, uid=uid), True
        return None, has_read

    def _user(self, processes: Sequence[Process]) -> int | None:
        """Whom the first process belongs to that is not root's."""
        owners = (self._procfs.owner(process.pid) for process in processes)
        return next((owner for owner in owners if owner), None)

    def _title(self, folder: str) -> str | None:
        """The job's number as its slurmstepd shows it; nobody else is in that cgroup."""
        for step in _steps(folder):
            for pid in members(f"{folder}/{step}/slurm"):
                title = KeptFiles(limit=0).read(f"{self._proc}/{pid}/cmdline", 64)
                match = _TITLE.match(title or b"")
                if match and self._procfs.owner(pid) == 0:
                    return str(int(match[1]))
        return None

    def _oldest_ms(self, processes: Sequence[Process]) -> int | None:
        if not processes:
            return None
        boot_ms = self._now_ms() - self._procfs.uptime_ms()
        return boot_ms + min(process.start for process in processes) * TICK_US // 1000


def is_populated(folder: str) -> bool:
    """Whether the cgroup or one below it holds a process."""
    events = KeptFiles(limit=0).read(f"{folder}/cgroup.events")
    if events is not None:
        return b"populated 1" in events
    return any(True for _ in members(folder))


def _user_of(facts: Facts, place: JobPlace, owner: int | None) -> int | None:
    """Whose job it is, if the process that shows these facts may tell; else None."""
    if place.uid is not None:
        return place.uid if owner in {place.uid, 0} else None
    if owner == 0:
        return facts.uid
    return owner if facts.uid in {owner, None} else None


def _steps(folder: str) -> Iterator[str]:
    try:
        names = os.listdir(folder)
    except OSError:
        return
    yield from (name for name in names if name.startswith("step_"))


def _rank(step: str) -> tuple[int, int, str]:
    if step in _FIRST_STEPS:
        return 0, _FIRST_STEPS.index(step), step
    return (2 if step == _LAST_STEP else 1), len(step), step
