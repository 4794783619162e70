"""The agent's time: one wall-clock anchor carried on by CLOCK_BOOTTIME.

An instant is the wall clock as it stood at the anchor plus the boot time elapsed since,
so stepping the wall clock changes no duration, and suspended time counts (it is
allocated; `suspended_ms` lets the caller call it unobserved). The anchor is part of the
checkpoint: within one boot a restarted agent goes on in the same time.

Slewing moves both clocks alike; only a step parts them. The anchor follows a step when
the caller says so, which is where it has closed its windows and can shift what it keeps:

- forward: always;
- backward by more than `MAX_LEAD_MS`: likewise, and the caller must open new meters, or
  the windows of one meter would overlap;
- backward by less: never. A leap second or a small correction would cut every item on
  the bill in two; instead the agent stays ahead by that much (`lead_ms`).

The only module of the agent that reads a clock of the system.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

DEADBAND_MS = 10
"""Less is the jitter of reading two clocks one after the other."""

MAX_LEAD_MS = 5_000
"""Further ahead of the wall clock than this the agent does not stay."""

_NS_PER_MS = 1_000_000
_READS = 3


class TimeSource(Protocol):
    """The system's clocks, in nanoseconds, and the boot that they belong to."""

    @property
    def boot_id(self) -> str:
        """Changes with every boot; CLOCK_BOOTTIME starts again with it."""
        ...

    def wall_ns(self) -> int:
        """CLOCK_REALTIME: right, as a rule, and stepped at will."""
        ...

    def boottime_ns(self) -> int:
        """CLOCK_BOOTTIME: never stepped, runs through suspension."""
        ...

    def monotonic_ns(self) -> int:
        """CLOCK_MONOTONIC: never stepped, stands still in suspension."""
        ...


class SystemTime:
    """This machine's clocks."""

    def __init__(self, boot_id_path: Path = Path("/proc/sys/kernel/random/boot_id")) -> None:
        """Read the boot id once; it does not change under a living process."""
        self._boot_id = boot_id_path.read_text(encoding="ascii").strip()

    @property
    def boot_id(self) -> str:
        """See `TimeSource`."""
        return self._boot_id

    def wall_ns(self) -> int:
        """See `TimeSource`."""
        return time.clock_gettime_ns(time.CLOCK_REALTIME)

    def boottime_ns(self) -> int:
        """See `TimeSource`."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    def monotonic_ns(self) -> int:
        """See `TimeSource`."""
        return time.clock_gettime_ns(time.CLOCK_MONOTONIC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """Agent time = boot time of this boot + `offset_ns`."""

    boot_id: str
    offset_ns: int


class AgentClock:
    """Milliseconds since 1970-01-01T00:00Z that step only when `follow` is called."""

    def __init__(self, source: TimeSource) -> None:
        """Anchor at the wall clock as it stands."""
        self._source = source
        self._offset_ns = self._wall_offset_ns()

    @property
    def anchor(self) -> Anchor:
        """What a checkpoint must hold for `resume`."""
        return Anchor(boot_id=self._source.boot_id, offset_ns=self._offset_ns)

    def resume(self, anchor: Anchor) -> bool:
        """Go on from a checkpoint's anchor.

        Returns:
            Whether it is of this boot. If not, the anchor stays at the wall clock, and
            only the wall clock knows how long the machine was off.
        """
        if anchor.boot_id != self._source.boot_id:
            return False
        self._offset_ns = anchor.offset_ns
        return True

    def now_ms(self) -> int:
        """The instant now."""
        return (self._source.boottime_ns() + self._offset_ns) // _NS_PER_MS

    def suspended_ms(self) -> int:
        """How long this boot has been suspended so far, in all."""
        elapsed = _closest(self._source.boottime_ns, self._source.monotonic_ns)
        return max(0, elapsed // _NS_PER_MS)

    def lead_ms(self) -> int:
        """How far agent time is ahead of the wall clock; 0 within the deadband."""
        lead = (self._offset_ns - self._wall_offset_ns()) // _NS_PER_MS
        return lead if abs(lead) > DEADBAND_MS else 0

    def pending_step_ms(self) -> int:
        """By how much `follow` would move agent time; 0 = not at all."""
        lead = self.lead_ms()
        return 0 if 0 <= lead <= MAX_LEAD_MS else -lead

    def follow(self) -> int:
        """Anchor anew if the wall clock was stepped.

        Call it at the end of all windows only.

        Returns:
            The step, in ms: by so much the instants that the caller keeps have to move.
        """
        step_ms = self.pending_step_ms()
        self._offset_ns += step_ms * _NS_PER_MS
        return step_ms

    def _wall_offset_ns(self) -> int:
        return _closest(self._source.wall_ns, self._source.boottime_ns)


def _closest(minuend: Callable[[], int], subtrahend: Callable[[], int]) -> int:
    """Subtract one clock from another, both read as nearly at once as can be had."""
    tries: list[tuple[int, int]] = []
    for _ in range(_READS):
        before = subtrahend()
        value = minuend()
        after = subtrahend()
        tries.append((after - before, value - (before + after) // 2))
    return min(tries)[1]
