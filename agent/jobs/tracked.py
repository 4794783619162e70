"""One file of the jobs directory over time: its last good version, and how its run fares."""

# Paths as text: a Path costs several times the system call.
# ruff: noqa: PTH104, PTH108

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple

from agent.errors import JobFileError
from agent.jobs.jobfile import Owner, bound_start
from agent.jobs.liveness import Liveness, is_held
from agent.jobs.reading import Stamp, is_racy, read_job_file, stamp_of
from agent.model import Reading, ResourceType, Run

_EARLY_MS = 1_000
"""An end this far ahead is waited for: two clocks are compared."""
_SOON_MS = 300_000
"""A start further ahead than this is a mistake, and is reported."""
_START_GRACE_US = 60_000_000
"""How long after its file was written a run may still have no process."""


class Told(NamedTuple):
    """What was answered of a run's end."""

    ended_at_ms: int
    cpu_us: int  # 0 = nothing was told of it


def told_of(run: Run) -> Told:
    """Take it from an ended run."""
    final = run.final.get(ResourceType.CPU)
    return Told(run.ended_at_ms or 0, final.value if final else 0)


class TrackedFile:
    """What is known of one file. `run` is None until a version of it was right."""

    def __init__(self, path: str, wall_ns: Callable[[], int]) -> None:
        """Know nothing yet of the file at `path`; `wall_ns` is the clock that stamps files."""
        self.path = path
        self.name = path.rpartition("/")[2]
        self._wall_ns = wall_ns
        self.run: Run | None = None
        self.twin: str | None = None  # what another file holds already; set by the provider
        self.is_retired = False  # its run is over and settled
        self.kept: Run | None = None  # that run, as long as its file may tell of it again
        self._owner: Owner | None = None
        self._life: Run | None = None  # the run without the end that it was given
        self._stamp = Stamp(0, 0, 0)
        self._written_ns = 0
        self._is_racy = False
        self._refusal: str | None = None  # what is wrong with the newest version
        self._doubt: str | None = None  # what is wrong with the run itself
        self.is_verified = False  # what it claims was its owner's when it was first seen
        self._has_begun = False
        self._is_counted = False  # it is known whether its counter began before it
        self._seen_ms: int | None = None
        self._died_ms: int | None = None
        self._final: Mapping[ResourceType, Reading] = {}  # what could be read after its death

    @property
    def is_trusted(self) -> bool:
        """Whether the last good version was written by root or the agent's account."""
        return self._owner is not None and self._owner.is_trusted

    def problems(self) -> list[str]:
        """What is wrong now."""
        if self._refusal is None and self._doubt is None and self.twin is None:
            return []
        return [text for text in (self._refusal, self._doubt, self.twin) if text]

    def is_current(self, status: os.stat_result) -> bool:
        """Whether `status` is that of the version that was read last."""
        stamp = self._stamp
        return (
            status.st_ctime_ns == stamp.changed_ns
            and status.st_ino == stamp.inode
            and status.st_size == stamp.size
            and not self._is_racy
        )

    def load(self, status: os.stat_result, trusted: frozenset[int], now_ms: int) -> None:
        """Read a new version; a wrong one leaves the last good one in force."""
        self._stamp = stamp_of(status)
        self._written_ns = min(status.st_mtime_ns, status.st_ctime_ns)  # the first can be set
        self._is_racy = is_racy(self._stamp, self._wall_ns())
        try:
            run, owner = read_job_file(self.path, trusted)
            run, notice = self._bound(run, owner, now_ms)
        except JobFileError as error:
            self._refuse(str(error))
            return
        except Exception as error:  # noqa: BLE001  one file must not hide the others
            self._refuse(f"cannot be understood ({type(error).__name__})")
            return
        if self.run is None or self.run.key != run.key:
            self._seen_ms = self._died_ms = None
            self._has_begun = self.is_retired = self._is_counted = False
            self.kept = None
        self.run, self._owner = run, owner
        self._life = replace(run, ended_at_ms=None, final={})
        self._refusal, self._doubt = notice, None
        self.is_verified = owner.is_trusted

    def _bound(self, run: Run, owner: Owner, now_ms: int) -> tuple[Run, str | None]:
        """Bound the start by the first version of the run; a later one does not move it."""
        if self.run is not None and self.run.key == run.key:
            return replace(run, started_at_ms=self.run.started_at_ms), None
        age_ns = self._wall_ns() - self._stamp.changed_ns
        return bound_start(run, owner, now_ms - max(0, age_ns) // 1_000_000)

    def _refuse(self, why: str) -> None:
        kept = "; its last good version stays in force" if self.run else ""
        self._refusal = f"{why}{kept}"

    def delete(self) -> bool:
        """Delete the version that was read last; False = there is a newer one, which stays.

        One may be put in its place at any instant: what was there is looked at aside.
        """
        if self._stamp != stamp_of(os.lstat(self.path)):
            return False
        aside = f"{self.path.removesuffix(self.name)}.over-{self._stamp.inode}"
        os.rename(self.path, aside)
        is_newer = os.lstat(aside).st_ino != self._stamp.inode
        if is_newer:
            with suppress(FileExistsError):  # there is one that is newer still
                os.link(aside, self.path)
        os.unlink(aside)
        return not is_newer

    def refuse_rebirth(self, told: Told | None) -> None:
        """Its run has ended before, and stays so; `told`: what is settled of that."""
        self.is_retired = True
        self._refusal = "this run has ended already; give the new one its own started_at"
        if self.run and told:
            self._keep(replace(self.run, ended_at_ms=told.ended_at_ms))

    def keep(self, run: Run, why: str | None) -> None:
        """Its run is over and settled, and it cannot be deleted."""
        self._keep(run)
        self._refusal = (
            f"cannot be deleted ({why}), though its job has ended and is metered; let the agent's "
            "account write to the jobs directory, or delete the file"
        )

    def _keep(self, run: Run) -> None:
        """Go on naming it, as one whose end is settled: who has forgotten it must not bill it."""
        self.kept = replace(run, metered_until_ms=run.ended_at_ms, final={})

    def resume(self, told: Told) -> bool:
        """Answer once more with an ended run of which `told` was answered; False = no news."""
        if self.run is None or self.run.ended_at_ms is None:
            return False
        now = told_of(self.run)
        if now.ended_at_ms <= told.ended_at_ms and now.cpu_us <= told.cpu_us:
            return False
        self.run = replace(self.run, metered_until_ms=told.ended_at_ms)
        self.is_retired = False
        return True

    def claim(self, now_ms: int) -> Run | None:
        """The run, while it lives or may: what it holds nobody else may hold."""
        is_over = self.is_retired or self._died_ms is not None or self._has_ended(now_ms)
        return None if is_over or self.run is None else self._proven(self.run)

    def _proven(self, run: Run) -> Run:
        """Without what may be somebody else's: that must keep nobody from having it metered."""
        return run if self.is_verified else replace(run, cgroup=None, pids=())

    def judge(self, now_ms: int, liveness: Liveness) -> Run | None:
        """The run as it is now, ended or not; None = there is nothing that can be metered."""
        if self.run is None or self.twin or self.is_retired or not self._has_started(now_ms):
            return None
        if self._has_ended(now_ms):
            return self.run
        if self.run.metered_until_ms is not None:
            return None  # what has ended does not live until its later end
        return self._living(now_ms, liveness)

    def _living(self, now_ms: int, liveness: Liveness) -> Run | None:
        life = self._life
        if life is None or (life.cgroup is None and not life.pids):
            return life
        if self._died_ms is None:
            return self._look(self._counted(life, now_ms, liveness), now_ms, liveness)
        return replace(life, ended_at_ms=self._died_ms, final=self._final)

    def _has_started(self, now_ms: int) -> bool:
        assert self.run is not None
        ahead_ms = self.run.started_at_ms - now_ms
        if ahead_ms <= 0:
            self._has_begun = True  # and does not stop where the clock is set back
        elif ahead_ms > _SOON_MS and not self._has_begun:
            self._doubt = "started_at: is in the future; check the clock of who wrote it"
        return self._has_begun

    def _has_ended(self, now_ms: int) -> bool:
        ended = self.run.ended_at_ms if self.run else None
        return ended is not None and ended <= now_ms

    def _counted(self, life: Run, now_ms: int, liveness: Liveness) -> Run:
        """Say of a new run if its counter begins with what was used before it."""
        if not self.is_verified or self._is_counted:
            return life
        has_counted = liveness.has_counted(life, now_ms - life.started_at_ms)
        self._is_counted = has_counted is not None
        if has_counted:
            life = self._life = replace(life, metered_until_ms=life.started_at_ms)
        return life

    def _look(self, life: Run, now_ms: int, liveness: Liveness) -> Run | None:
        """Look whether the run's processes exist; remember when they did last."""
        if liveness.is_alive(life, self._age_us()):
            if not self.is_verified:
                if not self._verify(life, liveness):
                    return None
                life = self._life = self._owned(life, liveness)
                life = self._counted(life, now_ms, liveness)
            self._seen_ms = now_ms
            liveness.watch(life)
            return life
        if is_held(self.path):
            return self._proven(life)
        return self._without_processes(life, now_ms, liveness)

    def _without_processes(self, life: Run, now_ms: int, liveness: Liveness) -> Run | None:
        """The run whose processes are gone, or are not there yet."""
        ended_at_ms = self.run.ended_at_ms if self.run else None
        if ended_at_ms is not None and ended_at_ms > now_ms + _EARLY_MS:
            return self.run  # it is over, by a clock that is ahead of ours
        if ended_at_ms is not None:
            return self._proven(life)  # so that its end comes out exact
        if self._seen_ms is not None:
            died_ms = liveness.died_at_ms(life) or 0
            self._died_ms = max(self._seen_ms, life.started_at_ms, min(died_ms, now_ms))
            self._final = liveness.final(life)
            return replace(life, ended_at_ms=self._died_ms, final=self._final)
        if abs(self._age_us()) <= _START_GRACE_US:
            return self._proven(life)
        self._doubt = "its processes are gone and nobody saw them end; remove the file"
        return None

    def _verify(self, life: Run, liveness: Liveness) -> bool:
        assert self._owner is not None
        self._doubt = liveness.strangers(life, self._owner.uid)
        self.is_verified = self._doubt is None
        return self.is_verified

    def _owned(self, life: Run, liveness: Liveness) -> Run:
        """Without the numbers of processes that are nobody's: they may become anybody's."""
        assert self.run is not None
        assert self._owner is not None
        pids = liveness.owned(life.pids, self._owner.uid)
        self.run = replace(self.run, pids=pids)
        return replace(life, pids=pids)

    def _age_us(self) -> int:
        """How long ago the file was written, by the clock that stamps files."""
        return (self._wall_ns() - self._written_ns) // 1000
