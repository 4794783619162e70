"""Job providers: who runs here, since when, with which quota, in which cgroups or processes.

One file per provider, one line per provider in `PROVIDERS`. A provider answers completely
or raises; it never guesses and never ends a run because it failed itself.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from agent.jobs.files import open_files_provider
from agent.jobs.terms import NowMs, Problem
from agent.model import Run, RunKey
from agent.settings import AgentSettings


class JobProvider(Protocol):
    """What the daemon asks of every provider."""

    @property
    def name(self) -> str:
        """Its name in `PROVIDERS` and in `Run.provider`."""
        ...

    def runs(self) -> Sequence[Run]:
        """Every run that lives, and every ended one until it is `settled`.

        Raises:
            ProviderError: there is no complete answer now; the last one stays in force.
        """
        ...

    def watch_paths(self) -> Sequence[Path]:
        """Directories whose changes may start or end a run."""
        ...

    def settled(self, keys: Collection[RunKey]) -> None:
        """The ends of these runs are durable: what announced them may be deleted.

        Keys of other providers and unknown ones are passed over; calling again is harmless.
        """
        ...

    def problems(self) -> Sequence[Problem]:
        """What the last answer had to leave out, or holds in an older version."""
        ...


PROVIDERS: Mapping[str, Callable[[AgentSettings, NowMs], JobProvider]] = {
    "files": open_files_provider,
}
