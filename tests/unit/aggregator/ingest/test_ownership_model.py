"""Many lives of one node, in a model of the aggregator around the real decisions.

Streams define a run, tell windows of it, end up as copies, come back, and their
connections learn late of what moved. Whatever they do, each millisecond of the run is
taken at most once; what is not taken is set aside, which happens to what one of two living
agents told while the other one had the run.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from uuid import UUID

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.ingest.claim import FOREVER_MS
from aggregator.ingest.columns import Columns
from aggregator.ingest.decode import Decoded
from aggregator.ingest.floors import part
from aggregator.ingest.session import Identity, Session
from aggregator.ingest.settle import BatchItem, Mark, settle
from aggregator.model import NodeId, StreamId


@dataclass
class Model:
    """What is durable: marks, the owner of the run, its floor, and every millisecond taken."""

    marks: dict[StreamId, Mark] = field(default_factory=dict[StreamId, Mark])
    hellos: dict[StreamId, int] = field(default_factory=dict[StreamId, int])
    owner: StreamId | None = None
    floor_ms: int = 0
    taken: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    foreign: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    """Set aside since another stream had the run."""

    def hello(self, stream_id: StreamId) -> Session:
        """Welcome a connection."""
        before = self.marks.get(stream_id, Mark(epoch=0, acked_through=0))
        mark = self.marks[stream_id] = replace(before, epoch=before.epoch + 1)
        self.hellos[stream_id] = max(self.hellos.values(), default=0) + 1
        identity = Identity(
            stream_id=stream_id, epoch=mark.epoch, node_id=NodeId(1), node="n", cluster="c",
            address="::1", hello=self.hellos[stream_id],
        )  # fmt: skip
        expected = mark.acked_through + 1
        return Session(identity=identity, expected=expected, seizures=mark.seizures)

    def tell(self, session: Session, start_ms: int, end_ms: int, *, defines: bool) -> bool:
        """Store one window; whether the connection goes on.

        A batch that is asked for again comes with its definitions.
        """
        item = self._item(session, start_ms, end_ms)
        result = settle([item], self.marks, {})
        stream_id = session.identity.stream_id
        if result.outdated:
            session.rewind(result.acked_through[stream_id], result.seizures[stream_id])
            return self.tell(session, start_ms, end_ms, defines=True)
        if not result.taken:
            return False
        if defines:
            self._claim(session)
        floor_ms = self.floor_ms if self.owner == stream_id else FOREVER_MS
        self._take(item, session.floors.get(1, 0) if not defines else floor_ms)
        if defines:
            session.floors[1] = floor_ms
        mark = self.marks[stream_id]
        self.marks[stream_id] = replace(mark, acked_through=result.acked_through[stream_id])
        session.expected += 1
        return True

    def _claim(self, session: Session) -> None:
        identity = session.identity
        if self.owner is None:
            self.owner = identity.stream_id
        elif self.owner != identity.stream_id and self.hellos[self.owner] < identity.hello:
            mark = self.marks[self.owner]
            self.marks[self.owner] = replace(mark, seizures=mark.seizures + 1)
            self.owner = identity.stream_id
            self.floor_ms = max((end_ms for _, end_ms in self.taken), default=0)

    def _item(self, session: Session, start_ms: int, end_ms: int) -> BatchItem:
        one = np.array([end_ms - start_ms], dtype=np.int64)
        columns = Columns(
            numbers=[1], meter=np.array([0], dtype=np.intp),
            started_at_ms=np.array([start_ms], dtype=np.int64), length_ms=one,
            allocated=one, used=one, effective=one, observed_ms=one,
        )  # fmt: skip
        decoded = Decoded(sequence=session.expected, digest=b"d", columns=columns)
        return BatchItem(session=session, decoded=decoded, raw=b"", seizures=session.seizures)

    def _take(self, item: BatchItem, floor_ms: int) -> None:
        assert item.decoded.columns is not None
        good, aside = part(item.decoded.columns, {1: floor_ms})
        if floor_ms == FOREVER_MS:
            self.foreign += zip(
                aside.started_at_ms.tolist(), aside.ended_at_ms.tolist(), strict=True
            )
        self.taken += zip(good.started_at_ms.tolist(), good.ended_at_ms.tolist(), strict=True)


@dataclass
class Teller:
    """An agent: how far it has told the run, by what its own spool says."""

    stream_id: StreamId
    told_ms: int = 0
    session: Session | None = None
    has_defined: bool = False


steps = st.lists(
    st.tuples(
        st.sampled_from(["tell", "tell", "reconnect", "fresh", "roll back", "return"]),
        st.integers(0, 5),
        st.integers(1, 50),
    ),
    max_size=40,
)


@settings(max_examples=100)
@given(steps=steps)
def test_each_millisecond_is_taken_once_whoever_tells_it(
    steps: Sequence[tuple[str, int, int]],
) -> None:
    """Several agents with one identity; at the end one tells everything up to now."""
    model, now_ms = Model(), 0
    tellers = [Teller(StreamId(UUID(int=1)))]
    for what, which, amount in steps:
        now_ms += amount
        teller = tellers[which % len(tellers)]
        if what in {"fresh", "roll back"}:  # a new stream tells again what it knows of
            known_ms = 0 if what == "fresh" else teller.told_ms // 2
            tellers.append(Teller(StreamId(UUID(int=len(tellers) + 1)), told_ms=known_ms))
        elif what == "tell":
            _tell(model, teller, now_ms)
        else:
            teller.session = None
    _tell(model, Teller(StreamId(UUID(int=len(tellers) + 1))), now_ms + 1)
    covered = sorted(model.taken)
    assert all(end <= start for (_, end), (start, _) in pairwise(covered))
    known = {at for start, end in [*covered, *model.foreign] for at in range(start, end)}
    assert known == set(range(now_ms + 1)), "nothing vanishes"


def _tell(model: Model, teller: Teller, now_ms: int) -> None:
    if teller.session is None:
        teller.session, teller.has_defined = model.hello(teller.stream_id), False
    if teller.told_ms < now_ms:
        is_on = model.tell(teller.session, teller.told_ms, now_ms, defines=not teller.has_defined)
        teller.has_defined = is_on
        if is_on:
            teller.told_ms = now_ms
        else:
            teller.session = None
