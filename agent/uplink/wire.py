"""Puts stored batches on the wire, without the definitions that the other side has. Pure."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from agent.backlog import Missing, StoredBatch
from proto.metering.v1 import metering_pb2 as pb


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """Which numbers a batch defines, and which runs it ends: known to both once it is acked."""

    runs: Sequence[int] = ()
    meters: Sequence[tuple[int, int]] = ()  # (run, meter)
    ended: Sequence[int] = ()


@dataclass(slots=True)
class Known:
    """The definitions that a connection has acked: run -> its meters.

    An ended run and its meters are dropped, so a long connection does not grow.
    """

    meters_of: dict[int, set[int]] = field(default_factory=dict[int, set[int]])

    def learn(self, named: Named) -> None:
        """A batch was acked."""
        for run in named.runs:
            self.meters_of.setdefault(run, set())
        for run, meter in named.meters:
            self.meters_of.setdefault(run, set()).add(meter)
        for run in named.ended:
            self.meters_of.pop(run, None)

    def forget(self) -> None:
        """The other side knows nothing any more."""
        self.meters_of.clear()

    def has_meter(self, run: int, meter: int) -> bool:
        """Whether a meter need not be defined again."""
        return meter in self.meters_of.get(run, ())


def batch_message(stored: StoredBatch, known: Known) -> tuple[bytes, Named]:
    """The message for a stored batch, and what its ack will teach."""
    batch = pb.Batch.FromString(stored.batch)
    named = Named(
        runs=[run.number for run in batch.runs],
        meters=[(meter.run, meter.number) for meter in batch.meters],
        ended=[end.run for end in batch.run_ends],
    )
    meters = [meter for meter in batch.meters if not known.has_meter(meter.run, meter.number)]
    runs = [run for run in batch.runs if run.number not in known.meters_of]
    if len(meters) < len(batch.meters):
        del batch.meters[:]
        batch.meters.extend(meters)
    if len(runs) < len(batch.runs):
        del batch.runs[:]
        batch.runs.extend(runs)
    batch.digest = digest_of(stored)
    return pb.AgentMessage(batch=batch).SerializeToString(), named


def digest_of(stored: StoredBatch) -> bytes:
    """What tells one stored batch from another."""
    return hashlib.sha256(stored.batch).digest()


def gap_message(missing: Missing) -> bytes:
    """The message for sequences that can never be sent."""
    gap = pb.Gap(first=missing.first, last=missing.last, reason=missing.reason)
    return pb.AgentMessage(gap=gap).SerializeToString()


def heartbeat_message() -> bytes:
    """The message for: nothing to say, but alive."""
    return pb.AgentMessage(heartbeat=pb.Heartbeat()).SerializeToString()
