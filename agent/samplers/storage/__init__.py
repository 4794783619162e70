"""The `storage` sampler: what a job holds on disk, below the paths that are declared for it.

A thread of its own walks them every few minutes; a sample repeats what the last complete
walk found, while that is younger than two intervals and the walk's own time. A walk that
could not be completed says nothing: then the storage is not observed, and the log says which
path it was. Of paths that a plain user declares, what is his counts: the agent may read more
than he, and must not tell him of it.
"""

from collections.abc import Callable, Collection, Mapping, Sequence

from agent.background import Background
from agent.clock import SystemTime
from agent.context import Context
from agent.model import MeterKey, Reading, ReadingKind, ResourceType, Run, RunKey
from agent.samplers import Sampler
from agent.samplers.storage.walk import Limits
from agent.samplers.storage.walks import Walks, Wanted

_ROUNDS = 10
"""So many times in an interval it is looked who is due."""


def open_storage_sampler(context: Context) -> Sampler | None:
    """Make it; None for a saved tree, whose paths are another machine's."""
    if not context.is_live:
        return None
    settings, time = context.settings.storage, SystemTime()
    return StorageSampler(
        Limits(entries=settings.max_entries, seconds=settings.max_seconds),
        interval_seconds=settings.interval_seconds,
        now_ms=context.now_ms,
        monotonic_ns=time.monotonic_ns,
    )


class StorageSampler:
    """Reads the runs that declare storage paths; the thread begins with the first of them."""

    name = "storage"

    def __init__(
        self,
        limits: Limits,
        *,
        interval_seconds: int,
        now_ms: Callable[[], int],
        monotonic_ns: Callable[[], int],
    ) -> None:
        """Walk nothing yet."""
        self._monotonic_ns = monotonic_ns
        self._walks = Walks(limits, interval_seconds * 1000, monotonic_ns)
        self._background = Background(
            "storage",
            self._walks.round,
            every_seconds=interval_seconds / _ROUNDS,
            now_ms=now_ms,
            told=lambda: None,
        )

    def sample(self, runs: Sequence[Run]) -> Mapping[MeterKey, Reading]:
        """See `Sampler`."""
        now_ms = self._monotonic_ns() // 1_000_000
        readings: dict[MeterKey, Reading] = {}
        for run in runs:
            if not run.storage_paths:
                continue
            if run.ended_at_ms is not None:
                self._walks.forget(run.key)
                continue
            if self._walks.note(run.key, Wanted(run.storage_paths, run.own_word_of)):
                self._background.start()
                self._background.request()
            if held := self._walks.held(run.key, now_ms):
                key = MeterKey(run.key, ResourceType.STORAGE, None)
                readings[key] = Reading(kind=ReadingKind.LEVEL, value=held.kib)
        return readings

    def forget(self, keys: Collection[RunKey]) -> None:
        """See `Sampler`."""
        for key in keys:
            self._walks.forget(key)

    def problems(self) -> Mapping[RunKey, str]:
        """The runs whose paths could not be walked to the end, and why."""
        return self._walks.failures()

    def close(self) -> None:
        """Walk no more."""
        self._walks.close()
        self._background.close()
