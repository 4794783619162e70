"""The uplink on a real gRPC connection: whatever happens to it, everything arrives once."""

import logging
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.backlog import StoredBatch
from agent.errors import SpoolError, UplinkError
from agent.spool import Spool
from agent.uplink import Uplink
from agent.uplink.terms import Pace
from proto.metering.v1 import metering_pb2 as pb
from tests.unit.agent.aggregators import Aggregator, serving
from tests.unit.agent.spools import NOW_MS, flip, opened, places
from tests.unit.agent.test_uplink_session import IDENTITY, batch

FAST = Pace(base_seconds=0.001, cap_seconds=0.01)


def append(spool: Spool, count: int) -> None:
    """Append batches, each with the sequence that it will have."""
    for _ in range(count):
        spool.append(batch(spool.last_sequence + 1), b"state", NOW_MS)


def until_taken(there: Aggregator, batches: int) -> None:
    there.until(lambda: len(there.batches) == batches)


def until_called(there: Aggregator, calls: int) -> None:
    there.until(lambda: len(there.hellos) >= calls)


@contextmanager
def connected(spool: Spool, port: int, pace: Pace = FAST) -> Generator[Uplink]:
    """An uplink that runs until the end of the block."""
    uplink = Uplink(f"127.0.0.1:{port}", IDENTITY, spool, pace=pace)
    uplink.start()
    try:
        yield uplink
    finally:
        uplink.stop()


@pytest.mark.parametrize("max_batches", [0, 16])
def test_the_backlog_is_sent_in_order_and_acked(tmp_path: Path, max_batches: int) -> None:
    """Everything arrives once, at an older aggregator too; the spool knows it."""
    with opened(tmp_path) as spool, serving(Aggregator(max_batches=max_batches)) as there:
        append(spool, 300)
        with connected(spool, there.port) as uplink:
            there.until(lambda: len(there.batches) == 300)
            assert uplink.stop(drain_seconds=30)
        assert [taken.sequence for taken in there.batches] == list(range(1, 301))
        assert spool.acked_through == 300
        assert uplink.counters.connections == 1
        assert there.hellos[0].last_sequence == 300
        assert there.largest == max(1, max_batches)


def test_what_comes_later_is_sent_when_the_uplink_is_woken(tmp_path: Path) -> None:
    """No polling: an append and a wake."""
    with (
        opened(tmp_path) as spool,
        serving(Aggregator()) as there,
        connected(spool, there.port) as uplink,
    ):
        there.until(lambda: len(there.hellos) == 1)
        for number in range(1, 4):
            append(spool, 1)
            uplink.wake()
            until_taken(there, number)
        assert uplink.is_connected


def test_a_broken_connection_is_made_anew_and_goes_on(tmp_path: Path) -> None:
    """Hung up in the middle, again and again: nothing is lost, nothing taken twice."""
    with opened(tmp_path) as spool, serving(Aggregator(hang_up_after=5)) as there:
        append(spool, 40)
        with connected(spool, there.port) as uplink:
            for calls in range(1, 5):
                until_called(there, calls + 1)
                there.hang_up_after = 5
            there.until(lambda: there.acked_through == 40)
            assert uplink.counters.failures >= 4
        assert [taken.sequence for taken in there.batches] == list(range(1, 41))


def test_an_aggregator_that_is_away_is_waited_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Attempts go on for as long as it takes; the log says it once, not per attempt."""
    caplog.set_level(logging.INFO)
    with serving(Aggregator()) as there:
        port = there.port
    failed = threading.Event()
    with opened(tmp_path) as spool:
        append(spool, 3)
        with connected(spool, port) as uplink:
            while uplink.counters.failures < 3:
                failed.wait(0.001)
            assert not uplink.is_connected
            with serving(Aggregator(port=port)) as again:
                again.until(lambda: again.acked_through == 3)
    actions = [getattr(record, "action", "") for record in caplog.records]
    assert actions.count("connect") == 1
    assert 1 <= actions.count("reconnect") <= 3


def test_a_gap_is_declared_in_its_place(tmp_path: Path) -> None:
    """Destroyed frames do not block the ones after them."""
    with opened(tmp_path) as spool, serving(Aggregator()) as there:
        append(spool, 5)
        second = places(spool)[1]
        flip(second.path, second.end - 1)
        with connected(spool, there.port):
            there.until(lambda: there.acked_through == 5)
        assert [taken.sequence for taken in there.batches] == [1, 3, 4, 5]
        assert [(gap.first, gap.last) for gap in there.gaps] == [(2, 2)]


@pytest.mark.parametrize("max_batches", [0, 16])
def test_a_frame_that_is_never_taken_blocks_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, max_batches: int
) -> None:
    """Found among many under way, kept aside, declared and logged once; the others arrive."""
    there = Aggregator(never_taken={7}, max_batches=max_batches)
    with opened(tmp_path) as spool, serving(there):
        append(spool, 12)
        with connected(spool, there.port) as uplink:
            there.until(lambda: there.acked_through == 12)
        assert [taken.sequence for taken in there.batches] == [*range(1, 7), *range(8, 13)]
        assert [(gap.first, gap.last) for gap in there.gaps] == [(7, 7)]
        assert uplink.counters.refused == spool.counters.refused_frames == 1
        (kept,) = (tmp_path / "refused").iterdir()
        assert kept.read_bytes() == batch(7)
        assert not spool.refuse(99, "there is none")
    refused = [one for one in caplog.records if getattr(one, "action", "") == "refused"]
    assert [one.__dict__["sequence"] for one in refused] == [7]


@pytest.mark.parametrize("is_told", [True, False])
def test_a_frame_larger_than_what_is_taken_blocks_nothing(tmp_path: Path, *, is_told: bool) -> None:
    """Whether the aggregator has said what it takes, or gRPC refuses it unseen."""
    limit = 1_000 if is_told else 0
    there = Aggregator(receive_bytes=1_000, max_message_bytes=limit, max_batches=16)
    with opened(tmp_path) as spool, serving(there):
        append(spool, 3)
        spool.append(batch(4, ends=range(1, 500)), b"state", NOW_MS)
        append(spool, 3)
        with connected(spool, there.port) as uplink:
            there.until(lambda: there.acked_through == 7)
        assert [(gap.first, gap.last) for gap in there.gaps] == [(4, 4)]
        assert {taken.sequence for taken in there.batches} == {1, 2, 3, 5, 6, 7}
        assert uplink.counters.refused == 1


def test_an_idle_node_is_heard(tmp_path: Path) -> None:
    """Heartbeats come while there is nothing else to say."""
    pace = Pace(heartbeat_seconds=0.01)
    with (
        opened(tmp_path) as spool,
        serving(Aggregator()) as there,
        connected(spool, there.port, pace),
    ):
        there.until(lambda: there.heartbeats >= 3)


def test_a_peer_that_does_not_answer_is_left(tmp_path: Path) -> None:
    """The next connection may reach a better one."""
    pace = Pace(base_seconds=0.001, cap_seconds=0.01, answer_seconds=0.05)
    with opened(tmp_path) as spool, serving(Aggregator(is_silent=True)) as there:
        append(spool, 1)
        with connected(spool, there.port, pace):
            there.until(lambda: len(there.hellos) >= 3)
            there.is_silent = False
            there.until(lambda: there.acked_through == 1)


def test_a_busy_aggregator_says_when_to_come_back(tmp_path: Path) -> None:
    """The hint is honoured: the pause is at least as long."""
    refusal = pb.Reject(reason=pb.Reject.REASON_BUSY, retry_after_ms=30)
    with opened(tmp_path) as spool, serving(Aggregator(refusals=[refusal])) as there:
        append(spool, 1)
        with connected(spool, there.port) as uplink:
            there.until(lambda: there.acked_through == 1)
            assert uplink.counters.rejects == 1


def test_a_lost_stream_waits_for_another_one(tmp_path: Path) -> None:
    """The daemon is told, starts a stream, and the uplink goes on with that."""
    lost = threading.Event()
    with opened(tmp_path) as spool, serving(Aggregator(acked_through=9)) as there:
        append(spool, 2)
        old = spool.stream_id
        uplink = Uplink(f"127.0.0.1:{there.port}", IDENTITY, spool, pace=FAST)
        uplink.on_stream_lost = lost.set
        uplink.start()
        assert lost.wait(30)
        assert uplink.lost_stream is not None
        assert "holds sequence 9" in uplink.lost_stream
        spool.start_stream(NOW_MS)
        append(spool, 1)
        there.acked_through = 0
        uplink.resume()
        there.until(lambda: len(there.batches) == 1)
        assert uplink.stop(drain_seconds=30)
        assert [hello.stream_id for hello in there.hellos] == [old, spool.stream_id]
        assert uplink.lost_stream is None


def test_stopping_ends_the_wait_for_another_stream(tmp_path: Path) -> None:
    """An orderly end does not hang on anything."""
    lost = threading.Event()
    with opened(tmp_path) as spool, serving(Aggregator(acked_through=9)) as there:
        uplink = Uplink(f"127.0.0.1:{there.port}", IDENTITY, spool, pace=FAST)
        uplink.on_stream_lost = lost.set
        uplink.start()
        assert lost.wait(30)
        assert uplink.stop(drain_seconds=30)


def test_stopping_with_the_aggregator_away_keeps_the_backlog(tmp_path: Path) -> None:
    """Nobody to drain to: no waiting, nothing lost."""
    with serving(Aggregator()) as there:
        port = there.port
    with opened(tmp_path) as spool:
        append(spool, 2)
        uplink = Uplink(f"127.0.0.1:{port}", IDENTITY, spool, pace=Pace(base_seconds=1_000))
        uplink.start()
        assert not uplink.stop(drain_seconds=1_000)
        assert isinstance(spool.fetch(1), StoredBatch)


def test_stopping_drains_no_longer_than_it_may(tmp_path: Path) -> None:
    """An aggregator that takes and never acks does not hold the agent up."""
    with (
        opened(tmp_path) as spool,
        serving(Aggregator()) as there,
        connected(spool, there.port) as uplink,
    ):
        there.until(lambda: len(there.hellos) == 1)
        while not uplink.is_connected:
            threading.Event().wait(0.001)
        there.is_silent = True
        append(spool, 1)
        assert not uplink.stop(drain_seconds=0.05)


def test_an_uplink_that_never_started_stops(tmp_path: Path) -> None:
    """Nothing was begun."""
    with opened(tmp_path) as spool:
        assert Uplink("127.0.0.1:1", IDENTITY, spool).stop()


def test_a_spool_that_cannot_be_read_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection ends with the reason and the next one sends."""
    with opened(tmp_path) as spool, serving(Aggregator()) as there:
        append(spool, 1)
        fetch, failures = spool.fetch, iter([True, True])

        def failing(sequence: int) -> object:
            if next(failures, False):
                raise SpoolError("the disk does not answer")
            return fetch(sequence)

        monkeypatch.setattr(spool, "fetch", failing)
        with connected(spool, there.port) as uplink:
            there.until(lambda: there.acked_through == 1)
            assert uplink.counters.failures == 2


def test_plain_text_to_another_host_is_refused_at_once(tmp_path: Path) -> None:
    """Before anything is sent."""
    with opened(tmp_path) as spool, pytest.raises(UplinkError, match="not on this host"):
        Uplink("192.0.2.1:50051", IDENTITY, spool)
