"""What has passed between the agents and the aggregator, and what is between send and ack now."""

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from proto.metering.v1 import metering_pb2 as pb


@dataclass(eq=False, slots=True)
class Conversation:
    """One connection of one agent, as far as it has said who it is."""

    node: str = ""
    stream_id: bytes = b""
    sent_through: int = 0
    acked_through: int = 0

    @property
    def in_flight(self) -> int:
        """Batches that it has sent and that are not acked to it."""
        return max(0, self.sent_through - self.acked_through)


@dataclass(slots=True)
class Totals:
    """How often what passed."""

    sent: int = 0
    """Batches, each counted once."""
    sent_again: int = 0
    acks: int = 0
    acked: int = 0
    """Batches acked, each counted once."""
    gaps: int = 0
    rejects: Counter[str] = field(default_factory=Counter[str])


class Traffic:
    """Counts for a whole run, across connections; any thread may ask."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.totals = Totals()
        self._changed = threading.Condition()
        self._open: set[Conversation] = set()
        self._sent: set[tuple[bytes, int]] = set()
        self._acked: dict[bytes, int] = {}
        self._sent_through: dict[bytes, int] = {}
        self._node_of: dict[bytes, str] = {}

    def in_flight(self, node: str | None = None) -> int:
        """Batches between send and ack on open connections; of one node, or of all."""
        with self._changed:
            return sum(one.in_flight for one in self._open if node in {None, one.node})

    def marks(self) -> Mapping[bytes, int]:
        """How far each stream has been sent, ever."""
        with self._changed:
            return dict(self._sent_through)

    def wait_past(
        self, marks: Mapping[bytes, int], *, node: str | None = None, seconds: float
    ) -> None:
        """Wait until a batch of a node (of any) is acked that was first sent after `marks`.

        Raises:
            TimeoutError: none was.
        """

        def is_past() -> bool:
            return any(
                through > marks.get(stream_id, 0)
                for stream_id, through in self._acked.items()
                if node in {None, self._node_of[stream_id]}
            )

        with self._changed:
            if not self._changed.wait_for(is_past, seconds):
                raise TimeoutError(f"no new ack for {node or 'anybody'} within {seconds:g} s")

    # What taps tell ----------------------------------------------------------------------

    def began(self, one: Conversation) -> None:
        """Somebody has connected."""
        with self._changed:
            self._open.add(one)

    def sent(self, one: Conversation, message: pb.AgentMessage) -> None:
        """The agent has said something, whether or not it ever arrives."""
        with self._changed:
            match message.WhichOneof("message"):
                case "hello":
                    one.node, one.stream_id = message.hello.node, message.hello.stream_id
                    self._node_of[one.stream_id] = one.node
                case "batch":
                    self._sent_batch(one, message.batch.sequence)
                case "batches":
                    for batch in message.batches.batches:
                        self._sent_batch(one, pb.Batch.FromString(batch).sequence)
                case "gap":
                    self.totals.gaps += 1
                case _:
                    pass

    def _sent_batch(self, one: Conversation, sequence: int) -> None:
        key = (one.stream_id, sequence)
        if key in self._sent:
            self.totals.sent_again += 1
        else:
            self.totals.sent += 1
            self._sent.add(key)
        one.sent_through = sequence
        self._sent_through[one.stream_id] = max(sequence, self._sent_through.get(key[0], 0))

    def answered(self, one: Conversation, message: pb.AggregatorMessage) -> None:
        """The aggregator's answer goes on to the agent."""
        with self._changed:
            match message.WhichOneof("message"):
                case "welcome":
                    one.sent_through = one.acked_through = message.welcome.acked_through
                    self._note_acked(one, message.welcome.acked_through)
                case "ack":
                    self.totals.acks += 1
                    one.acked_through = message.ack.acked_through
                    self._note_acked(one, one.acked_through)
                case "reject":
                    self.totals.rejects[pb.Reject.Reason.Name(message.reject.reason)] += 1
                case _:
                    pass
            self._changed.notify_all()

    def _note_acked(self, one: Conversation, through: int) -> None:
        before = self._acked.get(one.stream_id, 0)
        if through > before:
            self.totals.acked += through - before
            self._acked[one.stream_id] = through

    def ended(self, one: Conversation) -> None:
        """Its connection is over: nothing of it is on its way any more."""
        with self._changed:
            self._open.discard(one)
