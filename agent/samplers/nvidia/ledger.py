"""Which run used how much of which device. Pure: instants are milliseconds of one clock.

A run alone on a device used what the device did. Where the lives of several runs on one
device overlap, what was measured of it is split by what their processes used; where that is
not known, nobody's use is, and the time stays unobserved. What processes used that are no
run's is nobody's. No run is told to have used more than its share, so four runs at a
quarter each never sum to more than one device.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import NamedTuple

from agent.model import Run, RunKey
from agent.samplers.nvidia.timeline import KEEP_MS, Span, Timeline, Use


class Split(NamedTuple):
    """How the use of a shared device divides: `parts` of `whole`, strangers' parts included.

    A run that is not in `parts` came when it was settled; of its use nothing is known.
    """

    parts: Mapping[RunKey, int]
    whole: int


class Shared(NamedTuple):
    """A device that several runs held at once, and how much use of it is to be divided."""

    runs: Sequence[Run]
    busy: int


class Life(NamedTuple):
    """From when to when."""

    start_ms: int
    end_ms: int

    def overlaps(self, other: "Life") -> bool:
        """Whether some time is in both."""
        return max(self.start_ms, other.start_ms) < min(self.end_ms, other.end_ms)

    def without(self, others: Iterable["Life"]) -> Iterator["Life"]:
        """What of it is in none of the others, in order."""
        start_ms = self.start_ms
        for other in sorted(others):
            if start_ms < min(other.start_ms, self.end_ms):
                yield Life(start_ms, min(other.start_ms, self.end_ms))
            start_ms = max(start_ms, other.end_ms)
        if start_ms < self.end_ms:
            yield Life(start_ms, self.end_ms)


@dataclass(slots=True)
class _Stake:
    """What one run holds of one device; `end_ms` None = it still does."""

    run: Run
    units: int
    start_ms: int
    named_ms: int
    end_ms: int | None = None
    read_ms: int = 0  # so far its use was told
    used: Timeline = field(default_factory=Timeline)

    def life(self, start_ms: int, end_ms: int) -> Life:
        """The part of [start, end) in which it is held."""
        last_ms = end_ms if self.end_ms is None else min(end_ms, self.end_ms)
        return Life(max(start_ms, self.start_ms), last_ms)


class Ledger:
    """See the module."""

    def __init__(self, interval_ms: int) -> None:
        """All runs are named once in `interval_ms`, or they are there no more."""
        self._interval_ms = interval_ms
        self._stakes: dict[str, dict[RunKey, _Stake]] = {}  # by device
        self._holders: set[RunKey] = set()  # who may have a stake
        self._measured: dict[str, Timeline] = {}
        self._split_ms: dict[str, int] = {}  # so far a device's use is attributed

    # Who holds what --------------------------------------------------------------------

    def name(self, runs: Iterable[Run], now_ms: int, agent_now_ms: int) -> None:
        """Take what these runs hold; `agent_now_ms` is now by the clock of their starts."""
        for run in runs:
            if not run.devices and run.key not in self._holders:
                continue
            self._holders.add(run.key)
            held: dict[str, int] = {}
            for share in run.devices:
                held[share.id] = held.get(share.id, 0) + share.share
            ahead_ms = agent_now_ms - now_ms
            for device, units in held.items():
                self._hold(device, run, units, now_ms, ahead_ms)
            for device, stakes in self._stakes.items():
                if device not in held and run.key in stakes and stakes[run.key].end_ms is None:
                    stakes[run.key].end_ms = now_ms
        self._expire(now_ms - 3 * self._interval_ms)

    def forget(self, keys: Collection[RunKey]) -> None:
        """Let go of these runs."""
        self._holders.difference_update(keys)
        for stakes in self._stakes.values():
            for key in keys:
                stakes.pop(key, None)

    def shared(self, now_ms: int) -> Mapping[str, Shared]:
        """The devices that several runs held at once since they were last attributed."""
        shared: dict[str, Shared] = {}
        for device, measured in self._measured.items():
            start_ms = self._attributed_ms(device, now_ms)
            stakes = self._stakes.get(device, {}).values()
            lives = [stake.life(start_ms, now_ms) for stake in stakes]
            if any(one.overlaps(other) for one, other in combinations(lives, 2)):
                busy = measured.between(start_ms, now_ms).busy
                shared[device] = Shared([stake.run for stake in stakes], busy)
        return shared

    @property
    def is_empty(self) -> bool:
        """Whether nobody holds anything."""
        return not any(self._stakes.values())

    def _hold(self, device: str, run: Run, units: int, now_ms: int, ahead_ms: int) -> None:
        stakes = self._stakes.setdefault(device, {})
        stake = stakes.get(run.key)
        is_new = stake is None
        if stake is None:
            start_ms = min(now_ms, run.started_at_ms - ahead_ms)
            stake = stakes[run.key] = _Stake(run, units, start_ms, now_ms)
        stake.run, stake.units, stake.named_ms = run, units, now_ms
        if run.ended_at_ms is not None and stake.end_ms is None:
            stake.end_ms = min(now_ms, run.ended_at_ms - ahead_ms)
        if is_new:
            self._catch_up(device, stake)

    def _catch_up(self, device: str, stake: _Stake) -> None:
        """Give one that is named late what it used alone, though that was attributed before."""
        until_ms = self._split_ms.get(device, 0)
        others = [other for other in self._stakes[device].values() if other is not stake]
        lives = [other.life(0, until_ms) for other in others]
        for alone in stake.life(0, until_ms).without(lives):
            use = self._measured[device].between(*alone)
            busy = min(use.busy, use.covered_ms * stake.units)
            stake.used.add(Span(*alone, busy, use.covered_ms))

    def _expire(self, before_ms: int) -> None:
        for stakes in self._stakes.values():
            for key in [key for key, stake in stakes.items() if stake.named_ms < before_ms]:
                del stakes[key]
        self._holders = {key for stakes in self._stakes.values() for key in stakes}

    # What the devices did ----------------------------------------------------------------

    def measure(self, device: str, spans: Iterable[Span]) -> None:
        """Add what was measured of a device."""
        self._measured.setdefault(device, Timeline()).extend(spans)

    def attribute(self, until_ms: int, splits: Mapping[str, Split]) -> None:
        """Say whose the use up to now was; a shared device without a split is nobody's."""
        for device, measured in self._measured.items():
            start_ms = self._attributed_ms(device, until_ms)
            stakes = self._stakes.get(device, {})
            lives = {key: stake.life(start_ms, until_ms) for key, stake in stakes.items()}
            for key, life in lives.items():
                if life.start_ms < life.end_ms:
                    rivals = [other for who, other in lives.items() if who != key]
                    use = measured.between(*life)
                    if any(life.overlaps(other) for other in rivals):
                        total = measured.between(start_ms, until_ms)
                        use = _part(key, use, total, splits.get(device))
                    busy = min(use.busy, use.covered_ms * stakes[key].units)
                    stakes[key].used.add(Span(*life, busy, use.covered_ms))
            self._split_ms[device] = until_ms

    def mean(self, device: str, start_ms: int, end_ms: int) -> int | None:
        """Base units of a device in use on average; None = unknown."""
        measured = self._measured.get(device)
        return measured.between(start_ms, end_ms).mean if measured else None

    def _attributed_ms(self, device: str, now_ms: int) -> int:
        return self._split_ms.get(device, now_ms - KEEP_MS)

    # What is told ------------------------------------------------------------------------

    def read(self, run: Run, now_ms: int) -> Mapping[str, int]:
        """Base units that a run used on average since it was last asked for, by device."""
        told: dict[str, int] = {}
        for device in {share.id for share in run.devices}:
            stake = self._stakes.get(device, {}).get(run.key)
            until_ms = self._split_ms.get(device)
            if stake is None or until_ms is None or now_ms - until_ms > self._interval_ms * 3 // 2:
                continue
            life = stake.life(stake.read_ms, until_ms)
            mean = stake.used.between(*life).mean
            if mean is not None:
                told[device] = mean
                stake.read_ms = life.end_ms
        return told


def _part(run: RunKey, own: Use, total: Use, split: Split | None) -> Use:
    """A run's part of what was measured of all; nothing is observed where that is unknown.

    The weights are of the whole stretch of time, and so is what they divide: one that was
    there for a part of it has used its part in that time.
    """
    if split is not None and not split.whole:
        return Use(0, own.covered_ms)
    if split is None or run not in split.parts:
        return Use(0, 0)
    return Use(total.busy * split.parts[run] // split.whole, own.covered_ms)
