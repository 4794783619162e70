"""One connection's conversation: what to send next, what an answer means. No I/O but the spool.

The caller keeps threads apart and tells the time (monotonic seconds). A session begins
with a Hello, streams once it is welcomed, and is over with an `Outcome`.

Flow control: no more is under way unacked than the `Window` has room for; a backlog of days
is read from the spool as the acks come. Of a backlog several batches go in one message, if
the aggregator takes that; a batch that there is alone goes at once.
"""

import logging
from collections.abc import Sequence

from google.protobuf.message import DecodeError

from agent.backlog import Backlog, Missing, StoredBatch
from agent.errors import SpoolError
from agent.uplink.abridge import Abridged, Abridger, digest_of
from agent.uplink.identity import Identity, hello_of
from agent.uplink.known import NOTHING
from agent.uplink.terms import Outcome, Pace, UplinkCounters
from agent.uplink.window import Sent, Window
from agent.uplink.wire import batch_message, batches_message, gap_message, heartbeat_message
from proto.metering.v1 import metering_pb2 as pb

Reason = pb.Reject.Reason
_FRAMING_BYTES = 8  # around each batch, at most
_MOST_BATCHES = 64  # in one message, whatever the aggregator takes
_LOGGER = logging.getLogger(__name__)


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
        self._abridger = Abridger()
        self._window = Window(pace)
        self._following = 0  # the sequence to send next; 0 = not welcomed yet
        self._said_at = now  # when we sent something
        self._heard_at = now  # when we were answered, or had nothing to be answered
        self._max_message_bytes = 0  # 0 = not known
        self._max_batches = 1  # in one message
        self.hello = pb.AgentMessage(hello=hello_of(identity, backlog)).SerializeToString()

    @property
    def is_welcome(self) -> bool:
        """Whether the aggregator has answered the Hello."""
        return self._following > 0

    def next_message(self, now: float) -> bytes | None:
        """What to send now; None = nothing, look again by `next_look`.

        Raises:
            SpoolError: the spool cannot be read now.
        """
        if self.outcome or not self.is_welcome:
            return None
        message = self._next_of_backlog() if self._has_room() else None
        if message is None and now - self._said_at >= self._pace.heartbeat_seconds:
            message = heartbeat_message()
            self._counters.heartbeats += 1
        if message is not None:
            self._said_at = now
        return message

    def next_look(self, now: float) -> float:
        """Seconds until something is to be done even if nothing happens."""
        heartbeat = self._said_at + self._pace.heartbeat_seconds
        patience = self._heard_at + self._pace.answer_seconds
        deadlines = [heartbeat] if self.is_welcome else []
        if self._is_waiting():
            deadlines.append(patience)
        return max(0.0, min(deadlines, default=heartbeat) - now)

    def check_patience(self, now: float) -> None:
        """Be over if an answer is due for too long."""
        if not self._is_waiting():
            self._heard_at = now
        elif now - self._heard_at >= self._pace.answer_seconds:
            self.end(Outcome(reason=f"no answer for {self._pace.answer_seconds:g} s"))

    def receive(self, message: pb.AggregatorMessage, now: float) -> None:
        """Take an answer."""
        self._heard_at = now
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
        return not self.is_welcome or len(self._window) > 0

    def _has_room(self) -> bool:
        """Whether more may be under way; while nothing is acked, batch after batch defines all."""
        is_known = bool(self._abridger.known.meters_of)
        is_repeating = self._window.definitions >= self._pace.first_definitions
        return self._window.has_room and (is_known or not is_repeating)

    def _next_of_backlog(self) -> bytes | None:
        """What is to be sent next: a gap, or as many batches as there are and go together."""
        found = self._backlog.fetch(self._following)
        if found is None:
            return None
        following = self._abridge(found)
        if following is None:
            return self._declare(found)
        parts: list[Abridged] = []
        while following is not None:
            parts.append(following)
            self._count(following)
            following = self._another(parts)
        self._backlog.mark_sent(parts[-1].stored)
        if len(parts) == 1:
            return batch_message(parts[0].data)
        return batches_message([part.data for part in parts])

    def _another(self, parts: Sequence[Abridged]) -> Abridged | None:
        """The next batch, if it may go in one message with these."""
        size = sum(len(part.data) for part in parts)
        is_full = len(parts) >= self._max_batches or size >= self._pace.message_bytes
        if is_full or not self._has_room():
            return None
        found = self._backlog.fetch(self._following)
        part = self._abridge(found) if found else None
        if part is None or self._is_too_large(size + len(part.data), len(parts) + 1):
            return None
        return part

    def _count(self, part: Abridged) -> None:
        """A batch is sent now."""
        sequence, size = part.stored.sequence, len(part.data)
        self._window.add(Sent(last=sequence, size=size, named=part.named))
        self._following = sequence + 1
        self._counters.batches += 1
        self._counters.batch_bytes += size

    def _is_too_large(self, size: int, count: int = 1) -> bool:
        limit = self._max_message_bytes
        return 0 < limit < size + _FRAMING_BYTES * count

    def _abridge(self, found: StoredBatch | Missing) -> Abridged | None:
        """What to send of a stored batch; None = it is none that the aggregator could take."""
        if isinstance(found, Missing):
            return None
        try:
            part = self._abridger.abridge(found)
        except DecodeError:
            self._refuse(found.sequence, "the stored batch cannot be parsed")
            return None
        if self._is_too_large(len(part.data)):
            limit = self._max_message_bytes
            reason = f"a batch of {len(part.data)} bytes; the aggregator takes {limit}"
            self._refuse(found.sequence, reason)
            return None
        return part

    def _declare(self, found: StoredBatch | Missing) -> bytes:
        """Say that what was found cannot be sent."""
        gap = found if isinstance(found, Missing) else self._gap_for(found)
        message = gap_message(gap)
        self._window.add(Sent(last=gap.last, size=len(message), named=NOTHING))
        self._following = gap.last + 1
        self._counters.gaps += 1
        return message

    def _gap_for(self, stored: StoredBatch) -> Missing:
        found = self._backlog.fetch(stored.sequence)
        if isinstance(found, Missing):
            return found
        return Missing(first=stored.sequence, last=stored.sequence, reason="refused")

    def blame(self, reason: str, sequence: int = 0) -> None:
        """Be over because a message will never be taken: `sequence`, or the one under way."""
        sequence = sequence or self._window.sole
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
        self._max_message_bytes = welcome.max_message_bytes
        self._max_batches = max(1, min(welcome.max_batches, _MOST_BATCHES))
        self._backlog.rewind(through, welcome.incarnation)
        self._backlog.ack(through)
        self._following = through + 1

    def _is_own(self, sequence: int, digest: bytes) -> bool:
        """Whether a durable batch is the one of this spool, as far as it still has it."""
        found = self._backlog.fetch(sequence)
        return not isinstance(found, StoredBatch) or digest_of(found) == digest

    def _ack(self, through: int) -> None:
        self._counters.acks += 1
        for named in self._window.arrived(through):
            self._abridger.known.learn(named)
        self._backlog.ack(through)
        self._following = max(self._following, through + 1)

    def _reject(self, reject: pb.Reject) -> None:
        self._counters.rejects += 1
        detail = f"{_name(reject.reason)}: {reject.detail}"
        match reject.reason:
            case Reason.REASON_EXPECTED_SEQUENCE if self.is_welcome:
                self._go_back(reject.expected)
            case Reason.REASON_NEED_DEFINITIONS if self.is_welcome:
                self._abridger.known.forget()
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
        self._window.give_up(sequence)
        self._following = sequence
        if not 0 < sequence <= self._backlog.last_sequence + 1:
            self.end(Outcome(reason=f"the aggregator expects sequence {sequence}"))


def _name(reason: pb.Reject.Reason) -> str:
    """What it is called; a newer aggregator may have reasons that we do not know."""
    return Reason.Name(reason) if reason in Reason.values() else f"reason {reason}"
