"""A stream that is given up: its successor tells what may be missing, and no more."""

from pathlib import Path

import pytest

from agent.errors import SpoolError
from agent.spool import recover
from tests.unit.agent.daemon.bench import Bench, Disk, batches_in, burn
from tests.unit.agent.nodes import MEM, START_MS, job, total
from tests.unit.agent.spools import flip, places


def lose_stream(bench: Bench) -> None:
    """Let the uplink say that the stream must be given up."""
    bench.link.lost_stream = "the aggregator holds sequence 9"
    bench.link.calls.clear()


def test_a_lost_stream_is_replaced_and_all_that_may_be_missing_is_told_again(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """The new one begins with the frames that are not acked, and the agent goes on in it."""
    burn(bench, 130)
    old = bench.spool.stream_id
    bench.spool.ack(1)
    lose_stream(bench)
    burn(bench, 60)
    assert bench.spool.stream_id != old
    assert "resume" in bench.link.calls
    (told,) = [one for one in caplog.records if getattr(one, "action", "") == "new_stream"]
    assert told.__dict__["told_again"] == 2
    bench.kill()
    burn(bench, 60)
    bench.finish()
    bench.spool, bench.daemon = bench.start()
    records = bench.records()
    assert [batch.sequence for batch in batches_in(bench.spool)][:3] == [1, 2, 3]
    assert total(records, "length_ms") == 250_000, "definitions alone were acked"
    assert total(records, "used") == 250 * 250_000


def test_holes_of_a_lost_stream_are_declared_in_the_new_one(bench: Bench) -> None:
    """What was destroyed in its backlog is a gap there as well."""
    burn(bench, 190)
    third = places(bench.spool)[2]
    flip(third.path, third.end - 1)
    bench.kill()
    lose_stream(bench)
    burn(bench, 10)
    (gap,) = bench.spool.missing()
    assert (gap.first, gap.last) == (3, 3)
    bench.kill()
    (gap,) = bench.spool.missing()
    assert (gap.first, gap.last) == (3, 3)


def test_a_draft_that_waited_for_room_in_a_lost_stream_is_told_in_the_new_one(
    bench: Bench, disk: Disk
) -> None:
    """On a full disk the old stream stays until there is room; nothing is lost."""
    burn(bench, 50)
    disk.fill()
    burn(bench, 30)
    old = bench.spool.stream_id
    lose_stream(bench)
    burn(bench, 30)
    assert bench.spool.stream_id == old
    assert bench.link.lost_stream is not None
    disk.empty()
    burn(bench, 60)
    assert bench.spool.stream_id != old
    bench.finish()
    bench.spool, bench.daemon = bench.start()
    assert total(bench.records(), "length_ms") == 170_000
    assert total(bench.records(), "used") == 250 * 170_000


@pytest.mark.parametrize("killed_at", ["move_aside", "begin_with"])
def test_a_kill_between_two_streams_leaves_the_new_one_whole(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, killed_at: str
) -> None:
    """The head says which of them counts; what it has to tell is there before."""
    burn(bench, 130)

    def killed(_path: Path) -> Path:
        raise SpoolError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(recover, killed_at, killed)
        lose_stream(bench)
        with pytest.raises(SpoolError, match="killed"):
            bench.look(0)
    bench.kill()
    assert total(bench.records(), "length_ms") == 120_000


def test_a_kill_before_the_new_stream_counts_leaves_the_old_one(bench: Bench) -> None:
    """What was prepared for it is dropped."""
    burn(bench, 130)
    prepared = bench.directory / "next"
    prepared.write_bytes(b"half")
    bench.kill()
    assert total(bench.records(), "length_ms") == 120_000
    assert not (bench.directory / "next").exists()


def test_a_copy_on_another_machine_tells_and_ends_nothing_of_the_original(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """It sets the spool aside before it connects, and meters its own jobs from its own boot."""
    burn(bench, 130)
    old = bench.spool.stream_id
    bench.machine_id = "machine-2"
    bench.time.reboot("boot-2")
    bench.provider.has()
    bench.kill()
    assert bench.spool.stream_id != old
    bench.look()
    assert batches_in(bench.spool) == []
    bench.provider.has(job("own", started_at_ms=START_MS + 130_000))
    bench.look()
    (batch,) = batches_in(bench.spool)
    assert [run.job_id for run in batch.runs] == ["own"]
    (told,) = [one for one in caplog.records if getattr(one, "action", "") == "cloned_spool"]
    assert (told.__dict__["of"], told.__dict__["here"]) == ("machine-1", "machine-2")


def test_after_a_reboot_a_lost_stream_takes_only_what_is_this_lifes(bench: Bench) -> None:
    """It may be the copy of a machine with one id: the runs in it are not ours to end."""
    burn(bench, 130)
    bench.time.reboot("boot-2")
    own = job("own", started_at_ms=START_MS + 130_000)
    bench.provider.has(own)
    bench.kill()
    bench.look()
    assert len(bench.ends()) == 1, "until we know better they ended with the machine"
    bench.sampler.mem[own.key] = 7
    bench.look(60_000)
    lose_stream(bench)
    bench.look(60_000)
    bench.finish()
    bench.spool, bench.daemon = bench.start()
    assert {run.job_id for batch in batches_in(bench.spool) for run in batch.runs} == {"own"}
    assert bench.ends() == []
    assert total(bench.records(MEM), "length_ms") == 130_000


def test_before_the_first_look_after_a_reboot_nothing_of_the_copy_is_told(bench: Bench) -> None:
    """The aggregator may say at once that the stream is another's."""
    burn(bench, 130)
    bench.time.reboot("boot-2")
    bench.provider.has()
    bench.kill()
    lose_stream(bench)
    bench.look()
    bench.look()
    assert batches_in(bench.spool) == []
    assert list(bench.daemon.state.live) == []


def test_a_node_that_was_renamed_tells_nothing_again(bench: Bench) -> None:
    """What may have arrived is billed to the old name; from now on it is the new one's."""
    burn(bench, 130)
    bench.node = "n2"
    bench.kill()
    lose_stream(bench)
    burn(bench, 60)
    bench.finish()
    bench.spool, bench.daemon = bench.start()
    records = bench.records()
    assert records[0].start_ms == START_MS + 140_000
    assert total(records, "length_ms") == 50_000
