"""Keeps the mark in the head, also where the disk fails the head's file."""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from agent.backlog import StoredBatch
from agent.spool.counters import SpoolCounters
from agent.spool.head import Head, Mark


class Marks:
    """The mark as it stands, and the open head that holds it. The caller keeps threads apart."""

    def __init__(self, directory: Path, head: Head, counters: SpoolCounters) -> None:
        """Go on from what `head` says."""
        self._directory = directory
        self._head = head
        self._counters = counters

    @property
    def mark(self) -> Mark:
        """What was stored or noted last."""
        return self._head.mark

    def store(self, mark: Mark) -> None:
        """Make a mark durable; a head file that fails is replaced from memory.

        Raises:
            OSError: nor can another one be made.
        """
        try:
            self._head.store(mark)
        except OSError:
            broken = self._head
            self._head = Head.create(self._directory / "head", mark)
            broken.close()

    def note(self, mark: Mark) -> None:
        """Let a mark outlive this process, if the disk lets us."""
        try:
            self._head.note(mark)
        except OSError:  # what it guards against needs a second fault
            self._head.mark = mark
            self._counters.mark_errors += 1

    def note_sent(self, batch: StoredBatch) -> None:
        """A batch may reach the aggregator from now on."""
        if batch.sequence > self.mark.sent_through:
            through, at_ms = batch.sequence, batch.at_ms
            self.note(replace(self.mark, sent_through=through, sent_at_ms=at_ms))

    def note_acked(self, acked_through: int) -> None:
        """Everything through that is durable at the aggregator."""
        if acked_through > self.mark.acked_through:
            self.note(replace(self.mark, acked_through=acked_through))

    def rewind(self, acked_through: int, incarnation: str) -> None:
        """Another database answers, which may be durable through less."""
        through = min(acked_through, self.mark.acked_through)
        rewound = replace(self.mark, acked_through=through, incarnation=incarnation)
        if through < self.mark.acked_through:
            with suppress(OSError):  # else frames that are needed again might be deleted
                self.store(rewound)
                return
        self.note(rewound)

    def close(self) -> None:
        """Give the file back."""
        self._head.close()
