"""One connection's conversation: what to send next, what an answer means. No I/O but the spool.

The caller keeps threads apart and tells the time (monotonic seconds). A session begins
with a Hello, streams once it is welcomed, and is over with an `Outcome`.

Flow control: at most `window_batches` and about `window_bytes` are under way unacked; a
backlog of days is read from the spool as the acks come.
"""

import logging
from collections import deque
from dataclasses import dataclass, field

from google.protobuf.message import DecodeError

from agent.backlog import Backlog, Missing, StoredBatch
from agent.errors import SpoolError
from agent.uplink.identity import Identity, hello_of
from agent.uplink.wire import (
    Known,
    Named,
    batch_message,
    digest_of,
    gap_message,
    heartbeat_message,
)
from proto.metering.v1 import metering_pb2 as pb

Reason = pb.Reject.Reason
_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How fast, how much and how patiently."""

    window_batches: int = 64
    window_bytes: int = 4 << 20
    heartbeat_seconds: float = 30
    answer_seconds: float = 120  # a slow database commits within 30 s
    base_seconds: float = 0.5
    cap_seconds: float = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Why a session is over.

    `is_stream_lost`: the stream must not be used any more. `is_planned`: we hung up only to
    connect again at once. `is_refused`: they were there, and do not want us, now or at all.
    `is_unclear`: one of several messages is not taken; sent one by one,
    the next time tells which.
    """

    reason: str
    is_planned: bool = False
    is_stream_lost: bool = False
    is_unclear: bool = False
    is_refused: bool = False
    retry_after_seconds: float = 0.0


@dataclass(slots=True)
class UplinkCounters:
    """What happened since the start, for whoever exposes it."""

    connections: int = 0
    failures: int = 0
    batches: int = 0
    batch_bytes: int = 0
    gaps: int = 0
    heartbeats: int = 0
    acks: int = 0
    conflicts: int = 0
    rejects: int = 0
    lost_streams: int = 0
    refused: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sent:
    last: int  # acked with this sequence
    size: int
    named: Named


@dataclass(slots=True)
class _Position:
    """Where the conversation stands."""

    following: int = 0  # the sequence to send next; 0 = not welcomed yet
    under_way: deque[_Sent] = field(default_factory=deque[_Sent])
    under_way_bytes: int = 0
    said_at: float = 0.0  # when we sent something
    heard_at: float = 0.0  # when we were answered, or had nothing to be answered
    max_message_bytes: int = 0  # 0 = not known


class Session:
    """See the module."""

    def __init__(
        self,
        backlog: Backlog,
        identity: Identity,
        pace: Pace,
        counters: UplinkCounters,
        now: float,
    ) -> None:
        """Begin at `now` with what the spool holds."""
        self.outcome: Outcome | None = None
        self._backlog = backlog
        self._pace = pace
        self._counters = counters
        self._known = Known()
        self._at = _Position(said_at=now, heard_at=now)
        self.hello = pb.AgentMessage(hello=hello_of(identity, backlog)).SerializeToString()

    @property
    def is_welcome(self) -> bool:
        """Whether the aggregator has answered the Hello."""
        return self._at.following > 0

    def next_message(self, now: float) -> bytes | None:
        """What to send now; None = nothing, look again by `next_look`.

        Raises:
            SpoolError: the spool cannot be read now.
        """
        if self.outcome or not self.is_welcome:
            return None
        message = self._next_of_backlog() if self._has_room() else None
        if message is None and now - self._at.said_at >= self._pace.heartbeat_seconds:
            message = heartbeat_message()
            self._counters.heartbeats += 1
        if message is not None:
            self._at.said_at = now
        return message

    def next_look(self, now: float) -> float:
        """Seconds until something is to be done even if nothing happens."""
        heartbeat = self._at.said_at + self._pace.heartbeat_seconds
        patience = self._at.heard_at + self._pace.answer_seconds
        deadlines = [heartbeat] if self.is_welcome else []
        if self._is_waiting():
            deadlines.append(patience)
        return max(0.0, min(deadlines, default=heartbeat) - now)

    def check_patience(self, now: float) -> None:
        """Be over if an answer is due for too long."""
        if not self._is_waiting():
            self._at.heard_at = now
        elif now - self._at.heard_at >= self._pace.answer_seconds:
            self.end(Outcome(reason=f"no answer for {self._pace.answer_seconds:g} s"))

    def receive(self, message: pb.AggregatorMessage, now: float) -> None:
        """Take an answer."""
        self._at.heard_at = now
        match message.WhichOneof("message"):
            case "welcome" if not self.is_welcome:
                try:
                    self._welcome(message.welcome)
                except SpoolError as error:
                    self.end(Outcome(reason=str(error)))
            case "ack" if self.is_welcome:
                self._ack(message.ack.acked_through)
            case "reject":
                self._reject(message.reject)
            case other:
                self.end(Outcome(reason=f"the aggregator sent {other or 'a newer message'} now"))

    def end(self, outcome: Outcome) -> None:
        """Be over; the first reason counts."""
        self.outcome = self.outcome or outcome

    def _is_waiting(self) -> bool:
        return not self.is_welcome or bool(self._at.under_way)

    def _has_room(self) -> bool:
        at, pace = self._at, self._pace
        return len(at.under_way) < pace.window_batches and at.under_way_bytes < pace.window_bytes

    def _next_of_backlog(self) -> bytes | None:
        found = self._backlog.fetch(self._at.following)
        if found is None:
            return None
        if isinstance(found, StoredBatch) and (built := self._build(found)):
            self._backlog.mark_sent(found)
            self._counters.batches += 1
            (message, named), last = built, found.sequence
            self._counters.batch_bytes += len(message)
        else:
            gap = found if isinstance(found, Missing) else self._gap_for(found)
            self._counters.gaps += 1
            message, named, last = gap_message(gap), Named(), gap.last
        self._at.under_way.append(_Sent(last=last, size=len(message), named=named))
        self._at.under_way_bytes += len(message)
        self._at.following = last + 1
        return message

    def _build(self, stored: StoredBatch) -> tuple[bytes, Named] | None:
        """The message for a stored batch; None = it is none that the aggregator could take."""
        limit = self._at.max_message_bytes
        try:
            message, named = batch_message(stored, self._known)
        except DecodeError:
            self._refuse(stored.sequence, "the stored batch cannot be parsed")
            return None
        if limit and len(message) > limit:
            reason = f"a batch of {len(message)} bytes; the aggregator takes {limit}"
            self._refuse(stored.sequence, reason)
            return None
        return message, named

    def _gap_for(self, stored: StoredBatch) -> Missing:
        found = self._backlog.fetch(stored.sequence)
        if isinstance(found, Missing):
            return found
        return Missing(first=stored.sequence, last=stored.sequence, reason="refused")

    def blame(self, reason: str, sequence: int = 0) -> None:
        """Be over because a message will never be taken: `sequence`, or the one under way."""
        if not sequence and len(self._at.under_way) == 1:
            sequence = self._at.under_way[0].last
        if sequence:
            self._refuse(sequence, reason)
        self.end(Outcome(reason=reason, is_unclear=not sequence))

    def _refuse(self, sequence: int, reason: str) -> None:
        if self._backlog.refuse(sequence, reason):
            self._counters.refused += 1
            _LOGGER.error(
                "the aggregator never takes this batch: it is kept aside and declared lost",
                extra={"action": "refused", "sequence": sequence, "reason": reason},
            )

    def _welcome(self, welcome: pb.Welcome) -> None:
        """Go on after what is durable there, which may be less than we know, never more."""
        through, last = welcome.acked_through, self._backlog.last_sequence
        if through > last:
            reason = f"the aggregator holds sequence {through}, this spool gave out {last}"
            self.end(
                Outcome(reason=f"{reason}: it is a copy or was rolled back", is_stream_lost=True)
            )
            return
        if welcome.acked_digest and not self._is_own(through, welcome.acked_digest):
            reason = f"the aggregator holds another sequence {through} than this spool"
            self.end(
                Outcome(reason=f"{reason}: it is a copy or was rolled back", is_stream_lost=True)
            )
            return
        self._at.max_message_bytes = welcome.max_message_bytes
        self._backlog.rewind(through, welcome.incarnation)
        self._backlog.ack(through)
        self._at.following = through + 1

    def _is_own(self, sequence: int, digest: bytes) -> bool:
        """Whether a durable batch is the one of this spool, as far as it still has it."""
        found = self._backlog.fetch(sequence)
        return not isinstance(found, StoredBatch) or digest_of(found) == digest

    def _ack(self, through: int) -> None:
        self._counters.acks += 1
        at = self._at
        while at.under_way and at.under_way[0].last <= through:
            sent = at.under_way.popleft()
            at.under_way_bytes -= sent.size
            self._known.learn(sent.named)
        self._backlog.ack(through)
        at.following = max(at.following, through + 1)

    def _reject(self, reject: pb.Reject) -> None:
        self._counters.rejects += 1
        detail = f"{_name(reject.reason)}: {reject.detail}"
        match reject.reason:
            case Reason.REASON_EXPECTED_SEQUENCE if self.is_welcome:
                self._go_back(reject.expected)
            case Reason.REASON_NEED_DEFINITIONS if self.is_welcome:
                self._known.forget()
                self._go_back(reject.sequence)
            case Reason.REASON_CONFLICT if self.is_welcome:
                self._counters.conflicts += 1
                reason = f"{detail}: the spool is a copy or was rolled back"
                self.end(Outcome(reason=reason, is_stream_lost=True))
            case Reason.REASON_FENCED:
                self.end(Outcome(reason=detail, is_stream_lost=True))
            case Reason.REASON_BUSY:
                pause = reject.retry_after_ms / 1000
                self.end(Outcome(reason=detail, is_refused=True, retry_after_seconds=pause))
            case Reason.REASON_INVALID if self.is_welcome:
                self.blame(detail, reject.sequence)
            case _:  # a matter of configuration: the Hello is said again
                self.end(Outcome(reason=detail, is_refused=True))

    def _go_back(self, sequence: int) -> None:
        """Send again from `sequence`; what was under way from there is not taken."""
        at = self._at
        while at.under_way and at.under_way[-1].last >= sequence:
            at.under_way_bytes -= at.under_way.pop().size
        at.following = sequence
        if not 0 < sequence <= self._backlog.last_sequence + 1:
            self.end(Outcome(reason=f"the aggregator expects sequence {sequence}"))


def _name(reason: pb.Reject.Reason) -> str:
    """What it is called; a newer aggregator may have reasons that we do not know."""
    return Reason.Name(reason) if reason in Reason.values() else f"reason {reason}"
