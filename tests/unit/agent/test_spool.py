"""The spool: durable before sent, deleted only after acked, never more than once."""

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.backlog import Missing, StoredBatch
from agent.errors import SpoolError
from agent.spool import Spool, disk
from agent.spool.errors import SpoolFullError, SpoolLockedError
from agent.spool.segments import GONE
from tests.unit.agent.spools import flip, places

NOW_MS = 1_700_000_000_000
HOUR_MS = 3_600_000
SEGMENT_BYTES = 16 << 10

Open = Callable[..., Spool]


def noise(length: int) -> bytes:
    """Bytes that do not deflate."""
    return os.urandom(length)


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """Opens spools in one directory; closes what is still open."""
    spools: list[Spool] = []

    def open_spool(
        directory: Path = tmp_path / "spool",
        segment_bytes: int = SEGMENT_BYTES,
        retention_ms: int = 24 * HOUR_MS,
    ) -> Spool:
        spool = Spool(directory, segment_bytes=segment_bytes, retention_ms=retention_ms)
        spools.append(spool)
        return spool

    yield open_spool
    for spool in spools:
        spool.close()


def batch_of(spool: Spool, sequence: int) -> bytes:
    stored = spool.fetch(sequence)
    assert isinstance(stored, StoredBatch)
    assert stored.sequence == sequence
    return stored.batch


def segments_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.glob("*.seg"))


def failing(
    monkeypatch: pytest.MonkeyPatch, call: str, number: int, *, times: int = 1, after: int = 0
) -> list[int]:
    """Let `os.CALL` fail `times` times with errno `number`, after `after` good calls."""
    real = getattr(os, call)
    calls = [0]

    def failing_call(*arguments: object) -> object:
        calls[0] += 1
        if after < calls[0] <= after + times:
            raise OSError(number, os.strerror(number))
        return real(*arguments)

    monkeypatch.setattr(os, call, failing_call)
    return calls


# The queue -------------------------------------------------------------------------------


def test_sequences_are_given_out_without_a_hole_and_survive_a_restart(opened: Open) -> None:
    """What was appended is there after a restart, byte for byte, under its sequence."""
    first = opened()
    stream_id = first.stream_id
    batches = [noise(100), b"", b"x" * 5_000]
    assert [first.append(batch, b"state", NOW_MS) for batch in batches] == [1, 2, 3]
    assert first.fetch(4) is None
    first.close()
    second = opened()
    assert (second.stream_id, second.last_sequence) == (stream_id, 3)
    assert [batch_of(second, sequence) for sequence in (1, 2, 3)] == batches
    assert second.append(b"four", b"", NOW_MS) == 4
    assert len(stream_id) == 16


def test_a_new_spool_is_empty_and_its_stream_its_own(opened: Open, tmp_path: Path) -> None:
    """Two new spools are two streams; nothing is recovered and nothing missing."""
    one, other = opened(), opened(tmp_path / "other")
    assert one.stream_id != other.stream_id
    assert (one.last_sequence, one.acked_through, one.incarnation) == (0, 0, "")
    assert one.recovered.checkpoint is None
    assert one.recovered.floor_ms is None
    assert list(one.missing()) == []


def test_the_newest_checkpoint_comes_back(opened: Open) -> None:
    """The checkpoint recovered is the one stored with the last records."""
    first = opened()
    for number in range(3):
        first.append(b"records", b"state %d" % number, NOW_MS)
    first.close()
    assert opened().recovered.checkpoint == b"state 2"


def test_reading_is_not_acknowledging(opened: Open) -> None:
    """A batch can be fetched again until it is acked, and after."""
    spool = opened()
    spool.append(b"one", b"", NOW_MS)
    assert batch_of(spool, 1) == batch_of(spool, 1) == b"one"
    spool.ack(1)
    spool.prune(NOW_MS)
    assert batch_of(spool, 1) == b"one"


def test_the_acked_position_survives_a_restart_and_never_falls(opened: Open) -> None:
    """Acks may come late and twice; the position is the highest."""
    first = opened()
    for _ in range(3):
        first.append(b"", b"", NOW_MS)
    first.ack(2)
    first.ack(1)
    first.close()
    second = opened()
    assert second.acked_through == 2
    second.ack(99)
    assert second.acked_through == 3


def test_a_restored_database_gets_what_it_lost(opened: Open) -> None:
    """A Welcome behind what was acked moves the position back, with the database's name."""
    spool = opened()
    for _ in range(3):
        spool.append(b"", b"", NOW_MS)
    spool.rewind(0, "first/1")
    spool.ack(3)
    spool.rewind(1, "second/2")
    assert spool.acked_through == 1
    spool.close()
    again = opened()
    assert (again.acked_through, again.incarnation) == (1, "second/2")
    again.rewind(2, "second/2")
    assert again.acked_through == 1


def test_a_rewind_that_cannot_be_made_durable_holds_as_long_as_the_machine(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next Welcome says it again."""
    spool = opened()
    spool.append(b"", b"", NOW_MS)
    spool.ack(1)
    with monkeypatch.context() as patch:
        failing(patch, "fdatasync", errno.EIO, times=9)
        spool.rewind(0, "restored")
    assert (spool.acked_through, spool.incarnation) == (0, "restored")


def test_a_second_agent_is_refused(opened: Open, tmp_path: Path) -> None:
    """Two agents on one spool would give out the same sequences."""
    spool = opened()
    with pytest.raises(SpoolLockedError, match="another agent works on the spool"):
        opened()
    spool.close()
    opened()


def test_a_directory_that_cannot_be_made_is_a_clear_error(opened: Open, tmp_path: Path) -> None:
    """The message names the directory and the reason."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SpoolError, match=r"file/spool cannot be used: .*Not a directory"):
        opened(tmp_path / "file" / "spool")


def test_a_spool_that_cannot_be_read_does_not_stay_locked(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The failure to open is told, and the next attempt is not refused by the first."""
    opened().close()
    with monkeypatch.context() as patch:
        failing(patch, "fstat", errno.EIO)
        with pytest.raises(SpoolError, match="cannot be opened"):
            opened()
    opened()


# Segments and retention ------------------------------------------------------------------


def fill(spool: Spool, frames: int, at_ms: int = NOW_MS, size: int = 6_000) -> None:
    """Append frames of which two fit into a segment."""
    for _ in range(frames):
        spool.append(noise(size), b"", at_ms)


def test_full_segments_are_sealed_and_the_next_one_has_its_room_already(
    opened: Open, tmp_path: Path
) -> None:
    """Each segment's name is its first sequence; a sealed one keeps no unused room."""
    spool = opened()
    fill(spool, 5)
    directory = tmp_path / "spool"
    assert segments_in(directory) == [f"{first:020}.seg" for first in (1, 3, 5)]
    sizes = [(directory / name).stat().st_size for name in segments_in(directory)]
    assert sizes[0] < SEGMENT_BYTES == sizes[2] == (directory / "reserve").stat().st_size
    assert all(isinstance(spool.fetch(sequence), StoredBatch) for sequence in range(1, 6))


def test_a_frame_larger_than_a_segment_gets_one_of_its_own(opened: Open) -> None:
    """Nothing is too large to be kept; an empty segment in its way goes."""
    spool = opened()
    big = noise(3 * SEGMENT_BYTES)
    assert spool.append(big, b"", NOW_MS) == 1
    spool.append(b"small", b"", NOW_MS)
    assert batch_of(spool, 1) == big
    assert batch_of(spool, 2) == b"small"


def test_an_empty_segment_too_small_for_a_frame_gives_way(opened: Open, tmp_path: Path) -> None:
    """A segment begun just before a crash may be too small for what comes next."""
    spool = opened()
    fill(spool, 2)
    with pytest.MonkeyPatch.context() as patch:
        failing(patch, "fdatasync", errno.ENOSPC, after=1)  # the new segment's first frame
        with pytest.raises(SpoolFullError):
            fill(spool, 1)
    big = noise(3 * SEGMENT_BYTES)
    assert spool.append(big, b"", NOW_MS) == 3
    assert batch_of(spool, 3) == big
    spool.close()
    assert batch_of(opened(), 3) == big


def test_only_acked_segments_past_their_time_are_deleted(opened: Open, tmp_path: Path) -> None:
    """Unacked data stays however old; acked data for the retention time."""
    spool = opened()
    fill(spool, 4, NOW_MS)
    fill(spool, 1, NOW_MS + HOUR_MS)
    spool.ack(3)
    spool.prune(NOW_MS + 24 * HOUR_MS)  # not older than the retention time yet
    assert len(segments_in(tmp_path / "spool")) == 3
    spool.prune(NOW_MS + 24 * HOUR_MS + 1)
    assert spool.fetch(1) == Missing(first=1, last=2, reason=GONE)
    assert isinstance(spool.fetch(3), StoredBatch)
    assert spool.counters.deleted_segments == 1


def test_the_newest_frame_stays_whatever_its_age(opened: Open) -> None:
    """It holds the checkpoint; an idle agent must find it after a year."""
    spool = opened()
    fill(spool, 3)
    spool.ack(3)
    spool.prune(NOW_MS + 365 * 24 * HOUR_MS)
    assert isinstance(spool.fetch(2), Missing)
    assert isinstance(spool.fetch(3), StoredBatch)


def test_a_segment_begun_but_empty_does_not_make_the_newest_frame_old(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest frame is in the last segment but one; it is kept all the same."""
    spool = opened()
    fill(spool, 2)
    with monkeypatch.context() as patch:
        failing(patch, "fdatasync", errno.ENOSPC, after=1)  # the new segment's first frame
        with pytest.raises(SpoolFullError):
            fill(spool, 1)
    spool.ack(2)
    spool.prune(NOW_MS + 48 * HOUR_MS)
    assert isinstance(spool.fetch(2), StoredBatch)


def test_nothing_is_deleted_before_the_acked_position_is_durable(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the head cannot be written, nor a new one made, all segments stay."""
    spool = opened()
    fill(spool, 5)
    spool.ack(5)
    failing(monkeypatch, "fdatasync", errno.EIO, times=9)
    with pytest.raises(SpoolError, match="cannot prune"):
        spool.prune(NOW_MS + 48 * HOUR_MS)
    assert len(segments_in(tmp_path / "spool")) == 3
    assert isinstance(spool.fetch(1), StoredBatch)


def test_a_failing_head_is_replaced_from_memory(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An fsync error is fatal for that file, not for the position that it held."""
    spool = opened()
    stream_id = spool.stream_id
    fill(spool, 5)
    spool.ack(4)
    with monkeypatch.context() as patch:
        failing(patch, "fdatasync", errno.EIO)
        spool.prune(NOW_MS + 48 * HOUR_MS)
    spool.ack(5)
    spool.close()
    again = opened()
    assert (again.stream_id, again.acked_through) == (stream_id, 5)
    assert again.counters.mark_errors == 0


def test_a_mark_that_cannot_be_noted_is_kept_in_memory(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Noting is a second line of defence: its failure is counted and stops nothing."""
    spool = opened()
    spool.append(b"", b"", NOW_MS)
    with monkeypatch.context() as patch:
        failing(patch, "pwrite", errno.EIO)
        spool.ack(1)
    assert (spool.acked_through, spool.counters.mark_errors) == (1, 1)
    spool.close()
    assert opened().acked_through == 1


def test_closing_on_a_failing_disk_lets_go_all_the_same(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hot slot says the same as long as the machine lives."""
    spool = opened()
    spool.append(b"", b"", NOW_MS)
    spool.ack(1)
    with monkeypatch.context() as patch:
        failing(patch, "fdatasync", errno.EIO, times=9)
        spool.close()
    assert opened().acked_through == 1


# Disks that fail -------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["pwrite", "fdatasync"])
def test_a_failed_write_goes_to_a_new_file(
    opened: Open, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """After an I/O error the file is not trusted with another frame; none is lost."""
    spool = opened()
    spool.append(b"one", b"", NOW_MS)
    with monkeypatch.context() as patch:
        failing(patch, call, errno.EIO)
        assert spool.append(b"two", b"state", NOW_MS) == 2
    assert spool.append(b"three", b"", NOW_MS) == 3
    assert spool.counters.replaced_segments == 1
    spool.close()
    again = opened()
    assert [batch_of(again, sequence) for sequence in (1, 2, 3)] == [b"one", b"two", b"three"]
    assert again.counters.damages == 0


def test_a_disk_that_fails_for_good_is_told(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """The frame is not acknowledged, and the spool works when the disk does."""
    spool = opened()
    spool.append(b"one", b"", NOW_MS)
    with monkeypatch.context() as patch:
        failing(patch, "fdatasync", errno.EIO, times=99)
        failing(patch, "ftruncate", errno.EIO, times=99)
        with pytest.raises(SpoolError, match="cannot write"):
            spool.append(b"two", b"", NOW_MS)
    assert spool.last_sequence == 1
    assert spool.append(b"two", b"", NOW_MS) == 2
    assert [batch_of(spool, sequence) for sequence in (1, 2)] == [b"one", b"two"]


def test_of_a_sequence_written_twice_the_later_one_counts(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frame that `append` refused may lie on the disk: what came in its place is sent."""
    spool = opened()
    spool.append(b"one", b"", NOW_MS)
    with monkeypatch.context() as patch:
        failing(patch, "fdatasync", errno.EIO, times=9)
        failing(patch, "pwrite", errno.EIO, times=9, after=1)  # it is written, and not wiped
        failing(patch, "ftruncate", errno.EIO, times=9)
        with pytest.raises(SpoolError):
            spool.append(b"refused", b"", NOW_MS)
    assert spool.append(b"taken", b"", NOW_MS) == 2
    spool.close()
    again = opened()
    assert batch_of(again, 2) == b"taken"
    taken = places(again)[-1]
    flip(taken.path, taken.end - 1)
    hole = again.fetch(2)
    assert isinstance(hole, Missing), "nor is the refused one, should the other be destroyed"
    assert (hole.first, hole.last) == (2, 2)


def test_a_first_frame_that_fails_is_written_anew(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The segment that was begun for it makes way for another one of the same name."""
    spool = opened()
    with monkeypatch.context() as patch:
        failing(patch, "fdatasync", errno.EIO, after=1)
        assert spool.append(b"one", b"", NOW_MS) == 1
    fill(spool, 3)
    spool.ack(4)
    spool.prune(NOW_MS + 48 * HOUR_MS)
    assert isinstance(spool.fetch(4), StoredBatch)
    spool.close()
    assert isinstance(opened().fetch(4), StoredBatch)


def test_short_writes_and_reads_are_continued(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel may take or give a part; the frame is whole nevertheless."""
    spool = opened()
    pwrite, pread = os.pwrite, os.pread

    def pwrite_some(fd: int, data: bytes, offset: int) -> int:
        return pwrite(fd, data[:7], offset)

    def pread_some(fd: int, length: int, offset: int) -> bytes:
        return pread(fd, min(5, length), offset)

    monkeypatch.setattr(os, "pwrite", pwrite_some)
    monkeypatch.setattr(os, "pread", pread_some)
    spool.append(b"some records", b"state", NOW_MS)
    assert batch_of(spool, 1) == b"some records"


def test_a_frame_that_cannot_be_read_now_is_not_lost(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An I/O error while reading says nothing about the frame: try again."""
    spool = opened()
    spool.append(b"one", b"", NOW_MS)
    with monkeypatch.context() as patch:
        failing(patch, "pread", errno.EIO)
        with pytest.raises(SpoolError, match="cannot read"):
            spool.fetch(1)
    assert batch_of(spool, 1) == b"one"


# Full disks ------------------------------------------------------------------------------


def test_a_full_disk_drops_nothing_and_resumes_by_itself(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reserve is used up, then `append` says full; with room again it goes on."""
    spool = opened()
    fill(spool, 1)
    with monkeypatch.context() as patch:
        failing(patch, "posix_fallocate", errno.ENOSPC, times=1 << 30)
        fill(spool, 3)  # the rest of the segment, and the reserve
        with pytest.raises(SpoolFullError, match="no room for the spool"):
            fill(spool, 1)
        with pytest.raises(SpoolFullError):
            fill(spool, 1)
        spool.prune(NOW_MS)
    assert spool.counters.full_errors == 2
    fill(spool, 1)
    assert [type(spool.fetch(sequence)) for sequence in range(1, 6)] == [StoredBatch] * 5


def test_a_small_disk_is_used_to_its_end(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a whole segment does not fit, half of one does, or a quarter."""
    fallocate = os.posix_fallocate

    def cramped(fd: int, offset: int, length: int) -> None:
        if length > 40_000:
            raise OSError(errno.ENOSPC, "full")
        fallocate(fd, offset, length)

    monkeypatch.setattr(os, "posix_fallocate", cramped)
    spool = opened(segment_bytes=1 << 20)
    fill(spool, 3)
    assert spool.last_sequence == 3


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_disk_that_is_full_in_spite_of_its_promise(
    opened: Open, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """On a copy-on-write disk the write itself may find no room: the same `SpoolFullError`."""
    spool = opened()
    spool.append(b"one", b"", NOW_MS)
    with monkeypatch.context() as patch:
        failing(patch, "pwrite", number, times=9)
        with pytest.raises(SpoolFullError):
            spool.append(b"two", b"", NOW_MS)
    assert spool.append(b"two again", b"", NOW_MS) == 2
    spool.close()
    again = opened()
    assert batch_of(again, 2) == b"two again"
    assert again.counters.damages == 0


def test_acked_segments_make_room_before_anything_is_refused(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk acked data goes before its time; data that is not acked never does."""
    spool = opened()
    fill(spool, 7)
    spool.ack(4)
    fallocate = os.posix_fallocate
    deleted: list[int] = []

    def full(fd: int, offset: int, length: int) -> None:
        if len(deleted) == spool.counters.deleted_segments:
            raise OSError(errno.ENOSPC, "full")
        deleted.append(length)
        fallocate(fd, offset, length)

    monkeypatch.setattr(os, "posix_fallocate", full)
    fill(spool, 4)  # the reserve, and one for which an acked segment goes
    fill(spool, 2)
    assert spool.counters.deleted_segments == 2
    with pytest.raises(SpoolFullError):
        fill(spool, 3)
    assert isinstance(spool.fetch(4), Missing)
    assert isinstance(spool.fetch(5), StoredBatch)


def test_a_disk_filled_to_the_last_byte(opened: Open, tmp_path: Path) -> None:
    """On a real file system of 1 MB: filled, full, acked, and on it goes."""
    disk_path = tmp_path / "small"
    disk_path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk_path)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"cannot mount a tmpfs here: {mounted.stderr.strip()}")
    try:
        spool = opened(disk_path / "spool", segment_bytes=8 << 20)
        with pytest.raises(SpoolFullError):
            fill(spool, 1_000)
        filled = spool.last_sequence
        assert filled * 6_000 > 800_000, "most of the disk was of use"
        assert list(spool.missing()) == []
        spool.ack(filled // 2)
        fill(spool, 10)
        spool.close()
        again = opened(disk_path / "spool", segment_bytes=8 << 20)
        assert again.last_sequence == filled + 10
        assert list(again.missing()) == []
        again.close()
    finally:
        subprocess.run(["umount", "--lazy", str(disk_path)], check=True)


def test_what_was_set_aside_goes_before_acked_data(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copies of damaged bytes are the first to be shed."""
    spool = opened()
    fill(spool, 3)
    spool.ack(2)
    copies = tmp_path / "spool" / "damaged"
    copies.mkdir()
    (copies / "a.bin").write_bytes(b"damaged")
    with monkeypatch.context() as patch:
        failing(patch, "pwrite", errno.ENOSPC, times=2)  # the write, and wiping it
        fill(spool, 1)
    assert list(copies.iterdir()) == []
    assert isinstance(spool.fetch(1), StoredBatch)


def test_a_segment_that_cannot_be_begun_leaves_no_trace(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its header could not be written: the next attempt begins it again."""
    spool = opened()
    fill(spool, 2)
    with monkeypatch.context() as patch:
        failing(patch, "fdatasync", errno.EIO)
        with pytest.raises(SpoolError):
            fill(spool, 1)
    fill(spool, 1)
    spool.close()
    assert opened().last_sequence == 3


# Streams ---------------------------------------------------------------------------------


def test_a_new_stream_begins_at_one_and_the_old_one_is_kept_aside(
    opened: Open, tmp_path: Path
) -> None:
    """After a clone was detected: other stream, no backlog, and a floor until the next frame."""
    spool = opened()
    old = spool.stream_id
    fill(spool, 3)
    spool.start_stream(NOW_MS + 7)
    assert spool.stream_id != old
    assert (spool.last_sequence, spool.acked_through) == (0, 0)
    spool.close()
    again = opened()
    assert (again.recovered.checkpoint, again.recovered.floor_ms) == (None, NOW_MS + 7)
    assert again.append(b"first", b"state", NOW_MS + 8) == 1
    again.close()
    third = opened()
    assert (third.recovered.checkpoint, third.recovered.floor_ms) == (b"state", None)
    aside = sorted(path.name for path in (tmp_path / "spool" / "aside").iterdir())
    assert aside == [f"{old.hex()}-{first:020}.seg" for first in (1, 3)]


def test_segments_of_a_given_up_stream_are_set_aside_at_the_next_start(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash between the new head and the moving of segments sends nothing twice."""
    spool = opened()
    fill(spool, 3)
    with monkeypatch.context() as patch:
        failing(patch, "mkdir", errno.EIO)
        failing(patch, "rename", errno.EIO, times=9)
        spool.start_stream(NOW_MS)
    spool.close()
    again = opened()
    assert again.last_sequence == 0
    assert again.fetch(1) is None


def test_a_stream_that_cannot_be_started_leaves_the_old_one(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a durable head there is no new stream."""
    spool = opened()
    old = spool.stream_id
    fill(spool, 1)
    with monkeypatch.context() as patch:
        failing(patch, "fdatasync", errno.EIO, times=9)
        with pytest.raises(SpoolError, match="cannot start a stream"):
            spool.start_stream(NOW_MS)
    assert spool.stream_id == old
    assert isinstance(spool.fetch(1), StoredBatch)


def test_only_the_lack_of_room_counts_as_full() -> None:
    """An I/O error is no full disk."""
    assert disk.is_full(OSError(errno.ENOSPC, ""))
    assert not disk.is_full(OSError(errno.EIO, ""))
