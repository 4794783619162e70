"""The GPUs that the kernel module lists in /proc: without the library, and of a saved tree.

What is in there: `/proc/driver/nvidia/gpus/DDDD:BB:DD.F/information`, one `Name: value` per
line. A GPU that was never used since the boot has no uuid yet, and is left out.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from agent.model import Device, ResourceType

_MAX_GPUS = 64
_MAX_BYTES = 4096
_NVIDIA, _DISPLAY = "0x10de", "0x03"


def read_gpus(proc: str) -> Sequence[Device]:
    """All that have a uuid, in the order of the bus, which is also NVML's."""
    found = [facts for facts in _facts(proc) if facts.get("GPU Excluded") != "Yes"]
    return [_device(index, facts) for index, facts in enumerate(found) if _has_uuid(facts)]


def has_module(proc: str) -> bool:
    """Whether NVIDIA's kernel module is loaded."""
    return Path(f"{proc}/driver/nvidia").is_dir()


def has_hardware(sys: str) -> bool:
    """Whether a GPU of NVIDIA is plugged in, driver or not."""
    devices = Path(f"{sys}/bus/pci/devices")
    with_vendor = (path for path in _entries(devices) if _read(path / "vendor") == _NVIDIA)
    return any(_read(path / "class").startswith(_DISPLAY) for path in with_vendor)


def printable(text: str) -> str:
    """A name as it may stand on a bill."""
    return "".join(char for char in text if char.isprintable()).strip()[:256]


def pci_name(domain: int, bus: int, device: int) -> str:
    """The PCI address as `agent.devices` has it."""
    return f"pci:{domain:04x}:{bus:02x}:{device:02x}.0"


def gpu_names(index: int, minor: int | None, pci: str | None) -> frozenset[str]:
    """Everything that a GPU is called besides its uuid."""
    names = {str(index)}
    if minor is not None:
        names |= {f"minor:{minor}", f"nvidia{minor}"}
    if pci is not None:
        names.add(pci)
    return frozenset(names)


def _facts(proc: str) -> Iterator[Mapping[str, str]]:
    for folder in _entries(Path(f"{proc}/driver/nvidia/gpus"))[:_MAX_GPUS]:
        pairs = (line.partition(":") for line in _read(folder / "information").splitlines())
        yield {"address": folder.name} | {name.strip(): value.strip() for name, _, value in pairs}


def _has_uuid(facts: Mapping[str, str]) -> bool:
    uuid = facts.get("GPU UUID", "")
    return uuid.startswith("GPU-") and "?" not in uuid


def _device(index: int, facts: Mapping[str, str]) -> Device:
    minor = facts.get("Device Minor", "")
    return Device(
        type=ResourceType.GPU,
        id=printable(facts["GPU UUID"]),
        model=printable(facts.get("Model", "")) or "NVIDIA GPU",
        names=gpu_names(
            index,
            int(minor) if minor.isascii() and minor.isdecimal() else None,
            f"pci:{facts['address'].lower()}",
        ),
    )


def _entries(folder: Path) -> Sequence[Path]:
    try:
        return [folder / name for name in sorted(os.listdir(folder))]  # noqa: PTH208  names are enough
    except OSError:
        return []


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_BYTES).decode(errors="replace").strip()
    except OSError:
        return ""
