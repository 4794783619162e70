"""The messages of a conversation after its Hello. Pure."""

from collections.abc import Sequence

from agent.backlog import Missing
from proto.metering.v1 import metering_pb2 as pb

_BATCH = b"\x12"  # the tag of AgentMessage.batch


def batch_message(batch: bytes) -> bytes:
    """The message for one batch; every aggregator takes it. What is stored is not parsed."""
    return _BATCH + _varint(len(batch)) + batch


def batches_message(batches: Sequence[bytes]) -> bytes:
    """The message for as many batches as the Welcome allows."""
    return pb.AgentMessage(batches=pb.Batches(batches=batches)).SerializeToString()


def gap_message(missing: Missing) -> bytes:
    """The message for sequences that can never be sent."""
    gap = pb.Gap(first=missing.first, last=missing.last, reason=missing.reason)
    return pb.AgentMessage(gap=gap).SerializeToString()


def heartbeat_message() -> bytes:
    """The message for: nothing to say, but alive."""
    return pb.AgentMessage(heartbeat=pb.Heartbeat()).SerializeToString()


def _varint(number: int) -> bytes:
    octets = bytearray()
    while number > 0x7F:
        octets.append(number & 0x7F | 0x80)
        number >>= 7
    octets.append(number)
    return bytes(octets)
