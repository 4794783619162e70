"""What is under way, sent and not acked, and how much of it there may be. Pure."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from agent.uplink.known import Named
from agent.uplink.terms import Pace


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One batch, or one gap."""

    last: int  # acked with this sequence
    size: int
    named: Named


class Window:
    """What was sent, in order: at most one batch more than the bytes that `Pace` names."""

    def __init__(self, pace: Pace) -> None:
        """Nothing is under way, and so no definitions are."""
        self._pace = pace
        self._sent: deque[Sent] = deque()
        self._bytes = 0
        self.definitions = 0

    def __len__(self) -> int:
        """How many are under way."""
        return len(self._sent)

    @property
    def sole(self) -> int:
        """The sequence of what is under way, if that is one; else 0."""
        return self._sent[0].last if len(self._sent) == 1 else 0

    @property
    def has_room(self) -> bool:
        """Whether more may be sent now."""
        pace = self._pace
        return len(self._sent) < pace.window_batches and self._bytes < pace.window_bytes

    def add(self, sent: Sent) -> None:
        """Something is sent now."""
        self._sent.append(sent)
        self._count(sent, 1)

    def arrived(self, through: int) -> Iterator[Named]:
        """Take out what is acked by that; what each one teaches."""
        while self._sent and self._sent[0].last <= through:
            sent = self._sent.popleft()
            self._count(sent, -1)
            yield sent.named

    def give_up(self, sequence: int) -> None:
        """Nothing from `sequence` on is taken over there."""
        while self._sent and self._sent[-1].last >= sequence:
            self._count(self._sent.pop(), -1)

    def _count(self, sent: Sent, sign: int) -> None:
        self._bytes += sign * sent.size
        self.definitions += sign * sent.named.definitions
