"""One job on this node over time: waits until it is known, then follows what it is given."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from agent.cgroupwatch import FoundCgroup
from agent.jobs.slurm.desk import Desk
from agent.jobs.slurm.job import Known, end_run, key_again, make_run
from agent.jobs.slurm.quotas import Limits
from agent.jobs.slurm.sighting import Sighting, Subject
from agent.model import Run

GRACE_MS = 2_000
"""How long a new job may take to start its first process before Slurm is asked about it."""
DEADLINE_MS = 30_000
"""After this long a job is metered with what is known of it."""
NAME_MS = 10_000
"""How long the account's name may take, if it was asked for late."""
EMPTY_MS = 120_000
"""A cgroup that holds no process for so long was left behind: its job is over."""
_COARSE_MS = 2_000
"""Slurm's start counts before that of the oldest process only if it is so much earlier."""


class TrackedJob:
    """What is remembered of one cgroup. `run` None = nothing has been answered yet."""

    def __init__(self, desk: Desk, subject: Subject, now_ms: int, *, was_there: bool) -> None:
        """Begin to wait; `was_there` = it is older than the agent, which may know its run."""
        self.was_there = was_there
        self.subject = subject
        self.run: Run | None = None
        self.doubts: Sequence[str] = ()
        self.is_waiting = True  # for what is still to be learned
        self.is_gone = False  # its cgroup was removed
        self.is_lost = False  # the same, and there is no run of which that would be the end
        self._desk = desk
        self._first_ms = now_ms
        self._known: Known | None = None
        self._limits = Limits()
        self._is_complete = False  # nothing more can be learned
        self._empty_since_ms: int | None = None
        self._is_retired = False  # its run is over, its cgroup is not
        self._reborn_ms: int | None = None
        self._named_ms: int | None = None  # when the name of its user was first asked for

    def judge(self, found: FoundCgroup, now_ms: int, *, reads_limits: bool) -> Run | None:
        """The run as it is now, the same object where nothing has changed; None = not yet."""
        self.is_gone = found.ended_at_ms is not None
        if self._is_retired and not self._is_reborn(found, now_ms):
            return None
        if self.run is not None and self.run.ended_at_ms is not None:
            return self.run
        if not self._is_complete:
            self._learn(found, now_ms)
        if self.run is not None:
            ended_at_ms = self._end_of(found, now_ms)
            if ended_at_ms is not None:
                self.run = end_run(self.run, found, ended_at_ms)
            elif reads_limits:
                self._read_limits(found)
        return self.run

    @property
    def is_awaited(self) -> bool:
        """Whether it lives, or may, and will be a run as soon as more is known of it."""
        if self.run is not None or self._is_retired or self.is_gone:
            return False
        seen = self._desk.lookout.sighting(self.subject.found.key)
        has_lived = seen is not None and (seen.is_populated or seen.oldest_ms is not None)
        return has_lived or not self.was_there  # what was there empty was left behind

    def forget(self) -> None:
        """Let go of everything that was kept for it."""
        found, desk = self.subject.found, self._desk
        desk.lookout.forget([found.key])
        desk.starts.forget([found.key])
        desk.quotas.forget(found.path, is_v2=found.is_v2)
        desk.registry.forget(found.key)

    def retire(self) -> None:
        """Its end is settled, and its cgroup still there: it says no more while it is empty."""
        self.run = None
        self.is_waiting = False
        self._is_retired = True

    # What it is ----------------------------------------------------------------------------

    def _learn(self, found: FoundCgroup, now_ms: int) -> None:
        """Put together what is known by now; make a run of it when that is enough."""
        waited_ms = now_ms - self._first_ms
        is_late = waited_ms >= DEADLINE_MS or not self._desk.is_live
        seen = self._desk.lookout.sighting(found.key)
        if seen is None and not is_late:
            return
        known = Known(subject=self.subject._replace(found=found), sighting=seen or Sighting())
        is_over = found.ended_at_ms is not None
        if not self._is_inhabited(known.sighting, is_over=is_over):
            return
        has_waited = waited_ms >= GRACE_MS or is_over or self.was_there
        known, is_answered = self._with_slurm(known, has_waited=has_waited)
        username = self._username(known)
        is_named = known.uid is None or username is not None
        if not is_named and self._named_ms is None:
            self._named_ms = now_ms
        is_name_late = is_late and now_ms - (self._named_ms or now_ms) >= NAME_MS
        if not (is_late or is_answered) or not (is_name_late or is_named):
            return
        self._is_complete = is_answered and is_named
        self._describe(known, username)

    def _is_inhabited(self, sighting: Sighting, *, is_over: bool) -> bool:
        """Whether it ever held a process; a folder that was left behind is no job."""
        if sighting.is_populated or sighting.oldest_ms is not None:
            return True
        self.is_lost = is_over and self.was_there
        self.is_waiting = self.is_waiting and not self.was_there
        return is_over and not self.is_lost

    def _with_slurm(self, known: Known, *, has_waited: bool) -> tuple[Known, bool]:
        """Ask Slurm where that is needed; whether all that will be known is known now."""
        environ = known.sighting.environ
        wants = has_waited if environ is None else known.is_doubtful(self._desk.quotas)
        if not wants and not self._desk.asks_always:
            return known, environ is not None
        key, job = self.subject.found.key, known.name_for_slurm
        record, has_answered = self._desk.registry.record(key, job, known.node)
        may_still_show = environ is None and record is None and not self.is_gone
        return replace(known, slurm=record), has_answered and not may_still_show

    def _username(self, known: Known) -> str | None:
        """The account's name here; Slurm's for one that only Slurm told, or that has none here."""
        if known.uid is None:
            return known.told.username
        name = self._desk.registry.username(known.uid)
        return known.told.username or name if name == str(known.uid) else name

    def _describe(self, known: Known, username: str | None) -> None:
        """Make the run, or the better one of a run whose start was told already."""
        self.is_waiting = False
        sighting = known.sighting
        start_ms, told_ms = sighting.oldest_ms, known.told.started_ms
        if told_ms is not None and (start_ms is None or told_ms < start_ms - _COARSE_MS):
            start_ms = told_ms
        self._limits = self._limits.after(sighting.limits)
        run = make_run(
            known,
            self._desk.words,
            username=username,
            started_at_ms=self._desk.starts.at_ms(known.subject.found, start_ms),
            quotas=known.quotas(self._limits, self._desk.quotas),
        )
        if self._reborn_ms is not None:
            key = key_again(run.key, self._reborn_ms)
            began_ms = self._reborn_ms  # and the counter goes on from the earlier run's end
            run = replace(run, key=key, started_at_ms=began_ms, metered_until_ms=began_ms)
        if run != self.run:
            self.run = run
        self._known = known
        self.doubts = list(self._doubts(known))

    def _doubts(self, known: Known) -> Iterator[str]:
        if known.sighting.is_hidden and known.sighting.environ is None:
            yield "its processes do not show their environment; run the agent as root"
        if not self._is_complete or (known.sighting.environ is None and known.slurm is None):
            yield "it is not known (yet) whose it is, or what it has been given"
        if any(map(self._desk.words.gpus.is_unknown, known.gpus())):
            yield "has a part of a GPU, counted as all of it; set [slurm] shards_per_gpu"

    # How it fares ----------------------------------------------------------------------------

    def _end_of(self, found: FoundCgroup, now_ms: int) -> int | None:
        """When it ended: with its cgroup, or long ago with its last process; else None."""
        if found.ended_at_ms is not None:
            return found.ended_at_ms
        sighting = self._desk.lookout.sighting(found.key)
        if sighting is None or sighting.is_populated:
            self._empty_since_ms = None
            return None
        if self._empty_since_ms is None:
            self._empty_since_ms = found.emptied_at_ms or now_ms
        return self._empty_since_ms if now_ms - self._empty_since_ms >= EMPTY_MS else None

    def _is_reborn(self, found: FoundCgroup, now_ms: int) -> bool:
        """Whether there are processes again in what was left behind: another run begins."""
        sighting = self._desk.lookout.sighting(found.key)
        self.is_lost = self.is_gone
        if self.is_gone or sighting is None or not sighting.is_populated:
            return False
        self._is_retired = self._is_complete = False
        self._first_ms = self._reborn_ms = now_ms
        self._empty_since_ms = None
        return True

    def _read_limits(self, found: FoundCgroup) -> None:
        """Take new limits as other quotas; what cannot be read now stands as it was."""
        assert self.run is not None
        assert self._known is not None
        limits = self._desk.quotas.read(found.path, is_v2=found.is_v2).after(self._limits)
        if limits != self._limits:
            self._limits = limits
            self.run = replace(self.run, quotas=self._known.quotas(limits, self._desk.quotas))
