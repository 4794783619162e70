"""How long to wait before connecting again: exponential, with full jitter."""

from random import Random


class Backoff:
    """Ten thousand agents that lost one aggregator must not come back at one instant."""

    def __init__(self, base_seconds: float, cap_seconds: float, random: Random) -> None:
        """Wait up to `base_seconds` at first, doubling up to `cap_seconds`."""
        self._base_seconds = base_seconds
        self._cap_seconds = cap_seconds
        self._random = random
        self._failures = 0

    def next_seconds(self, hint_seconds: float = 0.0) -> float:
        """How long to wait now; not less than the aggregator's hint."""
        ceiling = min(self._cap_seconds, self._base_seconds * 2.0 ** min(self._failures, 30))
        self._failures += 1
        return hint_seconds + self._random.uniform(0, ceiling)

    def reset(self) -> None:
        """A connection succeeded."""
        self._failures = 0
