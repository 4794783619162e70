"""Decides which provider meters what two of them claim. Pure but for the question of `where`.

The more trusted provider has it, then the run that began first. A claim is a cgroup with
everything above and below it, or a process; a process in a cgroup that is claimed is part
of that claim. So is what is in a cgroup of which a more trusted provider knows already that
it will name a run for it. Who was refused once stays so until it ends, and its end says
nothing either; or until it has outlived the better claim for `LINGER_MS`: it is metered from
the end of that one on, since what was before is billed with the other.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from agent.jobs.claims import Awaited, Claim, refuse_twins
from agent.model import Run, RunKey

Answers = Mapping[str, Sequence[Run]]
"""What each provider said, the most trusted first."""


LINGER_MS = 30_000
"""Providers look at different times: who was part of what has ended will mostly have ended, too."""


class Arbiter:
    """Remembers whom it refused."""

    def __init__(
        self, cgroups_of: Callable[[int], Iterable[str]], now_ms: Callable[[], int]
    ) -> None:
        """`cgroups_of` tells in which cgroups a process is, `now_ms` agent time."""
        self._cgroups_of = cgroups_of
        self._now_ms = now_ms
        self.refused: dict[RunKey, str] = {}  # why
        self._alone: dict[RunKey, int] = {}  # since when nobody else claims what they do
        self._released: dict[RunKey, tuple[Run, Run]] = {}  # as said, and as answered

    def decide(self, answers: Answers, awaited: Mapping[str, Collection[str]]) -> Answers:
        """Take out of the answers what is somebody else's.

        `awaited`: by provider the cgroups that will be runs of it, but are not described yet.
        """
        has_history = self.refused or self._alone
        claimants = {name for name, runs in answers.items() if runs}
        claimants |= {name for name, cgroups in awaited.items() if cgroups}
        if not has_history and len(claimants) < 2:
            return answers
        self.refused = self._refuse(answers, awaited)
        kept = {
            provider: [self._since(run) for run in runs if run.key not in self.refused]
            for provider, runs in answers.items()
        }
        self._released = {key: pair for key, pair in self._released.items() if key in self._alone}
        return kept

    def _refuse(
        self, answers: Answers, awaited: Mapping[str, Collection[str]]
    ) -> dict[RunKey, str]:
        found = refuse_twins(self._claims(answers, awaited))
        every = [run for runs in answers.values() for run in runs]
        refused = {run.key: found[run.key] for run in every if run.key in found}
        named = [run for run in every if run.key not in refused]
        known = self.refused.keys() | self._alone.keys()
        now_ms = self._now_ms()
        self._alone = {
            run.key: self._alone.get(run.key, now_ms) for run in named if run.key in known
        }
        return refused | dict(self._waiting(named, now_ms))

    def _claims(self, answers: Answers, awaited: Mapping[str, Collection[str]]) -> Iterator[Claim]:
        for rank, (provider, runs) in enumerate(answers.items()):
            for run in runs:
                if run.ended_at_ms is None:
                    yield Claim(rank, run.started_at_ms, run.key, run, self._places(run))
            for cgroup in awaited.get(provider, ()):
                key = f"{provider}:{cgroup}"
                yield Claim(rank, 0, key, Awaited(key, cgroup))

    def _waiting(self, named: Iterable[Run], now_ms: int) -> Iterator[tuple[RunKey, str]]:
        """Those that were refused until now, and have ended or not outlived the other for long."""
        for run in named:
            why = self.refused.get(run.key)
            if why is None:
                continue
            if run.ended_at_ms is not None or now_ms - self._alone[run.key] < LINGER_MS:
                yield run.key, why

    def _since(self, run: Run) -> Run:
        """A run that was refused before, metered from when it was not any more."""
        since_ms = self._alone.get(run.key)
        if since_ms is None or run.metered_until_ms is not None:
            return run
        said, answered = self._released.get(run.key, (None, run))
        if said is not run:
            answered = replace(run, metered_until_ms=since_ms)
            self._released[run.key] = run, answered
        return answered

    def _places(self, run: Run) -> tuple[str, ...]:
        """The cgroups that the processes of a run without one are in."""
        if run.cgroup is not None:
            return ()
        return tuple({place for pid in run.pids for place in self._cgroups_of(pid)} - {"/"})
