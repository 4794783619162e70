"""Looks at all NPUs again and again, in a thread of its own, and adds up what it saw.

A chip tells its utilisation of a moment. Between two looks that follow each other it is
taken to go in a straight line; across a gap nothing is known, and nothing added.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from agent.errors import SamplerError
from agent.model import Device
from agent.samplers.ascend.chips import Chip, Place, Placed, placed_devices
from agent.samplers.ascend.source import Look, NpuSource
from agent.samplers.gauges import Gauge

_MAX_GAP_MS = 30_000
"""Looks further apart than this do not follow each other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What one round found. Durations and `at_ms` are those of the monotonic clock.

    `devices` are all that were ever seen, the same object while nothing changes; `gauges`
    and `processes` are of those that were looked at now, by device.
    """

    devices: Sequence[Device]
    gauges: Mapping[str, Gauge]
    processes: Mapping[str, frozenset[int]]
    at_ms: int
    took_ms: int


class Surveyor:
    """Asks one source; use it from one thread."""

    def __init__(
        self, source: NpuSource, monotonic_ms: Callable[[], int], wake: Callable[[], None]
    ) -> None:
        """Ask nothing yet; `wake` is told of devices that are new, lost or back."""
        self._source = source
        self.monotonic_ms = monotonic_ms
        self._wake = wake
        self._has_news = False
        self._chips: Sequence[Chip] = ()
        self._placed: Sequence[Placed] = ()
        self._devices: dict[str, Device] = {}
        self._told: Sequence[Device] = ()
        self._surveyed_at_ms: int | None = None
        self._gauges: dict[str, Gauge] = {}
        self._points: dict[str, tuple[int, int]] = {}  # by device: when, per cent
        self.shared: Collection[str] = ()  # set by who knows the runs

    def look(self) -> Survey:
        """Look once at everything; the first time only which devices there are.

        Raises:
            SamplerError: the driver does not answer; what comes after does not follow.
        """
        begun_ms = self.monotonic_ms()
        is_first = not self._told
        try:
            self._survey(begun_ms)
            looks: Mapping[Place, Look] = {}
            if not is_first:
                looks = self._source.look(self._chips)
        except SamplerError:
            self._points.clear()
            raise
        self._take(looks)
        now_ms = self.monotonic_ms()
        return Survey(
            devices=self._told,
            gauges={device: self._gauges[device] for device in self._points},
            processes={} if is_first else self._processes(),
            at_ms=now_ms,
            took_ms=now_ms - begun_ms,
        )

    def told(self) -> None:
        """The newest survey is there for everybody to take."""
        if self._has_news:
            self._has_news = False
            self._wake()

    def _survey(self, now_ms: int) -> None:
        """Ask which chips there are, where the last answer is too old."""
        every_ms = self._source.inventory_seconds * 1000
        if self._surveyed_at_ms is not None and now_ms - self._surveyed_at_ms < every_ms:
            return
        self._surveyed_at_ms = None
        self._chips = self._source.chips()
        self._placed = placed_devices(self._chips)
        present = {placed.device.id: placed.device for placed in self._placed}
        lost = {name: replace(old, is_up=False) for name, old in self._devices.items()}
        self._tell(lost | present)
        self._surveyed_at_ms = now_ms

    def _tell(self, devices: dict[str, Device]) -> None:
        if devices != self._devices:
            self._devices, self._told = devices, tuple(devices.values())
            self._has_news = True

    def _take(self, looks: Mapping[Place, Look]) -> None:
        """Add what was seen; a device that is said to be gone is asked for soon."""
        now_ms = self.monotonic_ms()
        seen = {placed.device.id: looks.get(placed.place, Look(None)) for placed in self._placed}
        lost = {name: self._devices[name] for name, look in seen.items() if look.is_lost}
        if lost:
            self._tell(
                self._devices
                | {name: replace(device, is_up=False) for name, device in lost.items()}
            )
            self._surveyed_at_ms = None
        points = {name: look.percent for name, look in seen.items() if look.percent is not None}
        for name, percent in points.items():
            self._add(name, percent, now_ms)
        self._points = {name: (now_ms, percent) for name, percent in points.items()}

    def _add(self, device: str, percent: int, now_ms: int) -> None:
        busy, observed, _ = self._gauges.get(device, Gauge(0, 0))
        before = self._points.get(device)
        if before and now_ms - before[0] <= _MAX_GAP_MS:
            elapsed_ms = now_ms - before[0]
            busy += (before[1] + percent) * elapsed_ms
            observed += 200 * elapsed_ms
        self._gauges[device] = Gauge(busy, observed, (percent, 100))

    def _processes(self) -> Mapping[str, frozenset[int]]:
        """Of the devices that several runs hold; nobody else's matter."""
        wanted = {placed.place: placed.device.id for placed in self._placed}
        chips = [chip for chip in self._chips if wanted[chip.place] in self.shared]
        found: Mapping[Place, frozenset[int]] = self._source.processes(chips) if chips else {}
        return {wanted[place]: pids for place, pids in found.items()}
