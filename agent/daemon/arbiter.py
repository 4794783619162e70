"""Decides which provider meters what two of them claim. Pure but for the question of `where`.

The more trusted provider has it, then the run that began first. A claim is a cgroup with
everything above and below it, or a process; a process in a cgroup that is claimed is part
of that claim. Who was refused once stays so until it ends: its end says nothing either.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

from agent.jobs.claims import Claim, refuse_twins
from agent.model import Run, RunKey

Answers = Mapping[str, Sequence[Run]]
"""What each provider said, the most trusted first."""


class Arbiter:
    """Remembers whom it refused."""

    def __init__(self, cgroups_of: Callable[[int], Iterable[str]]) -> None:
        """`cgroups_of` tells in which cgroups a process is."""
        self._cgroups_of = cgroups_of
        self.refused: dict[RunKey, str] = {}  # why

    def decide(self, answers: Answers) -> Answers:
        """Take out of the answers what is somebody else's."""
        if sum(bool(runs) for runs in answers.values()) < 2:
            self.refused = {}
            return answers
        refused = self._refuse(answers)
        kept = {
            provider: [run for run in runs if run.key not in refused]
            for provider, runs in answers.items()
        }
        self.refused = refused
        return kept

    def _refuse(self, answers: Answers) -> dict[RunKey, str]:
        claims = [
            Claim(rank, run.started_at_ms, run.key, run, self._places(run))
            for rank, runs in enumerate(answers.values())
            for run in runs
            if run.ended_at_ms is None
        ]
        refused = {RunKey(key): why for key, why in refuse_twins(claims).items()}
        ended = (run for runs in answers.values() for run in runs if run.ended_at_ms is not None)
        return refused | {
            run.key: self.refused[run.key] for run in ended if run.key in self.refused
        }

    def _places(self, run: Run) -> tuple[str, ...]:
        """The cgroups that the processes of a run without one are in."""
        if run.cgroup is not None:
            return ()
        return tuple({place for pid in run.pids for place in self._cgroups_of(pid)} - {"/"})
