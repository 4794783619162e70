"""Damage costs the damaged frames and no other; the spool starts every time and says which."""

import errno
import os
import random
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.backlog import Missing, StoredBatch
from agent.spool import Spool
from agent.spool.head import Head, Mark
from agent.spool.segments import DAMAGED, GONE
from tests.unit.agent.spools import (
    NOW_MS,
    SEGMENT_BYTES,
    Place,
    batches,
    copied,
    flip,
    lose_hot_slot,
    missing,
    opened,
    places,
    truncate,
    zero,
)


def make(directory: Path, frames: int, *, size: int = 6_000) -> list[Place]:
    """A spool of `frames` frames, two to a segment, that was closed in good order."""
    with opened(directory) as spool:
        for number in range(1, frames + 1):
            spool.append(os.urandom(size), b"state %d" % number, NOW_MS + number)
        return places(spool)


def send(spool: Spool, sequence: int) -> None:
    stored = spool.fetch(sequence)
    assert isinstance(stored, StoredBatch)
    spool.mark_sent(stored)


# The newest frame ------------------------------------------------------------------------


def test_a_torn_frame_that_was_never_sent_costs_nothing(tmp_path: Path) -> None:
    """Its records follow from the checkpoint before it; its sequence is declared, not reused."""
    frames = make(tmp_path, 3)
    truncate(frames[2].path, frames[2].end - 10)
    with opened(tmp_path) as spool:
        assert spool.recovered.checkpoint == b"state 2"
        assert spool.recovered.floor_ms is None
        assert spool.recovered.damages == 1
        assert missing(spool) == [3]
        assert spool.append(b"three again", b"", NOW_MS) == 4
        assert batches(spool, range(1, 5)).keys() == {1, 2, 4}


def test_a_torn_header_counts_as_one_frame(tmp_path: Path) -> None:
    """Even its sequence is gone: the next one is not given out again, to be safe."""
    frames = make(tmp_path, 2)
    truncate(frames[1].path, frames[1].start + 20)
    with opened(tmp_path) as spool:
        assert missing(spool) == [2]
        assert spool.append(b"", b"", NOW_MS) == 3


def test_a_destroyed_frame_that_was_sent_sets_the_floor(tmp_path: Path) -> None:
    """It may be billed already: nothing from before it is recorded again."""
    frames = make(tmp_path, 3)
    with opened(tmp_path) as spool:
        send(spool, 3)
    flip(frames[2].path, frames[2].end - 1)
    with opened(tmp_path) as spool:
        assert spool.recovered.checkpoint == b"state 2"
        assert spool.recovered.floor_ms == NOW_MS + 3
        assert missing(spool) == [3]


def test_a_frame_that_vanished_whole_is_missed_if_it_was_sent(tmp_path: Path) -> None:
    """Truncated at a frame's border the file looks sound; the head knows better."""
    frames = make(tmp_path, 3)
    with opened(tmp_path) as spool:
        send(spool, 3)
        spool.ack(3)
    frames[2].path.unlink()
    with opened(tmp_path) as spool:
        assert spool.recovered.damages == 0
        assert spool.recovered.floor_ms == NOW_MS + 3
        assert spool.append(b"", b"", NOW_MS) == 4


def test_a_segment_lost_whole_with_all_its_frames(tmp_path: Path) -> None:
    """Nothing but the head is left: no checkpoint, but a floor and the next sequence."""
    frames = make(tmp_path, 2)
    with opened(tmp_path) as spool:
        send(spool, 1)
        send(spool, 2)
    zero(frames[0].path, 0, SEGMENT_BYTES)
    with opened(tmp_path) as spool:
        assert (spool.recovered.checkpoint, spool.recovered.floor_ms) == (None, NOW_MS + 2)
        assert missing(spool) == [1, 2]
        assert spool.append(b"", b"", NOW_MS) == 3


# Frames before it ------------------------------------------------------------------------


def test_a_flipped_bit_costs_one_frame(tmp_path: Path) -> None:
    """The frames before and after it are whole, and what lay there is kept aside."""
    frames = make(tmp_path, 5)
    flip(frames[1].path, frames[1].start + 200)
    with opened(tmp_path) as spool:
        assert batches(spool, range(1, 6)).keys() == {1, 3, 4, 5}
        assert spool.recovered.checkpoint == b"state 5"
        assert spool.recovered.floor_ms is None
        assert list(spool.missing()) == [Missing(first=2, last=2, reason=DAMAGED)]
    kept = list((tmp_path / "damaged").iterdir())
    assert [path.stat().st_size for path in kept] == [frames[1].end - frames[1].start]


def test_damage_that_was_acked_is_nobodys_loss(tmp_path: Path) -> None:
    """What the aggregator holds needs no declaration."""
    frames = make(tmp_path, 5)
    with opened(tmp_path) as spool:
        spool.ack(2)
    zero(frames[0].path, frames[0].start, frames[1].end)
    with opened(tmp_path) as spool:
        assert missing(spool) == []
        assert batches(spool, range(1, 6)).keys() == {3, 4, 5}


def test_damage_is_reported_the_same_at_every_start(tmp_path: Path) -> None:
    """Starting again finds the same holes, and makes no second copy."""
    frames = make(tmp_path, 5)
    flip(frames[3].path, frames[3].start)
    found: list[object] = []
    for _ in range(2):
        with opened(tmp_path) as spool:
            found.append((missing(spool), spool.last_sequence, spool.recovered))
    assert found[0] == found[1]
    assert len(list((tmp_path / "damaged").iterdir())) == 1


def test_a_damaged_segment_takes_no_more_frames(tmp_path: Path) -> None:
    """After damage the next frame goes to a new file; both are read at the next start."""
    frames = make(tmp_path, 1)
    flip(frames[0].path, frames[0].start + 50)
    with opened(tmp_path) as spool:
        spool.append(b"after", b"state", NOW_MS)
        assert len(list(tmp_path.glob("*.seg"))) == 2
    with opened(tmp_path) as spool:
        assert batches(spool, range(1, 3)) == {2: b"after"}
        assert missing(spool) == [1]
        assert spool.recovered.checkpoint == b"state"


def test_damage_whose_copy_cannot_be_kept_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk has no room for evidence."""
    frames = make(tmp_path, 3)
    flip(frames[0].path, frames[0].start)

    def full(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with opened(tmp_path) as spool:
            assert missing(spool) == [1]


def test_a_frame_that_rots_while_the_agent_runs_is_declared(tmp_path: Path) -> None:
    """It was whole at the start; when it is fetched it is not any more."""
    make(tmp_path, 3)
    with opened(tmp_path) as spool:
        first, second, _ = places(spool)
        flip(first.path, first.start + 1)
        flip(second.path, second.end - 1)
        assert spool.fetch(1) == Missing(first=1, last=1, reason=GONE)
        assert isinstance(spool.fetch(2), Missing)
        assert isinstance(spool.fetch(3), StoredBatch)
        assert spool.counters.damages == 2


def test_blocks_that_the_disk_does_not_give_cost_their_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An I/O error in the middle of a segment is damage, not a reason not to start."""
    frames = make(tmp_path, 2)
    pread = os.pread

    def broken(fd: int, length: int, offset: int) -> bytes:
        block = range(4096, 8192)
        name = Path(f"/proc/self/fd/{fd}").readlink().name
        if name.endswith(".seg") and offset < block.stop and offset + length > block.start:
            raise OSError(errno.EIO, "bad block")
        return pread(fd, length, offset)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", broken)
        with opened(tmp_path) as spool:
            assert frames[0].end < 8192
            assert missing(spool) == [1, 2] or missing(spool) == [1]


# The head --------------------------------------------------------------------------------


def test_a_power_cut_loses_no_durable_mark(tmp_path: Path) -> None:
    """Without the hot slot the acked position is the one that deleting made durable."""
    frames = make(tmp_path / "spool", 5)
    with opened(tmp_path / "spool") as spool:
        spool.ack(4)
    with opened(tmp_path / "spool") as spool:
        spool.ack(5)
        after = copied(tmp_path / "spool", tmp_path / "after")
    lose_hot_slot(after)
    with opened(after) as spool:
        assert spool.acked_through == 4
        assert len(batches(spool, range(1, 6))) == len(frames)


@pytest.mark.parametrize("slot", [0, 1, 2])
def test_any_one_slot_may_be_lost(tmp_path: Path, slot: int) -> None:
    """Whichever it is, the stream goes on and at most the last marks are older."""
    make(tmp_path, 3)
    with opened(tmp_path) as spool:
        stream_id = spool.stream_id
        spool.ack(2)
    zero(tmp_path / "head", slot * 4096, (slot + 1) * 4096)
    with opened(tmp_path) as spool:
        assert spool.stream_id == stream_id
        assert spool.acked_through == 2


def test_a_torn_durable_write_leaves_the_one_before(tmp_path: Path) -> None:
    """The slots take turns: power may fail in the middle of either."""
    mark = Mark(stream_id=bytes(16))
    head = Head.create(tmp_path / "head", mark)
    whole = [(tmp_path / "head").read_bytes()]
    for acked_through in range(1, 5):
        head.store(replace(mark, acked_through=acked_through))
        whole.append((tmp_path / "head").read_bytes())
    head.close()
    for acked_through, (before, after) in enumerate(pairwise(whole)):
        changed = next(at for at in range(len(after)) if before[at] != after[at])
        torn = after[: changed + 9] + before[changed + 9 :]
        (tmp_path / "torn").write_bytes(torn)
        opened_head = Head.open(tmp_path / "torn")
        assert opened_head is not None
        assert opened_head.mark.acked_through == acked_through
        opened_head.close()


@pytest.mark.parametrize("how", ["removed", "emptied", "cut"])
def test_a_lost_head_costs_no_frame(tmp_path: Path, how: str) -> None:
    """The segments tell which stream this is; everything kept is sent again."""
    frames = make(tmp_path, 3)
    with opened(tmp_path) as spool:
        stream_id = spool.stream_id
        spool.ack(3)
    flip(frames[2].path, 0)  # and the newest segment's label with it
    head = tmp_path / "head"
    if how == "removed":
        head.unlink()
    else:
        truncate(head, 0 if how == "emptied" else 5)
    with opened(tmp_path) as spool:
        assert spool.stream_id == stream_id
        assert spool.acked_through == 0
        assert batches(spool, range(1, 4)).keys() == {1, 2, 3}


def test_when_nothing_tells_the_stream_it_is_a_new_one(tmp_path: Path) -> None:
    """Head and all labels lost: the frames cannot be trusted and are set aside."""
    frames = make(tmp_path, 3)
    (tmp_path / "head").unlink()
    flip(frames[0].path, 3)
    truncate(frames[2].path, 10)
    with opened(tmp_path) as spool:
        assert batches(spool, range(1, 4)) == {}
        assert spool.recovered.checkpoint is None
        assert spool.append(b"", b"", NOW_MS) > 0


# Fuzz ------------------------------------------------------------------------------------


def check_after_damage(
    directory: Path, before: dict[int, bytes], hurt: set[int], sent_through: int
) -> None:
    """The claims that hold after any damage to segments."""
    whole = before.keys() - hurt
    newest = max(whole, default=0)
    with opened(directory) as spool:
        assert batches(spool, before) == {number: before[number] for number in whole}
        destroyed = {number for number in hurt if number <= max(newest, sent_through)}
        assert destroyed <= set(missing(spool))
        assert not whole & set(missing(spool))
        expected = b"state %d" % newest if whole else None
        assert spool.recovered.checkpoint == expected
        assert (spool.recovered.floor_ms is not None) == (sent_through > newest)
        following = spool.append(b"after", b"state after", NOW_MS)
        assert following > max(newest, sent_through)
    with opened(directory) as spool:
        assert spool.recovered.checkpoint == b"state after"
        assert batches(spool, [following]) == {following: b"after"}


@pytest.fixture
def memory_path() -> Iterator[Path]:
    """A directory that no disk slows down, for thousands of spools."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        yield Path(folder)


def test_every_single_byte_may_be_wrong(memory_path: Path) -> None:
    """Flip, cut or zero at every offset of a small spool: only the frames hit are lost."""
    origin = memory_path / "origin"
    with opened(origin) as spool:
        for number in range(1, 5):
            spool.append(b"batch %d" % number, b"state %d" % number, NOW_MS + number)
        frames, before = places(spool), batches(spool, range(1, 5))
        send(spool, 3)
    name, origin_data = frames[0].path.name, frames[0].path.read_bytes()
    chance = random.Random(1)
    for offset in range(frames[-1].end):
        for kind in ("flip", "cut", "zero"):
            victim = copied(origin, memory_path / "copy") / name
            if kind == "flip":
                flip(victim, offset, 1 << chance.randrange(8))
            elif kind == "cut":
                truncate(victim, offset)
            else:
                zero(victim, offset, offset + 64)
            data = victim.read_bytes()
            hurt = {
                frame.sequence
                for frame in frames
                if data[frame.start : frame.end] != origin_data[frame.start : frame.end]
            }
            check_after_damage(victim.parent, before, hurt, sent_through=3)


def harm(place: Place, kind: str, where: float, length: int) -> None:
    """Hurt the file of a frame, somewhere in that frame."""
    offset = place.start + int(where * (place.end - place.start))
    if kind == "cut":
        truncate(place.path, offset)
    elif kind == "zero":
        zero(place.path, offset, offset + length)
    elif offset < place.path.stat().st_size:
        flip(place.path, offset)


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(min_value=0, max_value=9_000), min_size=1, max_size=8),
    harms=st.lists(
        st.tuples(
            st.sampled_from(["flip", "cut", "zero"]),
            st.integers(min_value=0),
            st.floats(min_value=0, max_value=0.999),
            st.integers(min_value=1, max_value=5_000),
        ),
        min_size=1,
        max_size=3,
    ),
    sent=st.integers(min_value=0, max_value=8),
)
def test_any_damage_costs_only_what_it_hit(
    sizes: list[int], harms: list[tuple[str, int, float, int]], sent: int
) -> None:
    """Several segments, several wounds: the frames not hit are all there."""
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        with opened(directory) as spool:
            for number, size in enumerate(sizes, start=1):
                spool.append(os.urandom(size), b"state %d" % number, NOW_MS + number)
                if number <= sent:
                    send(spool, number)
            frames, before = places(spool), batches(spool, range(1, len(sizes) + 1))
        origin = {place.path: place.path.read_bytes() for place in frames}
        for kind, index, where, length in harms:
            harm(frames[index % len(frames)], kind, where, length)
        hurt = {
            place.sequence
            for place in frames
            if place.path.read_bytes()[place.start : place.end]
            != origin[place.path][place.start : place.end]
        }
        check_after_damage(directory, before, hurt, min(sent, len(sizes)))
