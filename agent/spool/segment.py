"""One segment: a file of frames in the order of their sequences.

    name     <first sequence, 20 digits>.seg
    header   64 bytes: b"NMSEGM01", stream id (16), first sequence (8), CRC-32 of these (4)
    frames   one after another (see `agent.spool.frame`)
    room     zeros: allocated when the file was made, so that appending needs no new space

The stream id stands in every segment as well, so that a lost head costs no frame. A
segment grows only at its end, and only the newest one does.
"""

import os
import struct
import zlib
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agent.backlog import StoredBatch
from agent.spool import disk
from agent.spool.frame import (
    HEADER_BYTES,
    Damage,
    FrameHeader,
    batch_of,
    checkpoint_of,
    decode_header,
    is_whole,
    scan,
)

SUFFIX = ".seg"
SEGMENT_HEADER_BYTES = 64
_MAGIC = b"NMSEGM01"
_HEADER = struct.Struct("<8s16sQI")
_CHECKED = _HEADER.size - 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """A frame as read back, and whole."""

    header: FrameHeader
    body: bytes

    @property
    def stored(self) -> StoredBatch:
        """Its Batch."""
        batch = batch_of(self.header, self.body)
        return StoredBatch(sequence=self.header.sequence, at_ms=self.header.at_ms, batch=batch)

    @property
    def checkpoint(self) -> bytes:
        """The agent's own state after it; inflated only where it is asked for."""
        return checkpoint_of(self.header, self.body)


class Segment:
    """An open segment and where its frames lie. The caller keeps threads apart."""

    def __init__(self, path: Path, fd: int, stream_id: bytes, room: int) -> None:
        """Take over a file of `room` bytes that holds no frame yet."""
        self.path = path
        self.damages: list[Damage] = []
        self.end = SEGMENT_HEADER_BYTES
        self.last_at_ms = 0
        self._fd = fd
        self._stream_id = stream_id
        self._room = room
        self._sequences = array("Q")
        self._offsets = array("Q")
        self._lengths = array("Q")

    @classmethod
    def create(cls, path: Path, stream_id: bytes, first_sequence: int) -> "Segment":
        """Make a file of zeros, already under its name, a segment of the stream.

        Raises:
            OSError: it is none, and holds nothing.
        """
        checked = _HEADER.pack(_MAGIC, stream_id, first_sequence, 0)[:_CHECKED]
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            disk.write_at(fd, checked + zlib.crc32(checked).to_bytes(4, "little"), 0)
            os.fdatasync(fd)
        except OSError:
            os.close(fd)
            raise
        return cls(path, fd, stream_id, os.fstat(fd).st_size)

    @classmethod
    def open(cls, path: Path, stream_id: bytes) -> "Segment":
        """Open a file and verify every frame in it."""
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        data = disk.read_all(fd)
        segment = cls(path, fd, stream_id, len(data))
        for piece in scan(data, stream_id, SEGMENT_HEADER_BYTES):
            segment.end = piece.end
            if isinstance(piece, Damage):
                segment.damages.append(piece)
            else:
                length = piece.header.frame_bytes
                segment._index(piece.header.sequence, piece.offset, length, piece.header.at_ms)
        return segment

    @property
    def sequences(self) -> Sequence[int]:
        """What it holds, ascending."""
        return self._sequences

    @property
    def last_sequence(self) -> int:
        """The highest one that it holds; 0 = none."""
        return self._sequences[-1] if self._sequences else 0

    def has_room(self, length: int) -> bool:
        """Whether a frame of so many bytes fits into what was allocated."""
        return self.end + length <= self._room

    def write(self, frame: bytes) -> None:
        """Write a frame at the end and make it durable; `add` makes it part of the segment.

        Raises:
            OSError: whatever lies on the disk now, the frame is not to be added.
        """
        try:
            disk.write_at(self._fd, frame, self.end)
            os.fdatasync(self._fd)
        except OSError:
            self._wipe(len(frame))
            raise

    def add(self, frame: bytes, sequence: int, at_ms: int) -> None:
        """Count a frame that was written."""
        self._index(sequence, self.end, len(frame), at_ms)
        self.end += len(frame)

    def fill(self, frames: Iterable[tuple[bytes, int, int]]) -> None:
        """Write frames, each with its sequence and instant, and make them durable together.

        Raises:
            OSError: the file is of no use.
        """
        for frame, sequence, at_ms in frames:
            disk.write_at(self._fd, frame, self.end)
            self.add(frame, sequence, at_ms)
        os.fdatasync(self._fd)
        self._room = self.end

    def seal(self) -> None:
        """Give back the room after the last frame; nothing will be appended any more."""
        self._room = self.end
        with suppress(OSError):  # then it keeps the room, and is deleted with it
            os.ftruncate(self._fd, self.end)

    def tail_damages(self) -> Sequence[Damage]:
        """What is damaged after its last frame."""
        last = self._offsets[-1] if self._offsets else 0
        return [damage for damage in self.damages if damage.start > last]

    def holds(self, sequence: int) -> bool:
        """Whether there is such a frame."""
        return self.next_after(sequence) == sequence

    def next_after(self, sequence: int) -> int | None:
        """The lowest sequence that it holds from `sequence` on."""
        place = bisect_left(self._sequences, sequence)
        return self._sequences[place] if place < len(self._sequences) else None

    def read(self, sequence: int) -> Content | None:
        """Read a frame back and verify it again; None = it is not, or no longer, whole.

        Raises:
            OSError: the disk does not give it.
        """
        place = bisect_left(self._sequences, sequence)
        frame = disk.read_at(self._fd, self._lengths[place], self._offsets[place])
        header = decode_header(frame, self._stream_id)
        if header is None:
            return None
        body = frame[HEADER_BYTES:]
        return (
            Content(header=header, body=body) if is_whole(header, body, self._stream_id) else None
        )

    def drop(self, sequence: int) -> None:
        """Forget a frame that is not whole any more."""
        place = bisect_left(self._sequences, sequence)
        del self._sequences[place]
        del self._offsets[place]
        del self._lengths[place]

    def bytes_of(self, damage: Damage) -> bytes:
        """What lies where no frame is."""
        return disk.read_at(self._fd, damage.end - damage.start, damage.start)

    def close(self) -> None:
        """Give the file back."""
        os.close(self._fd)

    def remove(self) -> None:
        """Delete it."""
        self.close()
        self.path.unlink()

    def _wipe(self, length: int) -> None:
        """Make a frame that failed look unwritten, so that it is not taken for damage."""
        with suppress(OSError):
            disk.write_at(self._fd, bytes(length), self.end)

    def _index(self, sequence: int, offset: int, length: int, at_ms: int) -> None:
        self._sequences.append(sequence)
        self._offsets.append(offset)
        self._lengths.append(length)
        self.last_at_ms = at_ms


def stream_of(path: Path) -> bytes | None:
    """The stream that a segment says it belongs to; None = its header is damaged."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = disk.read_at(fd, _HEADER.size, 0)
    finally:
        os.close(fd)
    if len(data) < _HEADER.size or not data.startswith(_MAGIC):
        return None
    _, stream_id, _, crc = _HEADER.unpack(data)
    return stream_id if zlib.crc32(data[:_CHECKED]) == crc else None
