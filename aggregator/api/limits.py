"""How often somebody may ask: a rate with a burst of a minute's worth, in bounded memory.

Each key has one number, the instant until which what it asked for is paid (the generic cell
rate algorithm). The keys that asked longest ago are forgotten first; to be forgotten is to
have all of the burst again.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from math import ceil
from typing import Final

from aggregator.clock import monotonic

_WINDOW_SECONDS: Final = 60.0
MAX_KEYS: Final = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """What a key may ask for. `limit` is a minute's; 0 is no limit."""

    is_allowed: bool
    limit: int
    remaining: int
    reset_seconds: int
    """Until all of the limit is there again."""
    retry_seconds: int = 0
    """Until one more is allowed, where none is."""


UNLIMITED = Allowance(is_allowed=True, limit=0, remaining=0, reset_seconds=0)


class RateLimit:
    """Counts what each key asks for."""

    def __init__(
        self, per_minute: int, *, max_keys: int = MAX_KEYS, clock: Callable[[], float] = monotonic
    ) -> None:
        """Allow `per_minute` to each; 0: as many as they like."""
        self._per_minute = per_minute
        self._max_keys = max_keys
        self._clock = clock
        self._paid_until: OrderedDict[Hashable, float] = OrderedDict()

    def __len__(self) -> int:
        """How many keys are kept."""
        return len(self._paid_until)

    def take(self, key: Hashable) -> Allowance:
        """Count one more of the key's, unless it has none left."""
        return self._asked(key, is_counted=True)

    def look(self, key: Hashable) -> Allowance:
        """What `take` would say."""
        return self._asked(key, is_counted=False)

    def _asked(self, key: Hashable, *, is_counted: bool) -> Allowance:
        if not self._per_minute:
            return UNLIMITED
        now = self._clock()
        cost = _WINDOW_SECONDS / self._per_minute
        before = max(self._paid_until.get(key, now), now)
        after = before + cost
        excess = after - now - _WINDOW_SECONDS
        is_allowed = excess <= cost / 2  # halfway to the next: what is summed is rounded
        if is_allowed and is_counted:
            self._keep(key, after)
            before = after
        return Allowance(
            is_allowed=is_allowed,
            limit=self._per_minute,
            remaining=max(0, round((now + _WINDOW_SECONDS - before) / cost)),
            reset_seconds=ceil(before - now),
            retry_seconds=0 if is_allowed else max(1, ceil(excess)),
        )

    def _keep(self, key: Hashable, paid_until: float) -> None:
        self._paid_until[key] = paid_until
        self._paid_until.move_to_end(key)
        while len(self._paid_until) > self._max_keys:
            self._paid_until.popitem(last=False)
