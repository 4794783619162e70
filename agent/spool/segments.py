"""All segments of the stream, seen as one row of sequences with holes."""

from collections.abc import Iterator
from pathlib import Path

from agent.backlog import Missing
from agent.spool.segment import Segment

GONE = "no longer in the spool: deleted after its retention time, or lost with its file"
DAMAGED = "damaged in the spool; what was left of it is set aside"


class Segments:
    """The open segments, oldest first. The caller keeps threads apart."""

    def __init__(self, segments: list[Segment]) -> None:
        """Take over segments in the order of their sequences."""
        self._segments = segments

    def __iter__(self) -> Iterator[Segment]:
        """Oldest first."""
        return iter(self._segments)

    def add(self, segment: Segment) -> None:
        """Append the newest one."""
        self._segments.append(segment)

    def remove(self, segment: Segment) -> None:
        """Delete one, and its file."""
        self._segments.remove(segment)
        segment.remove()

    def discard(self, path: Path) -> None:
        """Remove the one of that name, should there be one."""
        for segment in [segment for segment in self if segment.path == path]:
            self.remove(segment)

    @property
    def newest(self) -> Segment | None:
        """The one that may still grow."""
        return self._segments[-1] if self._segments else None

    @property
    def last_whole(self) -> int:
        """The highest sequence of a whole frame; 0 = there is none."""
        return max((segment.last_sequence for segment in self._segments), default=0)

    @property
    def last_claimed(self) -> int:
        """The highest sequence that a frame, whole or damaged, was given.

        Damage at the very end that tells no sequence counts as one frame.
        """
        told = [damage.sequence or 0 for segment in self for damage in segment.damages]
        return max(self.last_whole + int(self._has_damaged_tail()), *told, 0)

    def holder(self, sequence: int) -> Segment | None:
        """The segment with that frame; of two, the newer (the older one's disk failed)."""
        newest_first = reversed(self._segments)
        return next((segment for segment in newest_first if segment.holds(sequence)), None)

    def drop(self, sequence: int) -> None:
        """Forget a frame that is not whole any more, and what was refused for it before."""
        for segment in self._segments:
            if segment.holds(sequence):
                segment.drop(sequence)

    def hole(self, first: int, last_sequence: int) -> Missing | None:
        """The whole hole that begins with `first`; None = some segment holds that."""
        if self.holder(first):
            return None
        following = [segment.next_after(first) for segment in self._segments]
        present = [sequence for sequence in following if sequence is not None]
        last = min(present) - 1 if present else last_sequence
        oldest = [segment.sequences[0] for segment in self._segments if segment.sequences]
        is_gone = bool(oldest) and first < min(oldest)
        return Missing(first=first, last=last, reason=GONE if is_gone else DAMAGED)

    def done(self, acked_through: int) -> list[Segment]:
        """Those that hold nothing to be sent, nor the newest frame with its checkpoint."""
        last_whole = self.last_whole
        return [
            segment
            for segment in self._segments[:-1]
            if segment.last_sequence <= acked_through and segment.last_sequence < last_whole
        ]

    def close(self) -> None:
        """Give all files back."""
        for segment in self._segments:
            segment.close()

    def _has_damaged_tail(self) -> bool:
        for segment in reversed(self._segments):
            if segment.tail_damages():
                return True
            if segment.sequences:
                return False
        return False
