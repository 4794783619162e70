"""Full, broken and damaged disks: nothing is lost, and nothing billed again."""

import errno
import os

import pytest

from agent.backlog import StoredBatch
from agent.errors import SpoolError
from tests.unit.agent.daemon.bench import HOUR_MS, Bench, Disk, burn
from tests.unit.agent.nodes import MEM, START_MS, job, total
from tests.unit.agent.spools import flip, places, truncate


def test_a_full_disk_stops_sampling_and_loses_nothing(
    bench: Bench, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    """Logged once; with room again it goes on by itself, CPU to the unit."""
    burn(bench, 50)
    disk.fill()
    burn(bench, 600)
    sampled = len(bench.sampler.sampled)
    burn(bench, 60)
    assert len(bench.sampler.sampled) == sampled
    disk.empty()
    burn(bench, 60)
    bench.finish()
    bench.spool, bench.daemon = bench.start()
    assert total(bench.records(), "length_ms") == 770_000
    assert total(bench.records(), "used") == 250 * 770_000
    mem = bench.records(MEM)
    assert total(mem, "length_ms") == 770_000
    assert total(mem, "observed_ms") <= 770_000 - 600_000 + 2 * 60_000, "the gap is marked"
    assert total(mem, "allocated") == 1_024 * 770_000
    actions = [getattr(record, "action", "") for record in caplog.records]
    assert (actions.count("spool_full"), actions.count("spool_resumed")) == (1, 1)


def test_a_run_that_vanishes_while_the_disk_is_full_ended_when_last_seen(
    bench: Bench, disk: Disk
) -> None:
    """Nobody is sampled, but who lives is still noted."""
    burn(bench, 60)
    disk.fill()
    burn(bench, 120)
    bench.provider.has()
    for _ in range(6):
        bench.look()
    disk.empty()
    bench.look()
    assert bench.ends() == [START_MS + 180_000]


def test_an_end_on_a_full_disk_leaves_it_to_the_next_start(bench: Bench, disk: Disk) -> None:
    """What could not be written is accounted for later, from the last frame."""
    burn(bench, 50)
    disk.fill()
    burn(bench, 20)
    bench.finish()
    disk.empty()
    bench.spool, bench.daemon = bench.start()
    burn(bench, 60)
    bench.finish()
    bench.spool, bench.daemon = bench.start()
    assert total(bench.records(), "length_ms") == 130_000
    assert total(bench.records(), "used") == 250 * 130_000


def test_a_step_of_the_clock_waits_while_the_disk_is_full(bench: Bench, disk: Disk) -> None:
    """Windows are closed before the time is moved, or not at all."""
    burn(bench, 20)
    bench.time.step_ms(HOUR_MS)
    disk.fill()
    bench.look()
    bench.look()
    assert bench.daemon.counters.clock_steps == 0
    disk.empty()
    burn(bench, 60)
    bench.finish()
    assert bench.daemon.counters.clock_steps == 1
    bench.spool, bench.daemon = bench.start()
    assert total(bench.records(), "length_ms") == 100_000


def test_a_disk_that_fails_ends_the_agent_and_loses_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service manager starts it again; it goes on from the last frame."""
    burn(bench, 50)

    def broken(_fd: int) -> None:
        raise OSError(errno.EIO, "broken")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", broken)
        with pytest.raises(SpoolError):
            burn(bench, 60)
    bench.kill()
    burn(bench, 60)
    bench.finish()
    bench.spool, bench.daemon = bench.start()
    assert total(bench.records(), "used") == bench.sampler.cpu[job().key]


def test_damage_at_the_start_is_told(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """Which sequences are destroyed goes to the log, and to the aggregator."""
    burn(bench, 200)
    second = places(bench.spool)[1]
    flip(second.path, second.end - 1)
    bench.kill()
    (gap,) = [record for record in caplog.records if getattr(record, "action", "") == "gap"]
    assert (gap.__dict__["first"], gap.__dict__["last"]) == (2, 2)


def test_a_destroyed_newest_frame_that_was_sent_is_not_billed_again(bench: Bench) -> None:
    """What it held is a declared gap: less is billed, never more."""
    burn(bench, 130)
    newest = bench.spool.fetch(bench.spool.last_sequence)
    assert isinstance(newest, StoredBatch)
    bench.spool.mark_sent(newest)
    place = places(bench.spool)[-1]
    flip(place.path, place.end - 1)
    bench.kill()
    burn(bench, 60)
    bench.finish()
    bench.spool, bench.daemon = bench.start()
    lost = {record.start_ms for record in bench.records()}
    assert START_MS + 60_000 not in lost
    assert total(bench.records(), "length_ms") == 190_000 - 60_000
    assert total(bench.records(), "used") == 250 * 130_000


def test_when_all_frames_are_lost_numbers_are_not_used_again(bench: Bench) -> None:
    """The stream goes on, from where it was sent, under numbers nobody has seen."""
    burn(bench, 70)
    for number in range(1, bench.spool.last_sequence + 1):
        stored = bench.spool.fetch(number)
        assert isinstance(stored, StoredBatch)
        bench.spool.mark_sent(stored)
    sent_at_ms = START_MS + 60_000
    truncate(places(bench.spool)[0].path, 100)
    bench.kill()
    burn(bench, 70)
    records = bench.records()
    assert min(record.start_ms for record in records) == sent_at_ms
    assert min(record.meter for record in records) > 1 << 20
