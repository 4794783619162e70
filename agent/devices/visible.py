"""Reads the variables by which container runtimes are told which devices to show. Pure.

What cannot be a device is passed over: whoever wrote the variable wrote it for a runtime,
and that one passed it over, or failed, too. A process's own `CUDA_VISIBLE_DEVICES` and
`ASCEND_RT_VISIBLE_DEVICES` number what is visible already and say nothing of the node.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from agent.devices.inventory import ALL
from agent.model import DeviceShare, ResourceType

MAX_DEVICES = 1024
"""More than any node has; the rest of a longer list is passed over."""

_NUMBER = re.compile(r"[0-9]{1,6}")
_SLICE = re.compile(r"[0-9]{1,4}:[0-9]{1,4}")
_UUID = re.compile(r"(GPU|MIG)-[0-9A-Za-z/-]{1,120}")
_RANGE = re.compile(r"(?:Ascend[0-9A-Za-z]*-)?([0-9]{1,6})(?:-([0-9]{1,6}))?")


def nvidia_devices(value: str) -> tuple[DeviceShare, ...]:
    """`NVIDIA_VISIBLE_DEVICES`: `all`, or numbers, uuids and `GPU:SLICE` numbers; else none."""
    if value.strip() == ALL:
        return _shares(ResourceType.GPU, [ALL])
    return _shares(ResourceType.GPU, filter(None, map(_gpu_name, _items(value))))


def cdi_devices(names: Sequence[str]) -> tuple[DeviceShare, ...]:
    """Device names of the container device interface, such as `nvidia.com/gpu=0`."""
    pairs = (name.partition("=")[::2] for name in names[:MAX_DEVICES])
    return tuple(
        share
        for kind, device in pairs
        if kind in {"nvidia.com/gpu", "nvidia.com/mig"}
        for share in nvidia_devices(device)
    )


def ascend_devices(value: str) -> tuple[DeviceShare, ...]:
    """`ASCEND_VISIBLE_DEVICES`: physical numbers as `0`, `1,3`, `0-2,4` or `Ascend910-1`."""
    numbers = (number for item in _items(value) for number in _ascend_numbers(item))
    return _shares(ResourceType.NPU, (f"phy:{number}" for number in numbers))


def gpus_by_number(count: int) -> tuple[DeviceShare, ...]:
    """The first `count` GPUs, which is what Docker gives to who asks for so many; -1 = all."""
    if count < 0:
        return _shares(ResourceType.GPU, [ALL])
    return _shares(ResourceType.GPU, map(str, range(min(count, MAX_DEVICES))))


def device_file(path: str) -> DeviceShare | None:
    """The device that a file in /dev is, such as `/dev/nvidia0`; None = no such one."""
    match = re.fullmatch(r"/dev/(nvidia|v?davinci|accel/accel)([0-9]{1,6})", path)
    if match is None:
        return None
    is_gpu = match[1] == "nvidia"
    type_ = ResourceType.GPU if is_gpu else ResourceType.NPU
    name = f"{'minor' if is_gpu else 'phy'}:{int(match[2])}"
    return DeviceShare(type=type_, id=name, model=None)


def _items(value: str) -> Iterator[str]:
    return (item.strip() for item in value[: 1 << 16].split(","))


def _gpu_name(item: str) -> str:
    if _NUMBER.fullmatch(item):
        return str(int(item))
    return item if _SLICE.fullmatch(item) or _UUID.fullmatch(item) else ""


def _ascend_numbers(item: str) -> Sequence[int]:
    match = _RANGE.fullmatch(item)
    if match is None:
        return ()
    first = int(match[1])
    last = first if match[2] is None else int(match[2])
    return range(first, min(last, first + MAX_DEVICES) + 1)


def _shares(type_: ResourceType, names: Iterable[str]) -> tuple[DeviceShare, ...]:
    """Each name once, in the order given."""
    different = dict.fromkeys(islice(names, MAX_DEVICES))
    return tuple(DeviceShare(type=type_, id=name, model=None) for name in different)
