"""A byte fuzzer over every offset of a spool of 64 KiB: its segments and its head.

The whole of it, `make fuzz`, is some 240,000 spools; the suite takes every
`SPOOL_FUZZ_STEP`-th offset, from one that the seed of the run chooses.
"""

import os
import random
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.backlog import StoredBatch
from agent.spool import Spool
from tests.unit.agent.spools import NOW_MS, Place, batches, missing, opened, places

STEP = int(os.environ.get("SPOOL_FUZZ_STEP", "97"))
FRAMES, FRAME_BYTES = 16, 3_950
ACKED, SENT = 6, 14
KINDS = ("flip", "cut", "zero")

pytestmark = pytest.mark.timeout(120 if STEP > 1 else 7_200)


@dataclass(frozen=True, kw_only=True)
class Origin:
    """A spool as a killed agent leaves it, and what it holds."""

    files: Mapping[str, bytes]
    frames: list[Place]
    batches: Mapping[int, bytes]
    stream_id: bytes

    @property
    def segments(self) -> list[str]:
        """The files of frames, each with its room."""
        return sorted(name for name in self.files if name.endswith(".seg"))

    def restore(self, directory: Path, victim: str, content: bytes) -> None:
        """Put the spool into an empty `directory`, with one file's content another."""
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
        for name, data in self.files.items():
            (directory / name).write_bytes(content if name == victim else data)

    def hurt_by(self, victim: str, content: bytes) -> set[int]:
        """The frames of which a byte is another one now.

        Room that was not used is where a torn frame would lie, so the next one counts.
        """
        before, last = self.files[victim], self.frames[-1]
        hurt = {
            frame.sequence
            for frame in self.frames
            if frame.path.name == victim
            and content[frame.start : frame.end] != before[frame.start : frame.end]
        }
        if last.path.name == victim and any(content[last.end :]):
            hurt.add(last.sequence + 1)
        return hurt


@pytest.fixture
def origin(memory_path: Path) -> Origin:
    """Four segments: what is acked, what was sent, and what was not."""
    with opened(memory_path / "origin") as spool:
        for number in range(1, FRAMES + 1):
            spool.append(random.randbytes(FRAME_BYTES), b"state %d" % number, NOW_MS + number)
        for number in range(1, SENT + 1):
            stored = spool.fetch(number)
            assert isinstance(stored, StoredBatch)
            spool.mark_sent(stored)
        spool.ack(ACKED)
        return Origin(
            files={each.name: each.read_bytes() for each in spool._directory.iterdir()},
            frames=places(spool),
            batches=batches(spool, range(1, FRAMES + 1)),
            stream_id=spool.stream_id,
        )


def damaged(content: bytes, offset: int, kind: str, chance: random.Random) -> bytes:
    """The file with a bit flipped, cut off, or with a hole of zeros, at `offset`."""
    if kind == "cut":
        return content[:offset]
    if kind == "flip":
        changed = content[offset] ^ (1 << chance.randrange(8))
        return content[:offset] + bytes([changed]) + content[offset + 1 :]
    end = min(offset + chance.choice((1, 64, 512, 4_096)), len(content))
    return content[:offset] + bytes(end - offset) + content[end:]


def check_frames(directory: Path, origin: Origin, hurt: set[int]) -> None:
    """It starts, has every frame that was not hit, and says which it has not."""
    whole = origin.batches.keys() - hurt
    newest = max(whole, default=0)
    with opened(directory) as spool:
        assert spool.stream_id == origin.stream_id
        kept = batches(spool, origin.batches)
        assert kept == {number: origin.batches[number] for number in whole}
        declared = set(missing(spool))
        must = {number for number in hurt if ACKED < number <= max(newest, SENT)}
        assert must <= declared <= hurt
        assert spool.acked_through == ACKED
        assert spool.recovered.checkpoint == (b"state %d" % newest if whole else None)
        assert (spool.recovered.floor_ms is not None) == (newest < SENT)
        following = append(spool)
        assert following > max(newest, SENT, *declared, 0)
    check_again(directory, declared, following)


def check_marks(directory: Path, origin: Origin) -> None:
    """With its head damaged it starts, has all, and what it forgot of acks is sent again."""
    with opened(directory) as spool:
        assert spool.stream_id == origin.stream_id
        assert batches(spool, origin.batches) == origin.batches
        assert missing(spool) == []
        assert spool.acked_through <= ACKED
        assert spool.recovered.checkpoint == b"state %d" % FRAMES
        assert spool.recovered.floor_ms is None
        following = append(spool)
        assert following == FRAMES + 1
    check_again(directory, set(), following)


def append(spool: Spool) -> int:
    return spool.append(b"after", b"state after", NOW_MS + FRAMES + 1)


def check_again(directory: Path, declared: set[int], following: int) -> None:
    """The next start finds what was appended, and misses no more."""
    with opened(directory) as spool:
        assert spool.recovered.checkpoint == b"state after"
        assert batches(spool, [following]) == {following: b"after"}
        assert declared <= set(missing(spool))
        assert following not in missing(spool)


@pytest.mark.parametrize("kind", KINDS)
def test_damage_at_any_offset_costs_at_most_the_frames_hit(
    memory_path: Path, origin: Origin, kind: str
) -> None:
    """It starts every time, loses at most the damaged frames, and says which."""
    chance, count, began = random.Random(random.random()), 0, time.monotonic()
    victims = [*origin.segments, "head"]
    size = sum(len(origin.files[name]) for name in victims)
    assert size >= 64 << 10
    first = chance.randrange(STEP)
    for victim in victims:
        data = origin.files[victim]
        for offset in range(first, len(data), STEP):
            content = damaged(data, offset, kind, chance)
            origin.restore(memory_path / "spool", victim, content)
            try:
                if victim == "head":
                    check_marks(memory_path / "spool", origin)
                else:
                    hurt = origin.hurt_by(victim, content)
                    check_frames(memory_path / "spool", origin, hurt)
            except Exception as error:
                error.add_note(f"{kind} at {offset} of {victim}")
                raise
            count += 1
    print(f"{kind}: {count:,} spools of {size:,} bytes in {time.monotonic() - began:.1f} s")
