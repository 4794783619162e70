"""Decides what a group of messages does to the marks of their streams. Pure.

Exactly once rests on this: a sequence is taken if it is the next after the mark of its
stream and its connection is the newest; a sequence at or below the mark was taken
before, and its digest says whether this is the same one again. A stream without a mark is
no older connection's: its node is to say Hello again, and keeps what it holds.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from aggregator.ingest.decode import Decoded
from aggregator.ingest.session import Session
from aggregator.model import StreamId


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchItem:
    """A batch to be taken."""

    session: Session
    decoded: Decoded
    raw: bytes
    """The Batch as it came, should the database refuse it."""
    seizures: int = 0
    """Those that its session knew of when it was decoded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RepeatItem:
    """A batch whose sequence was received before; `decoded` holds it set aside as a whole."""

    session: Session
    decoded: Decoded


@dataclass(frozen=True, slots=True, kw_only=True)
class GapItem:
    """Sequences that the node can never send."""

    session: Session
    first: int
    last: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PulseItem:
    """A sign of life, nothing more."""

    session: Session


Item: TypeAlias = BatchItem | RepeatItem | GapItem | PulseItem
SequenceKey: TypeAlias = tuple[StreamId, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Where a stream stands: the newest connection's epoch, the highest durable sequence."""

    epoch: int
    acked_through: int
    seizures: int = 0
    """How often something of it went on in another stream."""
    forgotten_through: int = 0
    """Digests up to here are deleted: what was durable cannot be told from a conflict."""


@dataclass(slots=True, kw_only=True)
class Settlement:
    """What is to be done, each list in the order of arrival."""

    taken: list[BatchItem] = field(default_factory=list[BatchItem])
    gaps: list[GapItem] = field(default_factory=list[GapItem])
    """Clipped to what was not durable."""
    replayed: list[RepeatItem] = field(default_factory=list[RepeatItem])
    conflicting: list[RepeatItem] = field(default_factory=list[RepeatItem])
    fenced: list[Item] = field(default_factory=list[Item])
    forgotten: list[Item] = field(default_factory=list[Item])
    """The database was emptied or replaced since the Hello: it has no such stream."""
    outdated: list[BatchItem] = field(default_factory=list[BatchItem])
    """Decoded with knowledge of what is another stream's by now."""
    seizures: dict[StreamId, int] = field(default_factory=dict[StreamId, int])
    """What the sessions of the outdated are to know."""
    astray: list[Item] = field(default_factory=list[Item])
    """Not the next sequence, though it was when it was received: the connection is lost."""
    answered: list[Item] = field(default_factory=list[Item])
    """All that is durable now, whether by this or by an earlier time: to be acked."""
    acked_through: dict[StreamId, int] = field(default_factory=dict[StreamId, int])
    """Where the mark of each stream stands afterwards."""
    moved: set[StreamId] = field(default_factory=set[StreamId])
    """The streams whose mark is another than before."""


def repeats(items: Iterable[Item]) -> list[SequenceKey]:
    """The sequences whose digests `settle` will want to know."""
    return [
        (item.session.identity.stream_id, item.decoded.sequence)
        for item in items
        if isinstance(item, RepeatItem)
    ]


def settle(
    items: Iterable[Item], marks: Mapping[StreamId, Mark], digests: Mapping[SequenceKey, bytes]
) -> Settlement:
    """Walk the items in the order of their arrival and move the marks along.

    `digests`: those known of the sequences that `repeats` names.
    """
    result = Settlement()
    seen = dict(digests)
    for item in items:
        stream_id = item.session.identity.stream_id
        mark = marks.get(stream_id)
        if mark is None:
            result.forgotten.append(item)
        elif mark.epoch != item.session.identity.epoch:
            result.fenced.append(item)
        else:
            result.acked_through.setdefault(stream_id, mark.acked_through)
            _settle_one(item, mark, result, seen)
    return result


def _settle_one(item: Item, mark: Mark, result: Settlement, seen: dict[SequenceKey, bytes]) -> None:
    match item:
        case BatchItem() if item.seizures != mark.seizures:
            result.outdated.append(item)
            result.seizures[item.session.identity.stream_id] = mark.seizures
        case BatchItem():
            _settle_batch(item, result, seen)
        case RepeatItem():
            _settle_repeat(item, mark, result, seen)
        case GapItem():
            _settle_gap(item, result)
        case PulseItem():
            pass


def _settle_batch(item: BatchItem, result: Settlement, seen: dict[SequenceKey, bytes]) -> None:
    stream_id, sequence = item.session.identity.stream_id, item.decoded.sequence
    if sequence != result.acked_through[stream_id] + 1:
        result.astray.append(item)
        return
    result.taken.append(item)
    result.answered.append(item)
    _move(result, stream_id, sequence)
    seen[stream_id, sequence] = item.decoded.digest


def _settle_repeat(
    item: RepeatItem, mark: Mark, result: Settlement, seen: Mapping[SequenceKey, bytes]
) -> None:
    stream_id, sequence = item.session.identity.stream_id, item.decoded.sequence
    if sequence > result.acked_through[stream_id]:
        result.astray.append(item)
        return
    result.answered.append(item)
    digest = seen.get((stream_id, sequence))
    is_forgotten = digest is None and sequence <= mark.forgotten_through
    if is_forgotten or digest == item.decoded.digest:
        result.replayed.append(item)
    else:
        result.conflicting.append(item)


def _settle_gap(item: GapItem, result: Settlement) -> None:
    stream_id = item.session.identity.stream_id
    acked_through = result.acked_through[stream_id]
    if item.first > acked_through + 1:
        result.astray.append(item)
        return
    result.answered.append(item)
    if item.last > acked_through:
        result.gaps.append(replace(item, first=acked_through + 1))
        _move(result, stream_id, item.last)


def _move(result: Settlement, stream_id: StreamId, sequence: int) -> None:
    result.acked_through[stream_id] = sequence
    result.moved.add(stream_id)
