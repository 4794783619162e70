"""Takes one message of a welcomed connection: checks what is in it, decodes it, queues it.

What is not the next sequence is not queued: what came before goes to be compared with
what is durable, what skips is refused. After a refusal everything is ignored until the
agent sends what it was told to.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Final, TypeAlias, assert_never

from google.protobuf.message import DecodeError

from aggregator.clock import Clock, to_ms
from aggregator.ingest.answer import refuse
from aggregator.ingest.bulk import decode_plain, is_plain
from aggregator.ingest.commit import Committer
from aggregator.ingest.decode import Decoded, NeedDefinitionsError, decode, refuse_whole
from aggregator.ingest.definition import Fault, TimeBounds
from aggregator.ingest.session import Session
from aggregator.ingest.settle import BatchItem, GapItem, Item, PulseItem, RepeatItem
from aggregator.metrics import Metrics
from aggregator.settings import IngestSettings
from proto.metering.v1 import metering_pb2 as pb

MAX_BATCHES: Final = 64
"""In one message."""

_ITEM_BYTES: Final = 1_024
"""What an item costs beside its message."""
_MAX_SEQUENCE: Final = (1 << 63) - 1
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_MAX_REASON: Final = 1_024
_DAY_MS: Final = 86_400_000

_Received: TypeAlias = tuple[pb.Batch, bytes]
"""A Batch, and its bytes."""


class Receiver:
    """Takes messages of all connections; holds no state of any."""

    def __init__(
        self, committer: Committer, settings: IngestSettings, metrics: Metrics, clock: Clock
    ) -> None:
        """Queue into `committer`."""
        self._committer = committer
        self._settings = settings
        self._metrics = metrics
        self._clock = clock

    async def receive(self, session: Session, raw: bytes) -> None:
        """Take one message; returns when there is room for the next."""
        size_bytes = len(raw) + _ITEM_BYTES
        room = self._committer.room
        if not await room.enter(size_bytes, timeout_seconds=self._settings.busy_after_seconds):
            self._send_away(session)
            return
        items = self._items(session, raw)
        if not items:
            room.leave(size_bytes)
            return
        more_bytes = (len(items) - 1) * _ITEM_BYTES
        room.add(more_bytes)
        self._committer.put(items, size_bytes + more_bytes)

    def _send_away(self, session: Session) -> None:
        session.is_rewinding = True
        refuse(
            session,
            self._metrics,
            pb.Reject.REASON_BUSY,
            sequence=session.expected,
            retry_after_ms=round(self._settings.retry_after_seconds * 1000),
            detail="the database is slower than what arrives",
        )

    def _items(self, session: Session, raw: bytes) -> Sequence[Item]:
        """Give what is to be queued; empty where there is nothing, or it was refused."""
        try:
            message = pb.AgentMessage.FromString(raw)
        except DecodeError:
            self._invalid(session, "the message cannot be parsed")
            return []
        match message.WhichOneof("message"):
            case "batch":
                batch = message.batch
                return self._batch_items(session, [(batch, batch.SerializeToString())])
            case "batches":
                return self._packed_items(session, message.batches.batches)
            case "gap":
                item = self._gap_item(session, message.gap)
                return [item] if item else []
            case "heartbeat":
                return [PulseItem(session=session)]
            case "hello" | None:
                self._invalid(session, "a Batch, a Gap or a Heartbeat was expected")
                return []
            case unreachable:
                assert_never(unreachable)

    def _packed_items(self, session: Session, raws: Sequence[bytes]) -> Sequence[Item]:
        if not 0 < len(raws) <= MAX_BATCHES:
            self._invalid(session, f"1 to {MAX_BATCHES} batches in one message, not {len(raws)}")
            return []
        try:
            batches = [(pb.Batch.FromString(raw), raw) for raw in raws]
        except DecodeError:
            self._invalid(session, "a batch cannot be parsed")
            return []
        return self._batch_items(session, batches)

    def _batch_items(self, session: Session, batches: Sequence[_Received]) -> Sequence[Item]:
        """Take batches, what is plain together, each as if it had come by itself."""
        items: list[Item] = []
        for may_be_plain, group in groupby(batches, lambda received: is_plain(received[0])):
            received = list(group)
            together = self._plain_items(session, received) if may_be_plain else None
            items += self._items_apart(session, received) if together is None else together
        return items

    def _plain_items(self, session: Session, batches: Sequence[_Received]) -> Sequence[Item] | None:
        """Take plain batches; None, and nothing taken, where one of them must be looked at."""
        following = [*range(session.expected, session.expected + len(batches))]
        if [batch.sequence for batch, _ in batches] != following or following[-1] > _MAX_SEQUENCE:
            return None
        decoded = decode_plain(
            [batch for batch, _ in batches], known=session.known, bounds=self._bounds()
        )
        if decoded is None:
            return None
        pairs = zip(decoded, batches, strict=True)
        return [self._next_item(session, each, raw) for each, (_, raw) in pairs]

    def _items_apart(self, session: Session, batches: Sequence[_Received]) -> Iterator[Item]:
        for batch, raw in batches:
            item = None if session.outbox.is_closed else self._batch_item(session, batch, raw)
            if item:
                yield item

    def _batch_item(self, session: Session, batch: pb.Batch, raw: bytes) -> Item | None:
        if not 0 < batch.sequence <= _MAX_SEQUENCE:
            self._invalid(session, "sequences count from 1", batch.sequence)
            return None
        if batch.sequence < session.expected:
            return RepeatItem(session=session, decoded=refuse_whole(batch, Fault.SEQUENCE_REUSED))
        if batch.sequence > session.expected:
            self._skipped(session, batch.sequence)
            return None
        decoded = self._decode(session, batch)
        return None if decoded is None else self._next_item(session, decoded, raw)

    def _next_item(self, session: Session, decoded: Decoded, raw: bytes) -> Item:
        session.expected += 1
        session.is_rewinding = False
        return BatchItem(session=session, decoded=decoded, raw=raw, seizures=session.seizures)

    def _decode(self, session: Session, batch: pb.Batch) -> Decoded | None:
        try:
            return decode(
                batch,
                cluster=session.identity.cluster,
                known=session.known,
                bounds=self._bounds(),
                is_whole=session.asked_whole == batch.sequence,
            )
        except NeedDefinitionsError:
            session.asked_whole = batch.sequence
            session.is_rewinding = True
            refuse(
                session,
                self._metrics,
                pb.Reject.REASON_NEED_DEFINITIONS,
                sequence=batch.sequence,
                detail="send the batch again with all its definitions",
            )
            return None

    def _gap_item(self, session: Session, gap: pb.Gap) -> Item | None:
        if not 0 < gap.first <= gap.last < _MAX_SEQUENCE:
            self._invalid(session, "a gap runs from a first to a last sequence")
            return None
        if gap.first > session.expected:
            self._skipped(session, gap.first)
            return None
        session.expected = max(session.expected, gap.last + 1)
        session.is_rewinding = False
        reason = _CONTROL.sub("?", gap.reason)[:_MAX_REASON]
        return GapItem(session=session, first=gap.first, last=gap.last, reason=reason)

    def _skipped(self, session: Session, sequence: int) -> None:
        """Say once what is expected; what was under way before that is ignored."""
        if not session.is_rewinding:
            session.is_rewinding = True
            refuse(session, self._metrics, pb.Reject.REASON_EXPECTED_SEQUENCE, sequence=sequence)

    def _invalid(self, session: Session, detail: str, sequence: int = 0) -> None:
        reason = pb.Reject.REASON_INVALID
        refuse(session, self._metrics, reason, sequence=sequence, detail=detail)
        session.outbox.close()

    def _bounds(self) -> TimeBounds:
        now_ms = to_ms(self._clock())
        return TimeBounds(
            oldest_ms=now_ms - self._settings.max_age_days * _DAY_MS,
            newest_ms=now_ms + self._settings.max_ahead_seconds * 1000,
        )
