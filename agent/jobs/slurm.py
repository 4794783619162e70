"""The `slurm` provider."""

from collections.abc import Collection, Sequence
from pathlib import Path

from agent.context import Context
from agent.jobs.terms import Problem
from agent.model import Run, RunKey


def open_slurm_provider(_context: Context) -> "SlurmProvider":
    """Make the provider that the settings describe."""
    return SlurmProvider()


class SlurmProvider:
    """Finds nothing yet."""

    name = "slurm"

    def runs(self) -> Sequence[Run]:
        """See `JobProvider`."""
        return ()

    def watch_paths(self) -> Sequence[Path]:
        """See `JobProvider`."""
        return ()

    def settled(self, keys: Collection[RunKey]) -> None:
        """See `JobProvider`."""

    def problems(self) -> Sequence[Problem]:
        """See `JobProvider`."""
        return ()
