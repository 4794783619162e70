"""The durable queue between sampling and sending. Money waits here; nothing may be lost.

Directory
    lock        held (flock) as long as an agent works here
    head        which stream this is, how far it was acked and sent (`agent.spool.head`)
    *.seg       segments of frames (`agent.spool.segment`, `agent.spool.frame`)
    reserve     the next segment's room, allocated ahead, so that a disk that fills up
                later still takes a segment of frames
    damaged/    copies of bytes that were no frames any more
    refused/    copies of Batches that the aggregator will never take
    aside/      segments of a stream that was given up (a clone's, a rolled-back disk's)
    next        what another stream will begin with, for the moment in which it takes over

Invariants
    1. A frame is a Batch and the checkpoint of the agent after it, under one checksum:
       a killed agent goes on exactly where its records end.
    2. Sequences are given out by `append`, from 1, without a hole; a frame that `append`
       returned is durable, and only then visible to `fetch`. One fdatasync per append.
    3. Reading deletes nothing. A segment is deleted when all its frames are acked, the
       retention time has passed (or the disk is full), it does not hold the newest
       frame, and the acked position is durable.
    4. A frame that is not acked is never dropped to make room: `SpoolFullError` leaves
       it with the caller, who tries again.
    5. A failed write or fdatasync is fatal for its file: the frame goes to a new one.
    6. Damage costs the damaged frames and no other. Their sequences come out of `fetch`
       as `Missing`, to be declared; they are never given out again. Where a destroyed
       newest frame may have been delivered, `recovered.floor_ms` says through when.

One thread appends and prunes, another one fetches, marks and acks.
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

from agent.backlog import Missing, StoredBatch
from agent.errors import SpoolError
from agent.spool import disk, recover
from agent.spool.carry import Retell, carry
from agent.spool.counters import SpoolCounters
from agent.spool.errors import failed
from agent.spool.frame import encode_frame
from agent.spool.head import STREAM_ID_BYTES, Mark
from agent.spool.marks import Marks
from agent.spool.room import Room
from agent.spool.segment import Segment
from agent.spool.segments import Segments
from agent.spool.writer import Writer


class Spool:
    """An open spool; see the module."""

    def __init__(
        self,
        directory: Path,
        *,
        segment_bytes: int,
        retention_ms: int,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """Open the spool in `directory`, or make one.

        Raises:
            SpoolLockedError: another agent has it open.
            SpoolError: the directory cannot be used at all.
        """
        self.counters = SpoolCounters()
        self._directory = directory
        self._retention_ms = retention_ms
        self._random_bytes = random_bytes
        self._lock = threading.Lock()
        self._refused: dict[int, str] = {}  # why; the next start tries again what is not past
        self._room = Room(directory, segment_bytes)
        with ExitStack() as opened:
            self._lock_fd = recover.take_lock(directory)
            opened.callback(os.close, self._lock_fd)
            try:
                head = recover.open_head(directory, random_bytes)
                self._marks = Marks(directory, head, self.counters)
                opened.callback(self._marks.close)
                self._segments = recover.open_segments(directory, self.stream_id)
                self.recovered = recover.recovered_from(self._segments, self._marks.mark)
            except OSError as error:
                raise SpoolError(f"the spool in {directory} cannot be opened: {error}") from error
            opened.pop_all()
        mark, claimed = self._marks.mark, self._segments.last_claimed
        self._last_sequence = max(claimed, mark.acked_through, mark.sent_through)
        self.counters.damages = self.recovered.damages
        self._writer = self._begin_writing()
        self._room.keep_reserve()

    @property
    def stream_id(self) -> bytes:
        """See `Backlog`."""
        return self._marks.mark.stream_id

    @property
    def last_sequence(self) -> int:
        """See `Backlog`."""
        return self._last_sequence

    @property
    def acked_through(self) -> int:
        """See `Backlog`."""
        return self._marks.mark.acked_through

    @property
    def incarnation(self) -> str:
        """See `Backlog`."""
        return self._marks.mark.incarnation

    def missing(self) -> Iterator[Missing]:
        """Every hole after what was acked: destroyed, and to be declared."""
        sequence = self.acked_through + 1
        while sequence <= self._last_sequence:
            with self._lock:
                hole = self._segments.hole(sequence, self._last_sequence)
            if hole:
                yield hole
            sequence = hole.last + 1 if hole else sequence + 1

    # The thread that writes ----------------------------------------------------------

    def append(self, batch: bytes, checkpoint: bytes, at_ms: int) -> int:
        """Make a Batch and its checkpoint durable together, as sequence `last_sequence + 1`.

        Returns:
            The sequence.

        Raises:
            SpoolFullError: there is no room for it now; append it again later.
            SpoolError: the disk failed, in a new file as well.
        """
        sequence = self._last_sequence + 1
        frame = encode_frame(self.stream_id, sequence, at_ms, batch, checkpoint)
        try:
            segment = self._write(frame, sequence)
        except OSError as error:
            self.counters.full_errors += disk.is_full(error)
            raise failed("write to", self._directory, error) from error
        with self._lock:
            segment.add(frame, sequence, at_ms)
            self._last_sequence = sequence
        self.counters.appended_frames += 1
        self.counters.appended_bytes += len(frame)
        return sequence

    def prune(self, now_ms: int) -> None:
        """Delete acked segments past their retention time; allocate the reserve anew.

        Raises:
            SpoolError: the acked position could not be made durable; nothing was deleted.
        """
        done = self._segments.done(self.acked_through)
        try:
            self._delete([each for each in done if each.last_at_ms < now_ms - self._retention_ms])
        except OSError as error:
            raise SpoolError(f"cannot prune {self._directory}: {error}") from error
        self._room.keep_reserve()

    def start_stream(self, now_ms: int, retell: Retell | None = None, after: int = 0) -> int:
        """Give up the stream for a new one; its segments go to `aside/`.

        The new one begins with all frames after `after` that are not acked, as `retell`
        makes them of Batch and new sequence; holes stay holes. Without `retell` it begins
        with nothing, and until the next `append` it holds no checkpoint: an agent that is
        killed before it records nothing from before `now_ms` again.

        Returns:
            The number of frames that it begins with.

        Raises:
            SpoolFullError: there is no room for it now; the old stream goes on.
            SpoolError: the disk failed; the old stream goes on.
        """
        stream_id = self._random_bytes(STREAM_ID_BYTES)
        base = max(after, self.acked_through) if retell else self._last_sequence
        mark = Mark(stream_id=stream_id, sent_at_ms=0 if retell else now_ms)
        left, path = range(base + 1, self._last_sequence + 1), self._directory / recover.NEXT
        with self._lock:
            try:
                carried = retell and carry(self._segments, left, path, stream_id, retell)
                self._marks.store(mark)
            except OSError as error:
                raise failed("start a stream in", self._directory, error) from error
            given_up, self._segments = self._segments, Segments([carried] if carried else [])
            given_up.close()
            for segment in given_up:
                recover.move_aside(segment.path)
            if carried:
                carried.path = recover.begin_with(carried.path)
            self._last_sequence -= base
            self._refused.clear()
            self._writer = self._begin_writing()
        return len(carried.sequences) if carried else 0

    def close(self) -> None:
        """Make the head durable if that can be had, and let another agent in; idempotent."""
        if self._lock_fd < 0:
            return
        with self._lock, suppress(OSError):
            self._marks.store(self._marks.mark)
        self._marks.close()
        self._segments.close()
        os.close(self._lock_fd)
        self._lock_fd = -1

    # The thread that sends -----------------------------------------------------------

    def fetch(self, sequence: int) -> StoredBatch | Missing | None:
        """See `Backlog`."""
        with self._lock:
            if sequence > self._last_sequence:
                return None
            if reason := self._refused.get(sequence):
                return Missing(first=sequence, last=sequence, reason=reason)
            segment = self._segments.holder(sequence)
            stored = segment and self._read(segment, sequence)
            return stored or self._segments.hole(sequence, self._last_sequence)

    def mark_sent(self, batch: StoredBatch) -> None:
        """See `Backlog`."""
        with self._lock:
            self._marks.note_sent(batch)

    def ack(self, acked_through: int) -> None:
        """See `Backlog`."""
        with self._lock:
            self._marks.note_acked(min(acked_through, self._last_sequence))

    def refuse(self, sequence: int, reason: str) -> bool:
        """See `Backlog`. Its checkpoint stays of use, and so the frame where it is."""
        with self._lock:
            holder = self._segments.holder(sequence)
            stored = self._read(holder, sequence) if holder else None
            if stored is None:
                return False
            recover.keep_refused(self._directory, self.stream_id, stored)
            self._refused[sequence] = reason
        self.counters.refused_frames += 1
        return True

    def rewind(self, acked_through: int, incarnation: str) -> None:
        """See `Backlog`."""
        with self._lock:
            self._marks.rewind(acked_through, incarnation)

    # Inside --------------------------------------------------------------------------

    def _begin_writing(self) -> Writer:
        return Writer(
            directory=self._directory,
            stream_id=self.stream_id,
            segments=self._segments,
            room=self._room,
            lock=self._lock,
            counters=self.counters,
        )

    def _write(self, frame: bytes, sequence: int) -> Segment:
        """Write the frame where there is room, shedding what may be shed."""
        while True:
            try:
                return self._writer.write(frame, sequence)
            except OSError as error:
                if not disk.is_full(error) or not self._shed():
                    raise

    def _shed(self) -> bool:
        """Make room: copies of damage first, then the oldest acked segment."""
        for copy in (self._directory / recover.DAMAGED).glob("*.bin"):
            copy.unlink()
            return True
        oldest = self._segments.done(self.acked_through)[:1]
        self._delete(oldest)
        return bool(oldest)

    def _delete(self, segments: list[Segment]) -> None:
        if segments:
            with self._lock:
                self._marks.store(self._marks.mark)
                for segment in segments:
                    self._segments.remove(segment)
            self.counters.deleted_segments += len(segments)

    def _read(self, segment: Segment, sequence: int) -> StoredBatch | None:
        """Read a frame; one that is not whole any more is dropped."""
        try:
            content = segment.read(sequence)
        except OSError as error:
            raise SpoolError(f"cannot read {segment.path}: {error}") from error
        if content is None:
            self._segments.drop(sequence)
            self.counters.damages += 1
            return None
        return content.stored
