"""Helpers of the spool's tests: spools that are killed, copied and damaged."""

import shutil
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from agent.backlog import StoredBatch
from agent.spool import Spool
from agent.spool.head import SLOT_BYTES

NOW_MS = 1_700_000_000_000
SEGMENT_BYTES = 16 << 10
YEAR_MS = 365 * 24 * 3_600_000


@contextmanager
def opened(directory: Path, *, retention_ms: int = YEAR_MS) -> Generator[Spool]:
    """A spool that is closed at the end."""
    spool = Spool(directory, segment_bytes=SEGMENT_BYTES, retention_ms=retention_ms)
    try:
        yield spool
    finally:
        spool.close()


def copied(directory: Path, target: Path) -> Path:
    """The spool as a killed agent leaves it: what was written, nothing closed."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(directory, target)
    return target


def flip(path: Path, offset: int, mask: int = 0x40) -> None:
    """Flip a bit."""
    data = bytearray(path.read_bytes())
    data[offset] ^= mask
    path.write_bytes(data)


def zero(path: Path, start: int, end: int) -> None:
    """Lose a range to zeros, as a lost page is."""
    data = bytearray(path.read_bytes())
    end = min(end, len(data))
    data[start:end] = bytes(max(0, end - start))
    path.write_bytes(data)


def truncate(path: Path, length: int) -> None:
    """Cut a file short."""
    path.write_bytes(path.read_bytes()[:length])


def lose_hot_slot(directory: Path) -> None:
    """What a power cut may do to what was never synced."""
    zero(directory / "head", 2 * SLOT_BYTES, 3 * SLOT_BYTES)


@dataclass(frozen=True)
class Place:
    """Where a frame lies."""

    sequence: int
    path: Path
    start: int
    end: int


def places(spool: Spool) -> list[Place]:
    """Every frame of an open spool."""
    found: list[Place] = []
    for segment in spool._segments:
        ends = [*segment._offsets[1:], segment.end]
        for sequence, start, end in zip(segment.sequences, segment._offsets, ends, strict=True):
            found.append(Place(sequence, segment.path, start, end))
    return found


def batches(spool: Spool, sequences: Iterable[int]) -> dict[int, bytes]:
    """What can be fetched of `sequences`."""
    fetched = {sequence: spool.fetch(sequence) for sequence in sequences}
    return {
        sequence: stored.batch
        for sequence, stored in fetched.items()
        if isinstance(stored, StoredBatch)
    }


def missing(spool: Spool) -> list[int]:
    """Every sequence that must be declared lost."""
    return [sequence for gap in spool.missing() for sequence in range(gap.first, gap.last + 1)]
