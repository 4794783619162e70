"""Makes drafts durable, and says so to those who wait for it.

On a full disk it keeps the one draft that found no room, with the checkpoint that belongs
to it, and takes no other until that one is in the spool: the state stays as it is, and
what happens meanwhile is accounted for later, from counters, starts and ends.
"""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from agent.daemon.counters import DaemonCounters
from agent.model import RunKey
from agent.spool.errors import SpoolFullError
from agent.state import Draft

_LOGGER = logging.getLogger(__name__)


class DurableQueue(Protocol):
    """What we need of the spool."""

    @property
    def last_sequence(self) -> int:
        """The highest sequence given out."""
        ...

    def append(self, batch: bytes, checkpoint: bytes, at_ms: int) -> int:
        """See `Spool.append`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A draft and the checkpoint after it."""

    draft: Draft
    checkpoint: bytes
    at_ms: int


class Recorder:
    """See the module. `on_durable` hears which runs ended durably, by provider."""

    def __init__(
        self,
        queue: DurableQueue,
        counters: DaemonCounters,
        on_durable: Callable[[Mapping[str, Collection[RunKey]]], None],
    ) -> None:
        """Append to `queue`."""
        self._queue = queue
        self._counters = counters
        self._on_durable = on_durable
        self._kept: Entry | None = None

    @property
    def is_blocked(self) -> bool:
        """Whether a draft waits for room."""
        return self._kept is not None

    def record(self, entry: Entry) -> bool:
        """Make an entry durable; False = there is no room, it is kept.

        Raises:
            SpoolError: the disk failed.
        """
        try:
            self._append(entry)
        except SpoolFullError as error:
            if self._kept is None:
                _LOGGER.error(  # noqa: TRY400  the disk's state is news, our stack is not
                    "the disk is full: sampling stops until there is room, nothing is dropped",
                    extra={"action": "spool_full", "reason": str(error)},
                )
            self._kept = entry
            return False
        return True

    def retry(self) -> bool:
        """Try again what was kept; whether nothing is kept any more."""
        if self._kept is None:
            return True
        if not self.record(self._kept):
            return False
        self._kept = None
        _LOGGER.warning("the disk has room again", extra={"action": "spool_resumed"})
        return True

    def give_up(self) -> None:
        """Drop what was kept: its stream is not used any more."""
        self._kept = None

    def _append(self, entry: Entry) -> None:
        batch = entry.draft.to_batch(self._queue.last_sequence + 1)
        self._queue.append(batch, entry.checkpoint, entry.at_ms)
        self._counters.frames += 1
        self._counters.records += len(entry.draft.records)
        ended: dict[str, Sequence[RunKey]] = {}
        for run in entry.draft.ended:
            ended[run.provider] = [*ended.get(run.provider, ()), run.key]
        self._on_durable(ended)
