"""What the uplink asks of the spool: the words that both use, and nothing of either.

They are siblings that do not import each other; the daemon puts them together.
"""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBatch:
    """A frame's Batch, byte for byte as it was stored; the digest is over these bytes."""

    sequence: int
    at_ms: int  # agent time at which it was appended
    batch: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """Sequences that cannot be sent any more, `first` to `last` inclusive, and why."""

    first: int
    last: int
    reason: str


class Backlog(Protocol):
    """The durable queue as its reader sees it. Reading is not acknowledging."""

    @property
    def stream_id(self) -> bytes:
        """16 bytes; changes only with `Spool.start_stream`."""
        ...

    @property
    def last_sequence(self) -> int:
        """The highest sequence given out; 0 = none yet."""
        ...

    @property
    def acked_through(self) -> int:
        """Every sequence up to and with this one is durable at the aggregator."""
        ...

    @property
    def incarnation(self) -> str:
        """The database that acknowledged last; "" = none yet."""
        ...

    def fetch(self, sequence: int) -> StoredBatch | Missing | None:
        """What to send for `sequence`; None = it was not given out yet.

        Raises:
            SpoolError: the disk does not let us read now; nothing is known to be lost.
        """
        ...

    def mark_sent(self, batch: StoredBatch) -> None:
        """Note that `batch` may reach the aggregator from now on; call it before sending."""
        ...

    def ack(self, acked_through: int) -> None:
        """Note what is durable at the aggregator; a lower one than before changes nothing."""
        ...

    def refuse(self, sequence: int, reason: str) -> bool:
        """Keep a frame aside that the aggregator will never take; it is `Missing` from now on.

        Returns:
            Whether there is such a frame.
        """
        ...

    def rewind(self, acked_through: int, incarnation: str) -> None:
        """Note that another database answers, which is durable through a lower sequence."""
        ...
