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
from dataclasses import replace
from pathlib import Path

from agent.backlog import Missing, StoredBatch
from agent.errors import SpoolError
from agent.spool import disk, recover
from agent.spool.counters import SpoolCounters
from agent.spool.errors import SpoolFullError
from agent.spool.frame import encode_frame
from agent.spool.head import STREAM_ID_BYTES, Head, Mark
from agent.spool.room import Room
from agent.spool.segment import Segment
from agent.spool.segments import Segments
from agent.spool.writer import Writer

Retell = Callable[[bytes, int], bytes]
"""Makes a stored Batch one of another stream, of the sequence that is given."""


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
                self._head = recover.open_head(directory, random_bytes)
                opened.callback(self._head.close)
                self._segments = recover.open_segments(directory, self.stream_id)
                self.recovered = recover.recovered_from(self._segments, self._head.mark)
            except OSError as error:
                raise SpoolError(f"the spool in {directory} cannot be opened: {error}") from error
            opened.pop_all()
        mark, claimed = self._head.mark, self._segments.last_claimed
        self._last_sequence = max(claimed, mark.acked_through, mark.sent_through)
        self.counters.damages = self.recovered.damages
        self._writer = self._begin_writing()
        self._room.keep_reserve()

    @property
    def stream_id(self) -> bytes:
        """See `Backlog`."""
        return self._head.mark.stream_id

    @property
    def last_sequence(self) -> int:
        """See `Backlog`."""
        return self._last_sequence

    @property
    def acked_through(self) -> int:
        """See `Backlog`."""
        return self._head.mark.acked_through

    @property
    def incarnation(self) -> str:
        """See `Backlog`."""
        return self._head.mark.incarnation

    def missing(self) -> Iterator[Missing]:
        """Every hole after what was acked: destroyed, and to be declared."""
        sequence = self.acked_through + 1
        while sequence <= self._last_sequence:
            with self._lock:
                is_held = self._segments.holder(sequence) is not None
                hole = None if is_held else self._segments.missing(sequence, self._last_sequence)
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
            if not disk.is_full(error):
                raise SpoolError(f"cannot write to {self._directory}: {error}") from error
            self.counters.full_errors += 1
            raise SpoolFullError(f"no room for the spool in {self._directory}") from error
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
        oldest_ms = now_ms - self._retention_ms
        done = self._segments.done(self.acked_through)
        try:
            self._delete([segment for segment in done if segment.last_at_ms < oldest_ms])
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
        with self._lock:
            try:
                carried = self._carry(stream_id, base, retell) if retell else None
                self._store(mark)
            except OSError as error:
                kind = SpoolFullError if disk.is_full(error) else SpoolError
                raise kind(f"cannot start a stream in {self._directory}: {error}") from error
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
            self._store(self._head.mark)
        self._head.close()
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
            return stored or self._segments.missing(sequence, self._last_sequence)

    def mark_sent(self, batch: StoredBatch) -> None:
        """See `Backlog`."""
        with self._lock:
            mark = self._head.mark
            if batch.sequence > mark.sent_through:
                self._note(replace(mark, sent_through=batch.sequence, sent_at_ms=batch.at_ms))

    def ack(self, acked_through: int) -> None:
        """See `Backlog`."""
        with self._lock:
            mark = self._head.mark
            if acked_through > mark.acked_through:
                durable = min(acked_through, self._last_sequence)
                self._note(replace(mark, acked_through=durable))

    def refuse(self, sequence: int, reason: str) -> bool:
        """See `Backlog`. Its checkpoint stays of use, and so the frame where it is."""
        with self._lock:
            holder = self._segments.holder(sequence)
            stored = self._read(holder, sequence) if holder else None
            if stored is None:
                return False
            name = f"{self.stream_id.hex()}-{sequence:020}.batch"
            recover.keep_refused(self._directory / recover.REFUSED / name, stored.batch)
            self._refused[sequence] = reason
        self.counters.refused_frames += 1
        return True

    def rewind(self, acked_through: int, incarnation: str) -> None:
        """See `Backlog`."""
        with self._lock:
            mark = self._head.mark
            through = min(acked_through, mark.acked_through)
            rewound = replace(mark, acked_through=through, incarnation=incarnation)
            if through < mark.acked_through:
                with suppress(OSError):  # else frames that are needed again might be deleted
                    self._store(rewound)
                    return
            self._note(rewound)

    # Another stream ------------------------------------------------------------------

    def _carry(self, stream_id: bytes, base: int, retell: Retell) -> Segment | None:
        """Write what follows `base` as another stream's first segment; None = nothing does."""
        path = self._directory / recover.NEXT
        path.touch(mode=0o600)
        segment = Segment.create(path, stream_id, 1)
        try:
            segment.fill(self._renewed(stream_id, base, retell))
        except OSError:
            segment.remove()
            raise
        if segment.sequences:
            return segment
        segment.remove()
        return None

    def _renewed(
        self, stream_id: bytes, base: int, retell: Retell
    ) -> Iterator[tuple[bytes, int, int]]:
        for old in range(base + 1, self._last_sequence + 1):
            holder = self._segments.holder(old)
            content = holder and holder.read(old)
            if content:
                new, at_ms = old - base, content.header.at_ms
                batch = retell(content.stored.batch, new)
                frame = encode_frame(stream_id, new, at_ms, batch, content.checkpoint)
                yield frame, new, at_ms

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
                self._store(self._head.mark)
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
            segment.drop(sequence)
            self.counters.damages += 1
            return None
        return content.stored

    def _store(self, mark: Mark) -> None:
        """Make a mark durable; a head file that fails is replaced from memory."""
        try:
            self._head.store(mark)
        except OSError:
            broken = self._head
            self._head = Head.create(self._directory / "head", mark)
            broken.close()

    def _note(self, mark: Mark) -> None:
        try:
            self._head.note(mark)
        except OSError:  # what it guards against needs a second fault
            self._head.mark = mark
            self.counters.mark_errors += 1
