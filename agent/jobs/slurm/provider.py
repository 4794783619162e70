"""The `slurm` provider: every job that Slurm runs on this node. See the package."""

# Paths as text: a Path costs several times the system call.
# ruff: noqa: PTH110

import logging
import os
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from agent.cgroups import Hierarchies, find_hierarchies
from agent.cgroupwatch import CgroupWatch, FoundCgroup
from agent.context import Context
from agent.errors import ProviderError
from agent.jobs.slurm.desk import make_desk
from agent.jobs.slurm.gpus import distrust
from agent.jobs.slurm.paths import patterns, place_of
from agent.jobs.slurm.sighting import Subject
from agent.jobs.slurm.tracked import TrackedJob
from agent.jobs.slurm.unaccounted import Unaccounted
from agent.jobs.terms import Problem
from agent.model import Run, RunKey
from agent.procfs import ProcFs

_FIRST_LOOK_SECONDS = 2.0
_FIRST_ANSWER_SECONDS = 1.5
_TURNS = 6
"""Limits whose change nobody tells are read at every such look, some of them each time."""
_LOGGER = logging.getLogger(__name__)


def open_slurm_provider(context: Context) -> "SlurmProvider":
    """Make the provider that the settings describe, and let it learn of the jobs there are."""
    provider = SlurmProvider(context)
    if context.is_live:
        provider.settle_in()
    return provider


class SlurmProvider:
    """Answers from the cgroups that Slurm makes; see the package for its rules."""

    name = "slurm"

    def __init__(self, context: Context) -> None:
        """Follow the cgroups of jobs, from now on."""
        self._context = context
        self._root = str(context.settings.cgroup.root)
        self._hierarchies = find_hierarchies(self._root)
        self._desk = make_desk(context, self._hierarchies)
        self._jobs: dict[str, TrackedJob] = {}  # by a cgroup's key
        self._touched: set[str] = set()  # limits that have changed
        self._turn = 0
        self._has_answered = False
        self._told: Mapping[str, str] = {}
        layout = patterns(context.settings.slurm.cgroup_slices)
        self._followed = context.cgroups.follow(layout, self._hear)
        self._unaccounted: Unaccounted | None = None
        if self._hierarchies.v2 != self._root:
            self._unaccounted = Unaccounted(
                self._root, layout, self._make_watch, is_live=context.is_live
            )

    def settle_in(self) -> None:
        """Wait a little until the jobs that are there already are known."""
        self._desk.lookout.wait_for_first(_FIRST_LOOK_SECONDS)
        deadline = time.monotonic() + _FIRST_ANSWER_SECONDS
        while time.monotonic() < deadline:
            try:
                self.runs()
            except ProviderError:
                time.sleep(0.02)
            else:
                return

    def runs(self) -> Sequence[Run]:
        """Every job that lives and is known, and every ended one until it is `settled`.

        Raises:
            ProviderError: a hierarchy is not mounted any more, or jobs that are older than
                the agent are not known yet: to leave them out would end their runs.
        """
        self._check_mounts()
        self._context.cgroups.scan()
        now_ms = self._context.now_ms()
        found = self._find(now_ms)
        touched, self._touched = self._touched, set()
        self._turn += 1
        answer: list[Run] = []
        for place, (key, cgroup) in enumerate(found.items()):
            job = self._jobs.get(key) or self._meet(cgroup, now_ms)
            is_due = key in touched or (place + self._turn) % _TURNS == 0
            if run := job.judge(cgroup, now_ms, reads_limits=is_due):
                answer.append(run)
        self._let_go(found)
        self._tell()
        waiting = [job for job in self._jobs.values() if job.was_there and job.is_waiting]
        if waiting:
            path = waiting[0].subject.found.path
            raise ProviderError(f"it is not known yet whose {path} is ({len(waiting)} such jobs)")
        self._has_answered = True
        return answer

    def awaited(self) -> Collection[str]:
        """The cgroups of jobs of which it is not known yet whose they are."""
        return [job.subject.found.path for job in self._jobs.values() if job.is_awaited]

    def watch_paths(self) -> Sequence[Path]:
        """None: cgroups are heard of otherwise."""
        return ()

    def settled(self, keys: Collection[RunKey]) -> None:
        """Forget these ended jobs."""
        for key, job in list(self._jobs.items()):
            if job.run is None or job.run.key not in keys or job.run.ended_at_ms is None:
                continue
            self._settle([key])
            if job.is_gone:
                self._forget(key, job)
            else:
                job.retire()

    def problems(self) -> Sequence[Problem]:
        """What is not known of which job, and what could not be asked or read."""
        found = [
            Problem(source=job.subject.found.path, message=doubt)
            for job in self._jobs.values()
            for doubt in job.doubts
        ]
        if failure := self._desk.registry.failure:
            found.append(Problem(source="scontrol", message=failure))
        settings = self._context.settings
        folders = map(settings.at, settings.slurm.gpu_files)
        judged = ((folder, distrust(folder)) for folder in folders)
        found += [Problem(source=folder, message=wrong) for folder, wrong in judged if wrong]
        if self._unaccounted is not None and self._unaccounted.is_needed:
            message = (
                "Slurm makes no cgroups here that count CPU time, so usage is unknown; set "
                "JobAcctGatherType=jobacct_gather/cgroup in slurm.conf"
            )
            found.append(Problem(source=self._unaccounted.mount or "", message=message))
        return found

    def close(self) -> None:
        """Let its threads end; the agent itself lives as long as they do."""
        self._desk.lookout.close()
        self._desk.registry.close()
        if self._unaccounted is not None:
            self._unaccounted.close()

    # Cgroups ------------------------------------------------------------------------------

    def _check_mounts(self) -> None:
        """A mount that is gone takes every cgroup along; the jobs are none the wiser.

        Raises:
            ProviderError: one that was there is not.
        """
        v2 = self._hierarchies.v2
        files = [f"{mount}/tasks" for mount in self._hierarchies.v1.values()]
        if v2 is not None:
            files.append(f"{v2}/cgroup.controllers")
        gone = [file for file in files if not os.path.exists(file)]
        if gone:
            raise ProviderError(f"cgroups are not mounted any more: {gone[0]} is gone")

    def _find(self, now_ms: int) -> Mapping[str, FoundCgroup]:
        """The cgroup of every job by its key, one for each job."""
        accounted = self._followed.found()
        if self._unaccounted is None:
            return {cgroup.key: cgroup for cgroup in accounted}
        others = self._unaccounted.found(accounted, now_ms)
        counted = [each for each in accounted if not self._unaccounted.has_taken(each.path)]
        return {cgroup.key: cgroup for cgroup in (*counted, *others)}

    def _hear(self, cgroup: FoundCgroup) -> None:
        """In the thread of the watch: a job began, or its limits changed."""
        self._touched.add(cgroup.key)
        self._desk.lookout.add(self._subject(cgroup, self._mount_of(cgroup)))

    def _meet(self, cgroup: FoundCgroup, now_ms: int) -> TrackedJob:
        mount = self._mount_of(cgroup)
        if self._unaccounted is not None and self._unaccounted.is_ours(cgroup):
            mount = self._unaccounted.mount or mount
        subject = self._subject(cgroup, mount)
        self._desk.lookout.add(subject)
        was_there = cgroup.born_at_ms is None and not self._has_answered
        job = TrackedJob(self._desk, subject, now_ms, was_there=was_there)
        self._jobs[cgroup.key] = job
        return job

    def _mount_of(self, cgroup: FoundCgroup) -> str:
        v1, v2 = self._hierarchies.v1, self._hierarchies.v2
        return v2 if cgroup.is_v2 and v2 is not None else next(iter(v1.values()), self._root)

    def _subject(self, cgroup: FoundCgroup, mount: str) -> Subject:
        return Subject(cgroup, place_of(cgroup.names), mount + cgroup.path)

    def _settle(self, keys: Collection[str]) -> None:
        self._followed.settle(keys)
        if self._unaccounted is not None:
            self._unaccounted.settle(keys)

    def _let_go(self, found: Collection[str]) -> None:
        """Forget what is gone without ever having been a job of ours."""
        for key, job in list(self._jobs.items()):
            if job.is_lost or key not in found:
                self._settle([key])
                self._forget(key, job)

    def _forget(self, key: str, job: TrackedJob) -> None:
        self._jobs.pop(key, None)
        job.forget()

    # Around it -----------------------------------------------------------------------------

    def _make_watch(self, hierarchies: Hierarchies) -> CgroupWatch:
        context = self._context
        procfs = ProcFs(context.settings.at("/proc"))
        return CgroupWatch(hierarchies, now_ms=context.now_ms, told=context.wake, procfs=procfs)

    def _tell(self) -> None:
        """Log each problem once."""
        now = {problem.source: problem.message for problem in self.problems()}
        for source, message in now.items():
            if self._told.get(source) != message:
                _LOGGER.warning(
                    "not everything is known of Slurm's jobs",
                    extra={"action": "doubt", "source": source, "problem": message},
                )
        self._told = now
