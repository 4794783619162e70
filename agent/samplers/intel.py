"""The `intel` sampler: NPUs of the intel_vpu driver, by the counter that it has in /sys.

`npu_busy_time_us` counts the time in which the NPU had work, since the driver was loaded;
reading it does not wake the device. What it grew by, of the time since the last look, is
how busy the device was. Drivers before Linux 6.11 do not have it: then the device is there,
without readings.

The id is the PCI address, since the NPU has none of its own.
"""

# Paths as text: a Path costs several times the system call.
# ruff: noqa: PTH208, PTH119

import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from agent.clock import SystemTime
from agent.context import Context
from agent.model import Device, MeterKey, Reading, ResourceType, Run, RunKey
from agent.samplers import Sampler
from agent.samplers.gauges import Gauge, Gauges

_CLASS = "/sys/class/accel"
_ENTRY = re.compile(r"accel(\d{1,4})", re.ASCII)
_ADDRESS = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-9a-f]")
_NUMBER = re.compile(rb"\d{1,20}", re.ASCII)
_DRIVER = "intel_vpu"
_BUSY = "npu_busy_time_us"


def open_intel_sampler(context: Context) -> Sampler | None:
    """Look into /sys; None where no such driver has a device."""
    time = SystemTime()
    sampler = IntelSampler(context.settings.at(_CLASS), lambda: time.monotonic_ns() // 1000)
    return sampler if sampler.devices() else None


@dataclass(slots=True)
class _Npu:
    """A device, and how busy it has been so far; `counter` None = not read at the last look."""

    device: Device
    folder: str
    counter: int | None = None
    read_at_us: int = 0
    busy_us: int = 0
    observed_us: int = 0


class IntelSampler:
    """Reads the runs that hold an Intel NPU."""

    name = "intel"

    def __init__(self, folder: str, monotonic_us: Callable[[], int]) -> None:
        """Look below `folder`, a /sys/class/accel; time as `monotonic_us` has it."""
        self._folder = folder
        self._monotonic_us = monotonic_us
        self._gauges = Gauges(ResourceType.NPU)
        self._npus: dict[str, _Npu] = {}
        self._listed: Sequence[str] = ()
        self._devices: Sequence[Device] = ()

    def devices(self) -> Sequence[Device]:
        """See `DeviceSampler`."""
        listed = sorted(_names(self._folder))
        if listed != self._listed:
            self._listed = listed
            self._list()
        return self._devices

    def sample(self, runs: Sequence[Run]) -> Mapping[MeterKey, Reading]:
        """See `Sampler`."""
        self.devices()
        for npu in self._npus.values():
            self._look(npu)
        devices = {name: npu.device for name, npu in self._npus.items()}
        gauges = {
            name: Gauge(npu.busy_us, npu.observed_us)
            for name, npu in self._npus.items()
            if npu.counter is not None
        }
        return self._gauges.take(runs, devices, gauges)

    def forget(self, keys: Collection[RunKey]) -> None:
        """See `Sampler`."""
        self._gauges.forget(keys)

    def _list(self) -> None:
        """Find the devices anew; those that are gone stay, as lost."""
        found = {npu.device.id: npu for npu in _find(self._folder, self._listed)}
        for name, old in self._npus.items():
            if name in found:
                old.device, old.folder = found[name].device, found[name].folder
            else:
                old.device = replace(old.device, is_up=False)
        self._npus |= {name: npu for name, npu in found.items() if name not in self._npus}
        self._devices = tuple(npu.device for npu in self._npus.values())

    def _look(self, npu: _Npu) -> None:
        """Add what it did since the last look; a counter that fell says nothing of that time."""
        now_us = self._monotonic_us()
        counter = _read_number(f"{npu.folder}/{_BUSY}") if npu.device.is_up else None
        before = npu.counter
        if counter is not None and before is not None and counter >= before:
            elapsed_us = now_us - npu.read_at_us
            npu.busy_us += min(counter - before, elapsed_us)
            npu.observed_us += elapsed_us
        npu.counter, npu.read_at_us = counter, now_us


def _find(folder: str, names: Sequence[str]) -> Iterator[_Npu]:
    """The NPUs among the accelerators; other vendors' have another driver."""
    for name in names:
        match = _ENTRY.fullmatch(name)
        device = f"{folder}/{name}/device"
        facts = _facts(f"{device}/uevent")
        has_counter = os.path.exists(f"{device}/{_BUSY}")  # noqa: PTH110
        address = facts.get("PCI_SLOT_NAME", "") or os.path.basename(os.path.realpath(device))
        is_ours = has_counter or facts.get("DRIVER") == _DRIVER
        if match and is_ours and _ADDRESS.fullmatch(address.lower()):
            yield _Npu(_device(match[1], address.lower(), facts), device)


def _device(number: str, address: str, facts: Mapping[str, str]) -> Device:
    kind = facts.get("PCI_ID", "").rpartition(":")[2].lower()
    known = f" {kind}" if re.fullmatch(r"[0-9a-f]{4}", kind) else ""
    return Device(
        type=ResourceType.NPU,
        id=f"NPU-pci-{address}",
        model=f"Intel NPU{known}",
        names=frozenset({number, f"phy:{number}", f"pci:{address}"}),
    )


def _names(folder: str) -> Sequence[str]:
    with suppress(OSError):
        return os.listdir(folder)
    return ()


def _facts(path: str) -> Mapping[str, str]:
    """The lines `KEY=value` of a uevent; {} = it cannot be read."""
    pairs = (line.partition("=") for line in _read(path).decode(errors="replace").splitlines())
    return {key: value for key, equals, value in pairs if equals}


def _read_number(path: str) -> int | None:
    data = _read(path).strip()
    return int(data) if _NUMBER.fullmatch(data) else None


def _read(path: str) -> bytes:
    """A small file; b"" = it cannot be read now, as while the device is being reset."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(fd, 4096)
    except OSError:
        return b""
    finally:
        os.close(fd)
