"""How busy each run keeps the devices that it holds, out of how busy the devices are. Pure.

Of a device that one run holds alone, all is that run's, at most its share. Of one that
several runs hold nobody's part is known, unless who really works on it is: those who do
not have used nothing, and one who is alone with it has all. An idle device is idle for all
who hold it.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from agent.model import (
    Device,
    MeterKey,
    Reading,
    ReadingKind,
    ResourceType,
    Run,
    RunKey,
)


class Gauge(NamedTuple):
    """How busy a device has been so far: `busy` of `observed`, in any one unit of time.

    Both only grow. `latest` is the same for its newest look alone: what is known of a run
    that began after the look before; None = nothing.
    """

    busy: int
    observed: int
    latest: tuple[int, int] | None = None


Workers = Callable[[str], Collection[RunKey] | None]
"""Which of its holders really work on a device; None = not known."""


class Gauges:
    """Makes readings of gauges: for each meter the mean since its previous one."""

    def __init__(self, type_: ResourceType) -> None:
        """Know of no run."""
        self._type = type_
        self._held: dict[RunKey, Mapping[str, int]] = {}  # share by device
        self._taken: dict[MeterKey, Gauge] = {}

    def note(self, runs: Sequence[Run]) -> None:
        """Remember what these runs hold: an event's look is not shown all runs."""
        for run in runs:
            if run.ended_at_ms is None and (held := _held(run, self._type)):
                self._held[run.key] = held
            else:
                self._held.pop(run.key, None)

    def holders(self, device: str) -> Sequence[RunKey]:
        """The runs that hold a device, as far as they were noted."""
        return [run for run, held in self._held.items() if device in held]

    def shared(self) -> Collection[str]:
        """The devices that more than one run holds."""
        held = [device for devices in self._held.values() for device in devices]
        return {device for device in held if held.count(device) > 1}

    def take(
        self,
        runs: Sequence[Run],
        devices: Mapping[str, Device],
        gauges: Mapping[str, Gauge],
        workers: Workers = lambda _device: None,
    ) -> Mapping[MeterKey, Reading]:
        """Read what `runs` use of `devices` by `gauges`; what is not known is absent."""
        self.note(runs)
        shared = self.shared()
        readings: dict[MeterKey, Reading] = {}
        for run in runs:
            for name, share in self._held.get(run.key, {}).items():
                key = MeterKey(run.key, self._type, name)
                used = self._mean(key, devices.get(name), gauges.get(name))
                if used and name in shared:
                    used = _part(used, run.key, workers(name))
                if used is not None:
                    value = min(used, share)
                    readings[key] = Reading(kind=ReadingKind.AVERAGE, value=value)
        return readings

    def forget(self, keys: Collection[RunKey]) -> None:
        """These runs are over."""
        over = set(keys)
        for key in over:
            self._held.pop(key, None)
        for meter in [meter for meter in self._taken if meter.run in over]:
            del self._taken[meter]

    def _mean(self, key: MeterKey, device: Device | None, gauge: Gauge | None) -> int | None:
        """Mean base units of the whole device since the last time; None = nothing is new."""
        if device is None or gauge is None:
            return None
        before = self._taken.get(key)
        if before is not None and gauge.observed <= before.observed:
            return None
        self._taken[key] = gauge
        if before is None:
            part = gauge.latest
        else:
            part = (gauge.busy - before.busy, gauge.observed - before.observed)
        return device.units * part[0] // part[1] if part else None


def _held(run: Run, type_: ResourceType) -> Mapping[str, int]:
    shares: dict[str, int] = {}
    for share in run.devices:
        if share.type is type_:
            shares[share.id] = shares.get(share.id, 0) + share.share
    return shares


def _part(whole: int, run: RunKey, workers: Collection[RunKey] | None) -> int | None:
    """What is one holder's of a device that was not idle."""
    if workers is None or not workers:
        return None
    if run not in workers:
        return 0
    return whole if len(workers) == 1 else None
