"""Ascend chips as the driver names them, and the devices that they are in the inventory. Pure.

A device is one chip: a card of two (310P Duo, 910C) is two devices. Its id is `NPU-` and
the VDie id, which is burnt into the chip; where the driver does not tell it, the PCI
address, and without that the number of the chip. A vNPU is a part of its chip by AI cores:
the number in its template's name (`vir05_1c_8g` = 5) of those that the chip has.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from agent.model import DEVICE_UNITS, Device, ResourceType

_TEMPLATE = re.compile(r"vir(\d{1,3})(?:_|$)", re.ASCII)
_BUS = re.compile(r"([0-9a-fA-F]{4,8}):([0-9a-fA-F]{2}):([0-9a-fA-F]{2})\.([0-9a-fA-F])")
_DIE_WORD = re.compile(r"\b[0-9a-fA-F]{8}\b")
_DIE_WORDS = 5
_MAX_MODEL = 64
_UNFIT = re.compile(r"[^0-9A-Za-z_.+-]+")
_PREFIX = re.compile(r"^(?:ascend[\s_-]*)+(?=\S)", re.IGNORECASE)


class Place(NamedTuple):
    """Where the driver's calls find a chip, or a vNPU of it."""

    card: int
    chip: int
    vnpu: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Vnpu:
    """A part of a chip; `number` is unique on the node, `aicores` None = not to be told."""

    number: int
    aicores: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """One chip; what the driver does not tell is None. `aicores` are those of the whole."""

    place: Place
    logic: int | None
    phy: int | None
    model: str
    die: str | None = None
    bus: str | None = None
    aicores: int | None = None
    vnpus: tuple[Vnpu, ...] = ()


class Placed(NamedTuple):
    """A device, and where the driver finds it."""

    device: Device
    place: Place


def placed_devices(chips: Sequence[Chip]) -> Sequence[Placed]:
    """The devices that these chips and their vNPUs are, each id once."""
    found: dict[str, Placed] = {}
    for chip in chips:
        device = _device(chip, found)
        found[device.id] = Placed(device, chip.place)
        for vnpu in _vnpus(chip, device):
            found.setdefault(vnpu.device.id, vnpu)
    return list(found.values())


def _device(chip: Chip, taken: Collection[str]) -> Device:
    number = f"card-{chip.place.card}-{chip.place.chip}"
    candidates = [chip.die, f"pci-{chip.bus}" if chip.bus else None, number]
    ids = [f"NPU-{name}" for name in candidates if name]
    return Device(
        type=ResourceType.NPU,
        id=next((name for name in ids if name not in taken), ids[-1]),
        model=chip.model,
        names=frozenset(_names(chip)),
    )


def _names(chip: Chip) -> Iterator[str]:
    if chip.logic is not None:
        yield str(chip.logic)
    if chip.phy is not None:
        yield f"phy:{chip.phy}"
    if chip.bus is not None:
        yield f"pci:{chip.bus}"


def _vnpus(chip: Chip, parent: Device) -> Iterator[Placed]:
    """Those whose part is known; a part of unknown size cannot be accounted for."""
    for vnpu in chip.vnpus:
        if not vnpu.aicores or not chip.aicores or vnpu.aicores > chip.aicores:
            continue
        device = Device(
            type=ResourceType.NPU,
            id=f"{parent.id}-v{vnpu.number}",
            model=parent.model,
            units=DEVICE_UNITS * vnpu.aicores // chip.aicores,
            parent=parent.id,
            names=frozenset({str(vnpu.number), f"phy:{vnpu.number}"}),
        )
        yield Placed(device, Place(chip.place.card, chip.place.chip, vnpu.number))


def template_aicores(template: str) -> int | None:
    """The AI cores that a template stands for: `vir04_3c` has 4."""
    match = _TEMPLATE.match(template)
    return int(match[1]) if match else None


def model_of(name: str) -> str:
    """One spelling for what the library and the tool write differently: `Ascend910B2`."""
    bare = _UNFIT.sub("", _PREFIX.sub("", name.strip()))[:_MAX_MODEL]
    return "Ascend" if bare.lower() in {"", "ascend"} else f"Ascend{bare}"


def die_of(words: Sequence[int]) -> str | None:
    """The VDie id as npu-smi's documents join it; None = it is not burnt in."""
    return "-".join(f"{word:08X}" for word in words) if any(words) else None


def die_in(text: str) -> str | None:
    """The same out of `42C711D4 20B03704 …`; None = there are no five words."""
    words = _DIE_WORD.findall(text)
    return die_of([int(word, 16) for word in words]) if len(words) == _DIE_WORDS else None


def bus_in(text: str) -> str | None:
    """The PCI address in lower case, its domain four digits as in /sys; None = there is none."""
    match = _BUS.search(text)
    if not match:
        return None
    domain, bus, device, function = (int(part, 16) for part in match.groups())
    return f"{domain:04x}:{bus:02x}:{device:02x}.{function:x}"
