"""Resolves what providers say of devices, and lets nobody hold more than there is. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from agent.model import DEVICE_UNITS, Device, DeviceShare, ResourceType, Run

ALL = "all"
"""The name of all devices of a type; nothing, while none is known."""


class Inventory:
    """The devices of a node by everything that they are called."""

    def __init__(self, devices: Iterable[Device]) -> None:
        """Take all devices; of two with one name, the first has it."""
        self.devices: Mapping[str, Device] = {device.id: device for device in devices}
        self._by_name: dict[tuple[ResourceType, str], Device] = {}
        for device in self.devices.values():
            for name in (device.id, *device.names):
                self._by_name.setdefault((device.type, name), device)

    def find(self, type_: ResourceType, name: str) -> Device | None:
        """The device of this uuid or name."""
        return self._by_name.get((type_, name))

    def resolve(self, runs: Sequence[Run]) -> Sequence[Run]:
        """Put uuid, model and share into what the runs hold, and cut it to what there is.

        Where it is not enough for all, those come first whom a scheduler speaks for; what
        they leave is divided among those who speak for themselves.
        """
        if not any(run.devices for run in runs):
            return runs
        return _cut_to_fit([self._resolve(run) for run in runs])

    def _resolve(self, run: Run) -> Run:
        if not run.devices:
            return run
        named = (each for share in run.devices for each in self._each(share))
        return replace(run, devices=tuple(map(self._resolve_share, named)))

    def _each(self, share: DeviceShare) -> Iterable[DeviceShare]:
        """The devices that one name stands for."""
        if share.id != ALL:
            return (share,)
        of_type = [device for device in self.devices.values() if device.type is share.type]
        up = {device.id for device in of_type if device.is_up}
        # A slice that is gone while its device works is no more: that was cut anew.
        present = [device for device in of_type if device.is_up or device.parent not in up]
        cut = {device.parent for device in present}
        return [replace(share, id=device.id) for device in present if device.id not in cut]

    def _resolve_share(self, share: DeviceShare) -> DeviceShare:
        device = self.find(share.type, share.id)
        units = device.units if device else DEVICE_UNITS
        first, through, of = share.part
        return replace(
            share,
            id=device.id if device else share.id,
            model=device.model if device else share.model,
            share=units * through // of - units * first // of,
            physical=device.physical if device else share.id,
        )


def apportion(total: int, weights: Sequence[int]) -> Sequence[int]:
    """Split `total` by weights, whole units only: largest remainder, ties to the earliest."""
    whole = sum(weights)
    parts = [total * weight // whole for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda at: -(total * weights[at] % whole))
    for at in by_remainder[: total - sum(parts)]:
        parts[at] += 1
    return parts


def _cut_to_fit(runs: Sequence[Run]) -> Sequence[Run]:
    """Where live runs hold more of a physical device than there is, leave each its part."""
    held: dict[tuple[ResourceType, str], list[tuple[int, int]]] = {}  # places: run, share
    for at, run in enumerate(runs):
        if run.ended_at_ms is None:
            for place, share in enumerate(run.devices):
                held.setdefault((share.type, share.physical or share.id), []).append((at, place))
    fitted = list(runs)
    for places in held.values():
        left = DEVICE_UNITS
        for is_own_word in (False, True):
            group = [
                (at, place)
                for at, place in places
                if (runs[at].own_word_of is not None) is is_own_word
            ]
            left -= _divide(left, group, runs, fitted)
    return fitted


def _divide(
    units: int, places: Sequence[tuple[int, int]], runs: Sequence[Run], fitted: list[Run]
) -> int:
    """Give each of these shares its part of `units`; returns how much of it is given away."""
    shares = [runs[at].devices[place] for at, place in places]
    wanted = sum(share.share for share in shares)
    if wanted <= units:
        return wanted
    parts = apportion(units, [share.share for share in shares])
    for (at, place), share, part in zip(places, shares, parts, strict=True):
        devices = list(fitted[at].devices)
        devices[place] = replace(share, share=part)
        fitted[at] = replace(fitted[at], devices=tuple(devices))
    return units
