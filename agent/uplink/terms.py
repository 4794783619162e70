"""How an uplink is to behave, how a conversation may end, and what is counted of them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How fast, how much and how patiently."""

    window_batches: int = 64
    window_bytes: int = 4 << 20
    first_definitions: int = 256  # on a new connection; what is not acked is defined again
    message_bytes: int = 32 << 10  # where there is more; ten thousand agents may have more
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
