"""The `process` provider: processes whose environment names a job. Off by default.

The lowest trust: a user may write anything into an environment, so that decides little:

- all processes of one job id and one account are one run, so nobody gets into another
  one's; the account is the kernel's word, and billed (see `ask_process`). Trees do not
  overlap: `groups` says how;
- a run is told when its first process is two sampling intervals old: whoever has better
  grounds to claim it has done so by then. Its start is that process's all the same;
- it ends when no process of it is left, at the look that saw the last one;
- nothing is requested: both quotas are 0.

What is missed: variables that a process sets after its start, and a program that is
started later than a second after its process. Looks lie half an interval apart at least.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from agent.context import Context
from agent.devices.visible import ascend_devices, nvidia_devices
from agent.jobs.limits import NOTHING_REQUESTED
from agent.jobs.process.groups import Groups, JobOf, Member, roots_of
from agent.jobs.process.memory import StartMemory
from agent.jobs.process.scan import Scan
from agent.jobs.reading import user_name
from agent.jobs.terms import Problem, bill_text
from agent.model import DeviceShare, Run, RunKey
from agent.procfs import TICK_US, ProcFs

_NVIDIA, _ASCEND = "NVIDIA_VISIBLE_DEVICES", "ASCEND_VISIBLE_DEVICES"


def open_process_provider(context: Context) -> "ProcessProvider":
    """Make the provider that the settings describe."""
    return ProcessProvider(context)


class ProcessProvider:
    """See the module."""

    name = "process"

    def __init__(self, context: Context) -> None:
        """Look at nothing yet."""
        settings = context.settings
        self._context = context
        self._settings = settings.process
        self._name_of = user_name if context.is_live else str
        self._interval_ms = settings.agent.sample_interval_seconds * 1000
        root = settings.at("/proc")
        self._procfs = ProcFs(root)
        self._boot_id = _read_boot_id(f"{root}/sys/kernel/random/boot_id")
        self._scan = Scan(root, self._settings.job_id_from, self._words(), is_live=context.is_live)
        file = settings.agent.state_dir / "process-runs.json" if context.is_live else None
        self._memory = StartMemory(file, self._boot_id)
        self._groups = Groups()
        self._looked_at_ms: int | None = None
        self._live: dict[JobOf, Run] = {}
        self._starts: dict[JobOf, int] = {}  # in ticks
        self._ended: dict[RunKey, Run] = {}

    def runs(self) -> Sequence[Run]:
        """Every run that lives, and every ended one until it is `settled`.

        Raises:
            ProviderError: the processes cannot be listed.
        """
        now_ms = self._context.now_ms()
        since_ms = None if self._looked_at_ms is None else now_ms - self._looked_at_ms
        if since_ms is None or not 0 <= since_ms < self._interval_ms // 2:
            self._look(now_ms)
        return [*self._live.values(), *self._ended.values()]

    def watch_paths(self) -> Sequence[Path]:
        """None: nobody hears of processes."""
        return ()

    def settled(self, keys: Collection[RunKey]) -> None:
        """Forget these ended runs."""
        for key in keys:
            self._ended.pop(key, None)

    def problems(self) -> Sequence[Problem]:
        """None: what a process says of itself is right, or nobody's."""
        return ()

    def _look(self, now_ms: int) -> None:
        uptime_ms = self._procfs.uptime_ms()
        jobs = self._groups.assign(self._scan.look(uptime_ms), self._scan.parents)
        self._end(jobs)
        self._looked_at_ms = now_ms
        for job, members in jobs.items():
            if job not in self._live:
                self._begin(job, members, now_ms - uptime_ms, uptime_ms)
            if run := self._live.get(job):
                pids = tuple(sorted(roots_of(members)))
                self._live[job] = run if pids == run.pids else replace(run, pids=pids)
        if self._starts:
            self._memory.save(uptime_ms * 1000 // TICK_US, self._starts)

    def _end(self, jobs: Collection[JobOf]) -> None:
        """End the runs without a process where they were seen last."""
        for job in [job for job in self._live if job not in jobs]:
            run = self._live.pop(job)
            del self._starts[job]
            seen_ms = max(self._looked_at_ms or run.started_at_ms, run.started_at_ms)
            self._ended[run.key] = replace(run, ended_at_ms=seen_ms)

    def _begin(self, job: JobOf, members: Sequence[Member], boot_ms: int, uptime_ms: int) -> None:
        """Tell of a run that is old enough."""
        first = min(members, key=lambda member: member.start)
        start = self._memory.start_of(job, first.start)
        if uptime_ms - _ms(start) < 2 * self._interval_ms:
            return
        self._starts[job] = start
        speaker = next((member for member in members if member.own_job == job), first)
        self._live[job] = self._describe(job, speaker.words, start, boot_ms + _ms(start))

    def _describe(
        self, job: JobOf, words: Mapping[str, str], start: int, started_at_ms: int
    ) -> Run:
        settings, (job_id, uid) = self._settings, job
        told_user = _first(words, settings.user_from) if settings.trust_user_variables else ""
        return Run(
            key=RunKey(f"process:{job_id}:{uid}@{start}~{self._boot_id}"),
            provider=self.name,
            job_id=job_id,
            job_name=_first(words, settings.job_name_from) or job_id,
            username=told_user or self._name_of(uid),
            vc=_first(words, settings.vc_from) or "default",
            project=_first(words, settings.project_from),
            started_at_ms=started_at_ms,
            quotas=NOTHING_REQUESTED,
            devices=_devices(words) if settings.trust_device_variables else (),
        )

    def _words(self) -> Collection[str]:
        settings = self._settings
        names = (settings.job_name_from, settings.user_from, settings.vc_from)
        return {
            *(name for each in names for name in each),
            *settings.project_from,
            _NVIDIA,
            _ASCEND,
        }


def _devices(words: Mapping[str, str]) -> tuple[DeviceShare, ...]:
    return nvidia_devices(words.get(_NVIDIA, "")) + ascend_devices(words.get(_ASCEND, ""))


def _first(words: Mapping[str, str], names: Sequence[str]) -> str:
    """The first of these variables that says anything, fit for a bill."""
    return bill_text(next(filter(None, map(words.get, names)), "")).strip()


def _ms(ticks: int) -> int:
    return ticks * TICK_US // 1000


def _read_boot_id(path: str) -> str:
    """Tells one boot from the next; a saved tree may not have it."""
    try:
        return Path(path).read_text().strip()
    except OSError:
        return "unknown"
