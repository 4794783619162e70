"""The head: which stream this is, and how far it was acknowledged and sent.

    file: three slots of 4096 bytes, allocated once and written in place
        0, 1   durable: written in turn, each followed by fdatasync
        2      hot: written at each send and ack, and left to the kernel
    slot: CRC-32, generation, stream id, acked_through, sent_through, sent_at_ms,
          length of the incarnation, incarnation

The valid slot of the highest generation counts. A durable write never touches the slot
that counted as durable before, so no torn write loses both. The hot slot outlives a
killed agent, not a power cut; that is enough, since what it says more than the durable
ones is only needed to know whether a frame that was damaged later may have been sent.
"""

import os
import struct
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

from agent.spool import disk

SLOT_BYTES = 4096
STREAM_ID_BYTES = 16
INCARNATION_BYTES = 256
_SLOTS = 3
_HOT = 2
_CRC_BYTES = 4
_FIELDS = struct.Struct("<Q16sQQqH")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What the head says."""

    stream_id: bytes
    acked_through: int = 0
    sent_through: int = 0  # what may have reached the aggregator
    sent_at_ms: int = 0  # agent time of the frame `sent_through`; 0 = none was sent
    incarnation: str = ""  # of the database that acknowledged
    generation: int = 0


class Head:
    """The open head file. Not safe for use by several threads at once."""

    def __init__(self, fd: int, mark: Mark) -> None:
        """Go on from `mark`, which `fd` already holds or will hold at the next write."""
        self._fd = fd
        self._durable_slot = 0
        self.mark = mark

    @classmethod
    def create(cls, path: Path, mark: Mark) -> "Head":
        """Make a new head file that says `mark`, durably, in place of any old one."""
        staging = path.with_suffix(".new")
        fd = disk.allocate(staging, _SLOTS * SLOT_BYTES)
        head = cls(fd, mark)
        try:
            head.store(mark)
            disk.rename(staging, path)
        except OSError:
            head.close()
            raise
        return head

    @classmethod
    def open(cls, path: Path) -> "Head | None":
        """Open an existing one; None = there is none, or no slot of it is valid."""
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            data = disk.read_all(fd)
        except OSError:
            os.close(fd)
            raise
        marks = [_decode(data[n * SLOT_BYTES : (n + 1) * SLOT_BYTES]) for n in range(_SLOTS)]
        valid = [(mark.generation, slot) for slot, mark in enumerate(marks) if mark]
        if not valid:
            os.close(fd)
            return None
        newest = marks[max(valid)[1]]
        assert newest is not None
        head = cls(fd, newest)
        head._durable_slot = max((pair for pair in valid if pair[1] != _HOT), default=(0, 0))[1]
        return head

    def store(self, mark: Mark) -> None:
        """Make `mark` durable.

        Raises:
            OSError: it may be or not; `self.mark` is unchanged.
        """
        slot = 1 - self._durable_slot
        mark = self._write(mark, slot)
        os.fdatasync(self._fd)
        self._durable_slot = slot
        self.mark = mark

    def note(self, mark: Mark) -> None:
        """Let `mark` outlive this process, though maybe not the machine."""
        self.mark = self._write(mark, _HOT)

    def close(self) -> None:
        """Give the file back; what it says stays."""
        os.close(self._fd)

    def _write(self, mark: Mark, slot: int) -> Mark:
        mark = replace(mark, generation=self.mark.generation + 1)
        disk.write_at(self._fd, _encode(mark), slot * SLOT_BYTES)
        return mark


def _encode(mark: Mark) -> bytes:
    incarnation = mark.incarnation.encode()[:INCARNATION_BYTES]
    numbers = (mark.acked_through, mark.sent_through, mark.sent_at_ms)
    fields = _FIELDS.pack(mark.generation, mark.stream_id, *numbers, len(incarnation))
    data = fields + incarnation
    return zlib.crc32(data).to_bytes(_CRC_BYTES, "little") + data


def _decode(slot: bytes) -> Mark | None:
    if len(slot) < _CRC_BYTES + _FIELDS.size:
        return None
    data = slot[_CRC_BYTES:]
    generation, stream_id, acked, sent, sent_at_ms, length = _FIELDS.unpack_from(data)
    data = data[: _FIELDS.size + length]
    if zlib.crc32(data) != int.from_bytes(slot[:_CRC_BYTES], "little"):
        return None
    return Mark(
        stream_id=stream_id,
        acked_through=acked,
        sent_through=sent,
        sent_at_ms=sent_at_ms,
        incarnation=data[_FIELDS.size :].decode(errors="replace"),
        generation=generation,
    )
