"""One connection of an agent: who it is, what it defined, and what is still to be told it.

Mutable, and touched only on the event loop. Memory is bounded whatever the peer does:
acks are merged, refusals are few, and the numbers of ended runs are forgotten.
"""

import asyncio
from collections import deque
from dataclasses import dataclass, field

from aggregator.ca.identity import Bearer
from aggregator.ingest.decode import Known
from aggregator.ingest.definition import KnownRun
from aggregator.model import MeterId, NodeId, StreamId
from proto.metering.v1 import metering_pb2 as pb

_MAX_REFUSALS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who speaks on a connection."""

    stream_id: StreamId
    epoch: int
    node_id: NodeId
    node: str
    cluster: str
    address: str
    hello: int = 0
    """The place of its Hello among those of all streams."""


class Outbox:
    """What is to be sent. Acks merge into the highest; a close comes after all else."""

    def __init__(self) -> None:
        """Start empty."""
        self._acked_through: int | None = None
        self._refusals: deque[pb.Reject] = deque(maxlen=_MAX_REFUSALS)
        self._is_closed = False
        self._wake = asyncio.Event()

    @property
    def is_closed(self) -> bool:
        """Whether nothing more is to be taken from this connection."""
        return self._is_closed

    def ack(self, sequence: int) -> None:
        """Say that everything through `sequence` is durable."""
        self._acked_through = max(sequence, self._acked_through or 0)
        self._wake.set()

    def reject(self, refusal: pb.Reject) -> None:
        """Say why something was not taken."""
        self._refusals.append(refusal)
        self._wake.set()

    def close(self) -> None:
        """End the connection after what is still to be sent."""
        self._is_closed = True
        self._wake.set()

    async def next(self) -> pb.AggregatorMessage | None:
        """Wait for something to send; None when the connection is to be closed."""
        while True:
            if self._acked_through is not None:
                sequence, self._acked_through = self._acked_through, None
                return pb.AggregatorMessage(ack=pb.Ack(acked_through=sequence))
            if self._refusals:
                return pb.AggregatorMessage(reject=self._refusals.popleft())
            if self._is_closed:
                return None
            self._wake.clear()
            await self._wake.wait()


@dataclass(slots=True, kw_only=True, eq=False)
class Session:
    """The state of one welcomed connection."""

    identity: Identity
    expected: int
    """The sequence that is to be received next."""
    peer: str = ""
    """Where it connects from."""
    bearer: Bearer | None = None
    """Whose certificate it was let in with; None: without TLS."""
    outbox: Outbox = field(default_factory=Outbox)
    is_rewinding: bool = False
    """The agent was told what to send next; what was under way before that is ignored."""
    asked_whole: int = 0
    """The sequence that was asked for with all its definitions."""
    runs: dict[int, KnownRun] = field(default_factory=dict)
    meters: dict[int, MeterId] = field(default_factory=dict)
    meters_of: dict[int, set[int]] = field(default_factory=dict)
    floors: dict[int, int] = field(default_factory=dict)
    """Of the meters that another stream told before: from when on ours is taken, in ms."""
    seizures: int = 0
    """How often other streams took something over from this one, as far as we know."""

    @property
    def known(self) -> Known:
        """The numbers that a batch may use without defining them."""
        return Known(runs=self.runs, meters=self.meters, floors=self.floors)

    def learn_run(self, number: int, run: KnownRun) -> None:
        """Remember a run, now that it is durable."""
        self.runs[number] = run

    def learn_meter(self, number: int, run: int, meter_id: MeterId, floor_ms: int = 0) -> None:
        """Remember a meter, now that it is durable."""
        self.meters[number] = meter_id
        if floor_ms:
            self.floors[number] = floor_ms
        self.meters_of.setdefault(run, set()).add(number)

    def forget_run(self, number: int) -> None:
        """Forget a run that ended, so that a long connection does not grow."""
        self.runs.pop(number, None)
        for meter in self.meters_of.pop(number, ()):
            self.meters.pop(meter, None)
            self.floors.pop(meter, None)

    def rewind(self, acked_through: int, seizures: int) -> None:
        """Know nothing any more, and expect what follows the mark with all its definitions."""
        for known in (self.runs, self.meters, self.meters_of, self.floors):
            known.clear()
        self.seizures = seizures
        self.expected = self.asked_whole = acked_through + 1
        self.is_rewinding = True
