"""The marks decide: each sequence is taken once, in order, from the newest connection."""

from itertools import pairwise
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from aggregator.ingest.decode import Decoded
from aggregator.ingest.session import Identity, Session
from aggregator.ingest.settle import (
    BatchItem,
    GapItem,
    Item,
    Mark,
    PulseItem,
    RepeatItem,
    repeats,
    settle,
)
from aggregator.model import NodeId, StreamId

STREAM = StreamId(UUID(int=1))


def session(*, epoch: int = 1, stream_id: StreamId = STREAM) -> Session:
    """A connection."""
    identity = Identity(
        stream_id=stream_id, epoch=epoch, node_id=NodeId(1), node="n", cluster="c", address="::1"
    )
    return Session(identity=identity, expected=1)


def batch(own: Session, sequence: int, digest: bytes = b"a") -> BatchItem:
    """A batch to be taken."""
    decoded = Decoded(sequence=sequence, digest=digest)
    return BatchItem(session=own, decoded=decoded, raw=b"")


def repeat(own: Session, sequence: int, digest: bytes = b"a") -> RepeatItem:
    """A batch that was there before."""
    return RepeatItem(session=own, decoded=Decoded(sequence=sequence, digest=digest))


def marks(acked_through: int = 0, epoch: int = 1) -> dict[StreamId, Mark]:
    """The stream's mark."""
    return {STREAM: Mark(epoch=epoch, acked_through=acked_through)}


def test_batches_in_order_are_taken_and_move_the_mark() -> None:
    """From the mark on."""
    own = session()
    items: list[Item] = [batch(own, 3), batch(own, 4)]
    result = settle(items, marks(2), {})
    assert result.taken == items
    assert result.acked_through == {STREAM: 4}
    assert result.moved == {STREAM}


def test_a_sequence_that_skips_is_not_taken() -> None:
    """Nor what follows it."""
    own = session()
    items: list[Item] = [batch(own, 4), batch(own, 5)]
    result = settle(items, marks(2), {})
    assert result.astray == items
    assert result.moved == set()


def test_what_was_decoded_before_a_takeover_is_asked_for_again() -> None:
    """Its session knew of less than what went on in another stream; the mark stays."""
    own = session()
    items: list[Item] = [batch(own, 3), batch(own, 4)]
    result = settle(items, {STREAM: Mark(epoch=1, acked_through=2, seizures=1)}, {})
    assert result.outdated == items
    assert result.acked_through == {STREAM: 2}
    assert result.seizures == {STREAM: 1}
    assert result.moved == set()


def test_a_repeat_whose_digest_was_deleted_is_acked() -> None:
    """So old a sequence is no conflict because nobody knows any more; a younger one is."""
    own = session()
    old: list[Item] = [repeat(own, 3), repeat(own, 4)]
    result = settle(old, {STREAM: Mark(epoch=1, acked_through=9, forgotten_through=3)}, {})
    assert result.replayed == old[:1]
    assert result.conflicting == old[1:]


def test_an_older_connection_is_fenced() -> None:
    """Whatever it sends."""
    old = session(epoch=1)
    items: list[Item] = [batch(old, 1), PulseItem(session=old)]
    assert settle(items, marks(0, epoch=2), {}).fenced == items


def test_a_stream_that_the_database_lost_is_not_fenced() -> None:
    """Who is fenced gives its backlog up; here it must be sent to the database's successor."""
    own = session()
    items: list[Item] = [batch(own, 1), repeat(own, 1), PulseItem(session=own)]
    result = settle(items, {}, {})
    assert (result.forgotten, result.fenced, result.answered) == (items, [], [])


def test_a_repeat_is_told_from_a_conflict_by_its_digest() -> None:
    """By what is durable, and by what is about to be."""
    own = session()
    first, same, other = batch(own, 1), repeat(own, 1), repeat(own, 1, b"b")
    result = settle([first, same, other], marks(), {})
    assert (result.taken, result.replayed, result.conflicting) == ([first], [same], [other])
    result = settle([same, other], marks(1), {(STREAM, 1): b"a"})
    assert (result.replayed, result.conflicting) == ([same], [other])


def test_a_repeat_of_what_is_not_durable_is_astray() -> None:
    """A restored database forgot it: the node must say Hello and learn the mark."""
    late = repeat(session(), 3)
    result = settle([late], marks(2), {})
    assert result.astray == [late]
    assert result.answered == []


def test_a_sign_of_life_settles_nothing() -> None:
    """It moves no mark."""
    result = settle([PulseItem(session=session())], marks(2), {})
    assert result.acked_through == {STREAM: 2}
    assert result.moved == set()


def test_a_sequence_in_a_declared_gap_conflicts() -> None:
    """The node said that it was lost; what comes now is kept aside."""
    own = session()
    gap = GapItem(session=own, first=1, last=3, reason="")
    late = repeat(own, 2)
    result = settle([gap, late], marks(), {})
    assert result.conflicting == [late]


def test_a_gap_is_clipped_to_what_is_not_durable() -> None:
    """And is acked even if nothing of it is left."""
    own = session()
    old, wide = (
        GapItem(session=own, first=1, last=2, reason=""),
        GapItem(session=own, first=1, last=5, reason=""),
    )
    result = settle([old, wide], marks(2), {})
    assert [(gap.first, gap.last) for gap in result.gaps] == [(3, 5)]
    assert result.answered == [old, wide]
    assert result.acked_through == {STREAM: 5}


def test_a_gap_that_leaves_a_hole_is_not_taken() -> None:
    """The sequences before it may still come."""
    gap = GapItem(session=session(), first=4, last=5, reason="")
    assert settle([gap], marks(2), {}).astray == [gap]


def test_repeats_names_what_settle_needs_to_know() -> None:
    """Nothing else is looked up."""
    own = session()
    assert repeats([batch(own, 9), repeat(own, 3), PulseItem(session=own)]) == [(STREAM, 3)]


@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["next", "repeat", "skip"]), st.binary(min_size=1, max_size=1)),
        max_size=30,
    ),
    cuts=st.sets(st.integers(0, 30)),
)
def test_grouping_changes_nothing(steps: list[tuple[str, bytes]], cuts: set[int]) -> None:
    """Any cut of the same messages into groups takes the same sequences with the same digests."""
    own = session()
    items: list[Item] = []
    sent = 0
    for kind, digest in steps:
        if kind == "next":
            sent += 1
            items.append(batch(own, sent, digest))
        elif kind == "repeat" and sent:
            items.append(repeat(own, sent, digest))
        elif kind == "skip":
            items.append(batch(own, sent + 2, digest))
    together = settle(items, marks(), {})
    durable: dict[int, bytes] = {}
    replayed = conflicting = 0
    through = 0
    edges = sorted({0, len(items), *(cut for cut in cuts if cut < len(items))})
    for start, end in pairwise(edges):
        known = {(STREAM, sequence): digest for sequence, digest in durable.items()}
        part = settle(items[start:end], marks(through), known)
        durable |= {item.decoded.sequence: item.decoded.digest for item in part.taken}
        replayed += len(part.replayed)
        conflicting += len(part.conflicting)
        through = part.acked_through.get(STREAM, through)
    assert durable == {item.decoded.sequence: item.decoded.digest for item in together.taken}
    assert list(durable) == list(range(1, len(durable) + 1))
    assert (replayed, conflicting) == (len(together.replayed), len(together.conflicting))
