"""A backlog goes several batches a message, and few bytes beside its records are sent for it."""

import hashlib
from collections.abc import Iterable, Sequence

from hypothesis import given
from hypothesis import strategies as st

from agent.backlog import StoredBatch
from agent.uplink.abridge import Abridger
from agent.uplink.terms import Pace
from proto.metering.v1 import metering_pb2 as pb
from tests.unit.agent.aggregators import batches_of
from tests.unit.agent.test_uplink_session import MemoryBacklog, R, Talk, batch, of

FULL = Pace(window_batches=6)


def said(talk: Talk) -> list[list[int]]:
    """The sequences of each message that it wants to send now."""
    messages: list[list[int]] = []
    while message := talk.says():
        messages.append([each.sequence for each in batches_of(message)])
    return messages


# Messages --------------------------------------------------------------------------------


def test_a_backlog_goes_several_batches_a_message() -> None:
    """As many as the aggregator takes and the window has room for."""
    talk = Talk(of(20), FULL).welcome(max_batches=4)
    assert said(talk) == [[1, 2, 3, 4], [5, 6]]
    talk.ack(6)
    assert said(talk) == [[7, 8, 9, 10], [11, 12]]
    assert talk.counters.batches == 12


def test_an_older_aggregator_gets_each_batch_by_itself() -> None:
    """It would not know what to do with several."""
    assert said(Talk(of(3), FULL).welcome()) == [[1], [2], [3]]


def test_a_batch_that_is_there_alone_goes_at_once_as_it_always_did() -> None:
    """Nothing is waited for."""
    talk = Talk(of(1), FULL).welcome(max_batches=4)
    message = talk.says()
    assert message is not None
    assert message.HasField("batch")
    assert message.batch.digest == hashlib.sha256(batch(1)).digest()


def test_an_ack_may_fall_between_the_batches_of_a_message() -> None:
    """They were stored in two transactions; so may a refusal."""
    talk = Talk(of(20), FULL).welcome(max_batches=6)
    assert said(talk) == [[1, 2, 3, 4, 5, 6]]
    talk.ack(2)
    assert said(talk) == [[7, 8]]
    talk.reject(pb.Reject(reason=R.REASON_EXPECTED_SEQUENCE, sequence=7, expected=5))
    assert said(talk) == [[5, 6, 7, 8]]


def test_a_hole_parts_two_messages() -> None:
    """So does what the aggregator could not take, and what is no batch at all."""
    too_large = batch(6, ends=range(1, 500))
    entries: list[bytes | str] = [
        batch(1),
        "gone",
        "gone",
        batch(4),
        batch(5),
        too_large,
        batch(7),
        b"\xff",
        batch(9),
    ]
    talk = Talk(MemoryBacklog(*entries), Pace())
    welcome = pb.Welcome(incarnation="db/1", max_batches=16, max_message_bytes=1_000)
    talk.hears(pb.AggregatorMessage(welcome=welcome))
    messages = [talk.says() for _ in range(7)]
    found = [
        [each.sequence for each in batches_of(one)] or (one.gap.first, one.gap.last)
        for one in messages
        if one
    ]
    assert found == [[1], (2, 3), [4, 5], (6, 6), [7], (8, 8), [9]]


def test_no_message_is_larger_than_what_the_aggregator_takes() -> None:
    """Nor much larger than the pace says."""
    limit = 1_000
    talk = Talk(of(100), Pace())
    welcome = pb.Welcome(incarnation="db/1", max_batches=64, max_message_bytes=limit)
    talk.hears(pb.AggregatorMessage(welcome=welcome))
    messages: list[int] = []
    while message := talk.session.next_message(talk.now):
        messages.append(len(message))
    assert max(messages) <= limit
    assert len(messages) > 1
    small = Talk(of(100), Pace(message_bytes=200)).welcome(max_batches=64)
    assert [len(each) for each in said(small)][:3] == [3, 3, 3]


def test_the_last_batch_of_a_message_is_marked_before_it_is_sent() -> None:
    """That says so of all before it."""
    talk = Talk(of(5), FULL).welcome(max_batches=4)
    talk.says()
    assert talk.backlog.sent == [4]


# Definitions -----------------------------------------------------------------------------


def test_definitions_that_are_not_acked_are_not_repeated_without_end() -> None:
    """A node of many runs begins with a message or two, and sends the rest without them."""
    talk = Talk(of(30), Pace(first_definitions=10)).welcome(max_batches=64)
    assert said(talk) == [[1, 2, 3, 4]]
    talk.ack(1)
    (message,) = [talk.says()]
    assert message is not None
    assert [each.sequence for each in batches_of(message)] == [*range(5, 31)]
    assert not any(each.runs or each.meters for each in batches_of(message))


def stored(sequence: int, runs: Iterable[int], ends: Iterable[int] = ()) -> StoredBatch:
    """A frame of these runs, with a meter each."""
    runs = sorted(runs)
    content = pb.Batch(
        sequence=sequence,
        runs=[pb.Run(number=run, key=f"run{run}") for run in runs],
        meters=[pb.Meter(number=10 * run, run=run, type="cpu") for run in runs],
        run_ends=[pb.RunEnd(run=run, ended_at_ms=7) for run in sorted(ends)],
    )
    if runs:
        content.records.meter.extend(10 * run for run in runs)
    return StoredBatch(sequence=sequence, at_ms=0, batch=content.SerializeToString())


Frames = Sequence[tuple[set[int], set[int], bool, bool]]
RUNS = st.sets(st.integers(1, 4))


@given(st.lists(st.tuples(RUNS, RUNS, st.booleans(), st.booleans()), max_size=40))
def test_what_is_sent_is_what_is_stored_but_for_what_is_known(frames: Frames) -> None:
    """Whatever changes between two batches, and whichever is acked or forgotten in between."""
    abridger = Abridger()
    for place, (runs, ends, is_acked, is_forgotten) in enumerate(frames):
        known = set(abridger.known.meters_of)
        frame = stored(100 * place + 1, runs, ends & runs)
        abridged = abridger.abridge(frame)
        sent, whole = pb.Batch.FromString(abridged.data), pb.Batch.FromString(frame.batch)
        assert sent.digest == hashlib.sha256(frame.batch).digest()
        assert {run.number for run in sent.runs} == runs - known
        assert {meter.run for meter in sent.meters} == runs - known
        for each in (sent, whole):
            each.ClearField("runs")
            each.ClearField("meters")
            each.ClearField("digest")
        assert sent == whole
        if is_acked:
            abridger.known.learn(abridged.named)
            assert set(abridger.known.meters_of) == (known | runs) - (ends & runs)
        if is_forgotten:
            abridger.known.forget()


def test_definitions_that_stand_elsewhere_are_found() -> None:
    """The wire's order is nobody's promise: what is not as we write it is parsed."""
    abridger = Abridger()
    abridger.known.learn(abridger.abridge(stored(1, {1, 2})).named)
    whole = stored(2, {1, 2}).batch
    turned = whole[2:] + whole[:2]
    abridged = abridger.abridge(StoredBatch(sequence=2, at_ms=0, batch=turned))
    sent = pb.Batch.FromString(abridged.data)
    assert (sent.sequence, len(sent.runs), len(sent.meters)) == (2, 0, 0)
    assert list(sent.records.meter) == [10, 20]
    assert sent.digest == hashlib.sha256(turned).digest()
