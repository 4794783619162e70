"""Takes one message of a welcomed connection: checks its place, decodes it, queues it.

What is not the next sequence is not queued: what came before goes to be compared with
what is durable, what skips is refused. After a refusal everything is ignored until the
agent sends what it was told to.
"""

import re
from typing import Final, assert_never

from google.protobuf.message import DecodeError

from aggregator.clock import Clock, to_ms
from aggregator.ingest.answer import refuse
from aggregator.ingest.commit import Committer
from aggregator.ingest.decode import Decoded, NeedDefinitionsError, decode, refuse_whole
from aggregator.ingest.definition import Fault, TimeBounds
from aggregator.ingest.session import Session
from aggregator.ingest.settle import BatchItem, GapItem, Item, PulseItem, RepeatItem
from aggregator.metrics import Metrics
from aggregator.settings import IngestSettings
from proto.metering.v1 import metering_pb2 as pb

_ITEM_BYTES: Final = 1_024
"""What an item costs beside its message."""
_MAX_SEQUENCE: Final = (1 << 63) - 1
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_MAX_REASON: Final = 1_024
_DAY_MS: Final = 86_400_000


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
        item = self._item(session, raw)
        if item is None:
            room.leave(size_bytes)
        else:
            self._committer.put(item, size_bytes)

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

    def _item(self, session: Session, raw: bytes) -> Item | None:
        """Give what is to be queued; None where there is nothing, or it was refused."""
        try:
            message = pb.AgentMessage.FromString(raw)
        except DecodeError:
            self._invalid(session, "the message cannot be parsed")
            return None
        match message.WhichOneof("message"):
            case "batch":
                return self._batch_item(session, message.batch, raw)
            case "gap":
                return self._gap_item(session, message.gap)
            case "heartbeat":
                return PulseItem(session=session)
            case "hello" | None:
                self._invalid(session, "a Batch, a Gap or a Heartbeat was expected")
                return None
            case unreachable:
                assert_never(unreachable)

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
        if decoded is None:
            return None
        session.expected += 1
        session.is_rewinding = False
        return BatchItem(session=session, decoded=decoded, message=raw, seizures=session.seizures)

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
