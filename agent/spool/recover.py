"""Finds out at the start what a spool's directory still holds, and sets aside the rest.

Nothing here refuses to start because of damage: what is whole is used, what is not is
copied to `damaged/` and reported.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agent.backlog import StoredBatch
from agent.errors import SpoolError
from agent.spool import disk
from agent.spool.errors import SpoolLockedError
from agent.spool.frame import Damage
from agent.spool.head import STREAM_ID_BYTES, Head, Mark
from agent.spool.segment import SUFFIX, Segment, stream_of
from agent.spool.segments import Segments

DAMAGED = "damaged"
ASIDE = "aside"
REFUSED = "refused"
NEXT = "next"
"""What a new stream begins with, until the old one's segments are set aside."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """What the agent may go on from.

    `checkpoint` belongs to the last whole frame. `floor_ms` is set where a later one may
    have been delivered and is destroyed: nothing before that instant may be recorded
    again, or it would be billed twice.
    """

    checkpoint: bytes | None = None
    floor_ms: int | None = None
    damages: int = 0


def take_lock(directory: Path) -> int:
    """Make the directory this process's own, for as long as the descriptor lives.

    Raises:
        SpoolLockedError: another agent works there.
        SpoolError: the directory cannot be used at all.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return disk.lock(directory / "lock")
    except BlockingIOError as error:
        raise SpoolLockedError(f"another agent works on the spool in {directory}") from error
    except OSError as error:
        raise SpoolError(f"the spool in {directory} cannot be used: {error}") from error


def open_head(directory: Path, random_bytes: Callable[[int], bytes]) -> Head:
    """Open the head; if it is lost, the segments still tell which stream this is."""
    path = directory / "head"
    if head := Head.open(path):
        return head
    stream_id = find_stream(directory) or random_bytes(STREAM_ID_BYTES)
    return Head.create(path, Mark(stream_id=stream_id))


def segment_paths(directory: Path) -> list[Path]:
    """The segments in the order of their sequences."""
    return sorted(directory.glob(f"*{SUFFIX}"))


def find_stream(directory: Path) -> bytes | None:
    """The stream of the newest segment that still tells it; for when the head is lost."""
    streams = (stream_of(path) for path in reversed(segment_paths(directory)))
    return next((stream for stream in streams if stream is not None), None)


def open_segments(directory: Path, stream_id: bytes) -> Segments:
    """Open and verify every segment of the stream; those of another one are set aside."""
    for path in segment_paths(directory):
        if stream_of(path) not in {stream_id, None}:
            move_aside(path)
    _take_next(directory, stream_id)
    segments = [Segment.open(path, stream_id) for path in segment_paths(directory)]
    for segment in segments:
        for damage in segment.damages:
            _copy_aside(segment, damage)
    return Segments(segments)


def begin_with(path: Path) -> Path:
    """Give what a new stream begins with its place among the segments, now free."""
    target = path.parent / f"{1:020}{SUFFIX}"
    disk.rename(path, target)
    return target


def _take_next(directory: Path, stream_id: bytes) -> None:
    """Finish what a kill left between two streams: the head says which one counts."""
    path = directory / NEXT
    if not path.exists():
        return
    if stream_of(path) == stream_id:
        begin_with(path)
    else:
        path.unlink()


def move_aside(path: Path) -> None:
    """Keep a segment that is not to be sent, where nobody looks for segments.

    If the disk does not let us now, the next start finds it to be of another stream.
    """
    target = path.parent / ASIDE
    with suppress(OSError):
        target.mkdir(mode=0o700, exist_ok=True)
        path.rename(target / f"{(stream_of(path) or b'').hex()}-{path.name}")


def recovered_from(segments: Segments, mark: Mark) -> Recovered:
    """Take the newest whole frame's checkpoint, and see whether a newer one was sent."""
    last_whole = segments.last_whole
    holder = segments.holder(last_whole)
    content = holder and holder.read(last_whole)
    was_sent = max(mark.sent_through, mark.acked_through) > last_whole
    has_history = content is None and mark.sent_at_ms > 0
    return Recovered(
        checkpoint=content.checkpoint if content else None,
        floor_ms=mark.sent_at_ms if was_sent or has_history else None,
        damages=sum(len(segment.damages) for segment in segments),
    )


def keep_refused(directory: Path, stream_id: bytes, stored: StoredBatch) -> None:
    """Keep what cannot be delivered; on a full disk the frame itself is all there is."""
    path = directory / REFUSED / f"{stream_id.hex()}-{stored.sequence:020}.batch"
    with suppress(OSError):
        path.parent.mkdir(mode=0o700, exist_ok=True)
        path.write_bytes(stored.batch)


def _copy_aside(segment: Segment, damage: Damage) -> None:
    """Keep damaged bytes for whoever wants to look; a full disk is no reason to stop."""
    target = segment.path.parent / DAMAGED
    copy = target / f"{segment.path.stem}-{damage.start}.bin"
    with suppress(OSError):
        if not copy.exists():
            target.mkdir(mode=0o700, exist_ok=True)
            copy.write_bytes(segment.bytes_of(damage))
