"""Takes frames over into another stream: its first segment, still under no segment's name."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from agent.spool.frame import encode_frame
from agent.spool.segment import Segment
from agent.spool.segments import Segments

Retell = Callable[[bytes, int], bytes]
"""Makes a stored Batch one of another stream, of the sequence that is given."""


def carry(
    segments: Segments, sequences: range, path: Path, stream_id: bytes, retell: Retell
) -> Segment | None:
    """Write those frames to `path` as the stream's, numbered from 1; holes stay holes.

    None = there are none.

    Raises:
        OSError: nothing is left behind.
    """
    path.touch(mode=0o600)
    segment = Segment.create(path, stream_id, 1)
    try:
        segment.fill(_renewed(segments, stream_id, enumerate(sequences, start=1), retell))
    except OSError:
        segment.remove()
        raise
    if segment.sequences:
        return segment
    segment.remove()
    return None


def _renewed(
    segments: Segments, stream_id: bytes, sequences: Iterable[tuple[int, int]], retell: Retell
) -> Iterator[tuple[bytes, int, int]]:
    for new, old in sequences:
        holder = segments.holder(old)
        content = holder and holder.read(old)
        if content:
            at_ms = content.header.at_ms
            batch = retell(content.stored.batch, new)
            yield encode_frame(stream_id, new, at_ms, batch, content.checkpoint), new, at_ms
