"""The `files` provider: one JSON file per job in the jobs directory (jobs.d).

`exec` and any scheduler's hook write there. The rules, in the order of their weight:

- A file never hurts another one: what is wrong with it is logged once per version, counted
  and listed by `problems`; its run, if it had one, goes on as last described.
- A run ends at `ended_at`; else when its file is removed; else when its last process ended,
  or was last seen alive if that could not be heard. An ended run is answered until it is
  `settled`, which deletes its file, and never comes back to life.
- A file that tells a later end of such a run, or more CPU time (an epilog that comes after
  the death was seen), is answered once more as ended, for the rest alone.
- The directory is root's or the agent's own, and so is trust: a file of anybody else may
  bill only its owner, claim only its owner's processes and cgroups, and begin at most a
  day before it appeared.
- A file that has not changed is not read again.
"""

# Paths as text: a Path costs several times the system call.

import logging
import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path

from agent.cgroups import find_hierarchies
from agent.context import Context, NowMs
from agent.jobs.claims import Claim, refuse_twins
from agent.jobs.deathwatch import DeathWatch
from agent.jobs.liveness import Liveness
from agent.jobs.reading import list_job_files
from agent.jobs.terms import Problem
from agent.jobs.tracked import Told, TrackedFile, told_of
from agent.model import Run, RunKey
from agent.procfs import ProcFs

log = logging.getLogger(__name__)

_REMEMBERED = 4096
"""How many settled runs are known not to come back."""


def open_files_provider(context: Context) -> "FilesProvider":
    """Make the provider that the settings describe."""
    time, settings = context.time, context.settings
    hierarchies = find_hierarchies(str(settings.cgroup.root))
    procfs, now_ms, directory = ProcFs(settings.at("/proc")), context.now_ms, settings.jobs.dir
    deaths = None
    if context.is_live:
        deaths = DeathWatch(hierarchies, procfs, now_ms=now_ms, wake=context.wake)
    liveness = Liveness(hierarchies, procfs, time.boottime_ns, deaths)
    return FilesProvider(directory, liveness, now_ms=now_ms, wall_ns=time.wall_ns)


class FilesProvider:
    """Answers from the jobs directory; see the module for its rules."""

    name = "files"

    def __init__(
        self,
        directory: Path,
        liveness: Liveness,
        *,
        now_ms: NowMs,
        wall_ns: Callable[[], int],
    ) -> None:
        """Trust root's files and those of the account that this process runs as.

        Args:
            directory: where the files are.
            liveness: looks at what they claim.
            now_ms: the agent's clock, which the answers are in.
            wall_ns: the clock that stamps files.
        """
        self.refused_total = 0
        self._wall_ns = wall_ns
        self._directory = directory
        self._now_ms = now_ms
        self._liveness = liveness
        self._trusted = frozenset({0, os.geteuid()})
        self._files: dict[str, TrackedFile] = {}
        self._answered: dict[RunKey, Run] = {}
        self._removed: dict[RunKey, Run] = {}
        self._settled: dict[RunKey, Told] = {}
        self._told: dict[str, str] = {}

    def runs(self) -> Sequence[Run]:
        """Every run that lives, and every ended one until it is `settled` and its file gone."""
        now_ms = self._now_ms()
        has_ended = any(run.ended_at_ms is not None for run in self._answered.values())
        if self._refresh(now_ms) or has_ended:
            self._end_removed(now_ms)
            self._find_twins(now_ms)
        self._liveness.refresh()
        self._answered = self._judge(now_ms)
        self._tell()
        kept = (file.kept for file in self._files.values() if file.is_retired)
        return [*self._answered.values(), *self._removed.values(), *filter(None, kept)]

    def watch_paths(self) -> Sequence[Path]:
        """The jobs directory."""
        return [self._directory]

    def settled(self, keys: Collection[RunKey]) -> None:
        """Delete the files of these ended runs, and never answer with them again."""
        for key in keys:
            run = self._removed.pop(key, None) or self._answered.get(key)
            if run is None or run.ended_at_ms is None:
                continue
            self._answered.pop(key, None)
            self._liveness.forget(run)
            self._settled.pop(key, None)
            self._settled[key] = told_of(run)
            for file in self._files_of(key):
                if not file.resume(self._settled[key]):
                    self._retire(file, run)
        while len(self._settled) > _REMEMBERED:
            del self._settled[next(iter(self._settled))]

    def problems(self) -> Sequence[Problem]:
        """What is wrong with which file, now."""
        return [
            Problem(source=file.path, message="; ".join(found))
            for file in self._files.values()
            if (found := file.problems())
        ]

    def _refresh(self, now_ms: int) -> bool:
        """Read what is new in the directory; say whether anything is."""
        listed = list_job_files(str(self._directory))
        gone = self._files.keys() - listed.keys()
        for name in gone:
            del self._files[name]
        has_changed = bool(gone)
        for name, status in listed.items():
            file = self._files.get(name)
            if file is None:
                file = self._files[name] = TrackedFile(f"{self._directory}/{name}", self._wall_ns)
            if not file.is_current(status):
                file.load(status, self._trusted, now_ms)
                self._meet_again(file)
                has_changed = True
        return has_changed

    def _meet_again(self, file: TrackedFile) -> None:
        """What has ended stays ended; only its end may be told again, and better."""
        if file.run is None:
            return
        told, is_removed = self._settled.get(file.run.key), file.run.key in self._removed
        if told is None and not is_removed:
            return
        if file.run.ended_at_ms is None:
            file.refuse_rebirth(told)
        elif is_removed:
            file.is_retired = True  # until the first end is settled
        elif told and not file.resume(told):
            self._retire(file, file.run)

    def _retire(self, file: TrackedFile, run: Run) -> None:
        """Delete a file whose run is over; where that is not ours to do, go on naming its end."""
        file.is_retired = True
        try:
            if file.delete():
                del self._files[file.name]
        except FileNotFoundError:
            pass
        except OSError as error:
            file.keep(run, error.strerror)

    def _end_removed(self, now_ms: int) -> None:
        """A run whose file is gone has ended now, unless it had before."""
        present = {file.run.key for file in self._files.values() if file.run}
        for key in self._answered.keys() - present:
            run = self._answered[key]
            ended = run.ended_at_ms
            end = max(now_ms, run.started_at_ms) if ended is None else ended
            self._removed[key] = replace(run, ended_at_ms=end)

    def _judge(self, now_ms: int) -> dict[RunKey, Run]:
        """The runs as they are now; a claim that turns out to be right may be a twin's."""
        unproven = [file for file in self._files.values() if not file.is_verified]
        judged = [file.judge(now_ms, self._liveness) for file in self._files.values()]
        if any(file.is_verified for file in unproven):
            self._find_twins(now_ms)
            judged = [file.judge(now_ms, self._liveness) for file in self._files.values()]
        return {run.key: run for run in judged if run}

    def _find_twins(self, now_ms: int) -> None:
        """Let only one file hold what only one run can hold."""
        held = [(file, file.claim(now_ms)) for file in self._files.values()]
        refused = refuse_twins(
            Claim(int(not file.is_trusted), run.started_at_ms, file.path, run)
            for file, run in held
            if run
        )
        for file, _ in held:
            file.twin = refused.get(file.path)

    def _files_of(self, key: RunKey) -> Sequence[TrackedFile]:
        return [file for file in self._files.values() if file.run and file.run.key == key]

    def _tell(self) -> None:
        """Log each problem once, and count it."""
        now = {problem.source: problem.message for problem in self.problems()}
        for source, message in now.items():
            if self._told.get(source) != message:
                self.refused_total += 1
                log.warning(
                    "a job file cannot be used as it is",
                    extra={"action": "refuse_job_file", "file": source, "problem": message},
                )
        self._told = now
