"""One frame: a Batch and the checkpoint that belongs to it, under one checksum. Pure.

    header  36 bytes, little-endian
        magic          4   b"NMF1"
        sequence       8
        at_ms          8   agent time of the append
        batch_bytes    4   how much of the body is the deflated Batch
        body_bytes     4
        body_crc       4   CRC-32 of the body
        header_crc     4   CRC-32 of the 32 bytes before it
    body
        deflated Batch, deflated checkpoint

Both checksums start from the stream id, so no foreign bytes pass for a frame of ours,
whoever put them there. The header has its own, so that a frame with a damaged body still
says which sequence was lost, and a search for the next frame is cheap.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

MAGIC = b"NMF1"
_HEADER = struct.Struct("<4sQqIIII")
HEADER_BYTES = _HEADER.size
_CRC_BYTES = 4
_LEVEL = 1  # the definitions repeat from frame to frame: the fastest already finds most


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameHeader:
    """What a header says; that its body is whole is not said by it."""

    sequence: int
    at_ms: int
    batch_bytes: int
    body_bytes: int
    body_crc: int

    @property
    def frame_bytes(self) -> int:
        """Length of the whole frame."""
        return HEADER_BYTES + self.body_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A whole frame, and where it lies."""

    offset: int
    header: FrameHeader

    @property
    def end(self) -> int:
        """Offset of the first byte after it."""
        return self.offset + self.header.frame_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """Bytes [start, end) that are no frame, and the sequence if a header still tells it."""

    start: int
    end: int
    sequence: int | None


def encode_frame(
    stream_id: bytes, sequence: int, at_ms: int, batch: bytes, checkpoint: bytes
) -> bytes:
    """Build the bytes of a frame."""
    deflated = zlib.compress(batch, _LEVEL)
    body = deflated + zlib.compress(checkpoint, _LEVEL)
    seed = zlib.crc32(stream_id)
    crc = zlib.crc32(body, seed)
    head = _HEADER.pack(MAGIC, sequence, at_ms, len(deflated), len(body), crc, 0)[:-_CRC_BYTES]
    return head + zlib.crc32(head, seed).to_bytes(_CRC_BYTES, "little") + body


def decode_header(data: bytes, stream_id: bytes, offset: int = 0) -> FrameHeader | None:
    """Read the header at `offset`; None = there is none, or a damaged one."""
    if len(data) - offset < HEADER_BYTES or not data.startswith(MAGIC, offset):
        return None
    _, sequence, at_ms, batch_bytes, body_bytes, body_crc, crc = _HEADER.unpack_from(data, offset)
    checked = data[offset : offset + HEADER_BYTES - _CRC_BYTES]
    if zlib.crc32(checked, zlib.crc32(stream_id)) != crc:
        return None
    return FrameHeader(
        sequence=sequence,
        at_ms=at_ms,
        batch_bytes=batch_bytes,
        body_bytes=body_bytes,
        body_crc=body_crc,
    )


def is_whole(header: FrameHeader, body: bytes, stream_id: bytes) -> bool:
    """Whether `body` is the one that `header` was written with."""
    crc = zlib.crc32(body, zlib.crc32(stream_id))
    return len(body) == header.body_bytes and crc == header.body_crc


def batch_of(header: FrameHeader, body: bytes) -> bytes:
    """Take the Batch out of a whole frame's body."""
    return zlib.decompress(body[: header.batch_bytes])


def checkpoint_of(header: FrameHeader, body: bytes) -> bytes:
    """Take the checkpoint out of a whole frame's body."""
    return zlib.decompress(body[header.batch_bytes :])


def scan(data: bytes, stream_id: bytes, offset: int) -> Iterator[Found | Damage]:
    """Go through `data` from `offset`: its frames, and what lies damaged between them.

    Zeros up to the end are room that was not used yet.
    """
    content_end = len(data.rstrip(b"\0"))
    while offset < content_end:
        found = _frame_at(data, stream_id, offset)
        if found is None:
            found = _next_frame(data, stream_id, offset + 1)
            header = decode_header(data, stream_id, offset)
            yield Damage(
                start=offset,
                end=content_end if found is None else found.offset,
                sequence=None if header is None else header.sequence,
            )
        if found is None:
            return
        yield found
        offset = found.end


def _frame_at(data: bytes, stream_id: bytes, offset: int) -> Found | None:
    header = decode_header(data, stream_id, offset)
    if header is None:
        return None
    body = data[offset + HEADER_BYTES : offset + header.frame_bytes]
    return Found(offset=offset, header=header) if is_whole(header, body, stream_id) else None


def _next_frame(data: bytes, stream_id: bytes, offset: int) -> Found | None:
    while (offset := data.find(MAGIC, offset)) >= 0:
        if found := _frame_at(data, stream_id, offset):
            return found
        offset += 1
    return None
