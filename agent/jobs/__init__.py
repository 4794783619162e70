"""Job providers: who runs here, since when, with which quota, in which cgroups or processes.

One file or package per provider, one line per provider in `PROVIDERS`, the most trusted
first. A provider answers completely or raises; it never guesses and never ends a run
because it failed itself. It is a leaf: it knows no other provider and no sampler.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast, runtime_checkable

from agent.context import Context
from agent.jobs.terms import Problem
from agent.model import Run, RunKey


class JobProvider(Protocol):
    """What the daemon asks of every provider."""

    @property
    def name(self) -> str:
        """Its name in `PROVIDERS` and in `Run.provider`."""
        ...

    def runs(self) -> Sequence[Run]:
        """Every run that lives, and every ended one until it is `settled`.

        Devices may be referred to by any name that `agent.devices` knows.

        Raises:
            ProviderError: there is no complete answer now; the last one stays in force.
        """
        ...

    def watch_paths(self) -> Sequence[Path]:
        """Directories whose changes may start or end a run; cgroups are `Context`'s to watch."""
        ...

    def settled(self, keys: Collection[RunKey]) -> None:
        """The ends of these runs are durable: what announced them may be deleted.

        Keys of other providers and unknown ones are passed over; calling again is harmless.
        """
        ...

    def problems(self) -> Sequence[Problem]:
        """What the last answer had to leave out, or holds in an older version."""
        ...


@runtime_checkable
class AwaitingProvider(JobProvider, Protocol):
    """A provider that knows before it can describe a job that the job is its own."""

    def awaited(self) -> Collection[str]:
        """The cgroups of runs to come, which the last answer did not hold; never raises."""
        ...


_OPENERS: Mapping[str, str] = {
    "kubernetes": "agent.jobs.kubernetes:open_kubernetes_provider",
    "slurm": "agent.jobs.slurm:open_slurm_provider",
    "docker": "agent.jobs.docker:open_docker_provider",
    "systemd": "agent.jobs.systemd:open_systemd_provider",
    "files": "agent.jobs.files:open_files_provider",
    "process": "agent.jobs.process:open_process_provider",
}


def _opener(name: str) -> Callable[[Context], JobProvider]:
    """Load a provider's module when it is asked for: a node needs few of them in its memory."""

    def open_provider(context: Context) -> JobProvider:
        module, _, function = _OPENERS[name].partition(":")
        opener = cast("Callable[[Context], JobProvider]", getattr(import_module(module), function))
        return opener(context)

    return open_provider


PROVIDERS: Mapping[str, Callable[[Context], JobProvider]] = {
    name: _opener(name) for name in _OPENERS
}
