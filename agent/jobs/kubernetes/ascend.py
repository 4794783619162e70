"""Which Ascend chips a pod holds, by the kubelet's ids and by what is annotated. Pure.

Where the scheduler chooses the chips (mind-cluster, Volcano), the ids that the kubelet
allocated may be others than those that are mounted: what counts is the annotation
`huawei.com/AscendReal`, else the template in `huawei.com/npu-core`. The ids:

- `Ascend910-14`, `npu-14`, `davinci14`, `14`, `<node>_14`: chip 14 by its physical id;
- `Ascend310P-0-99`: share 99 of chip 0, as the device plugin shares chips;
- `Ascend910-2c-100-0`, `Ascend910-5c.1cpu.16g-101-0`: vNPU 100 on chip 0;
- `0-vir02` of `huawei.com/npu-core`: two AI cores of chip 0; `0`: all of it.

A soft share holds the per cent of the chip that `…softShareDev.aicoreQuota` says.
"""

import re
from collections.abc import Iterable, Mapping

from agent.model import DeviceShare, ResourceType

_REAL = "huawei.com/AscendReal"
_CORE = "huawei.com/npu-core"
_SOFT_QUOTA = "huawei.com/scheduler.softShareDev.aicoreQuota"

_MAX_CHIPS = 256
_SEPARATORS = re.compile(r"[,\s]+")
_VNPU = re.compile(r"[A-Za-z]\w*-\d{1,3}c(?:\.[0-9a-z.]+)?-(?P<vnpu>\d{1,5})-\d{1,5}", re.ASCII)
_CHIP = re.compile(r"[A-Za-z][0-9A-Za-z]*-(?P<phy>\d{1,5})(?:-(?P<copy>\d{1,5}))?", re.ASCII)
_BARE = re.compile(r"(?:davinci|.*_)?(?P<phy>\d{1,5})", re.ASCII)
_TEMPLATE = re.compile(r"(?P<phy>\d{1,5})(?:-vir(?P<cores>\d{1,3})(?:_.*)?)?", re.ASCII)

_CORES_OF_CHIP = {3: 24, 5: 20, 6: 24, 8: 32, 10: 20, 12: 24, 16: 32}
"""How many AI cores a chip has that a template of so many is made for; the rest have 8."""


def split_npu_id(text: str) -> tuple[str, int | None]:
    """The name of the chip or vNPU as `agent.devices` has it, and which share of it, if one."""
    if match := _VNPU.fullmatch(text):
        return f"phy:{int(match['vnpu'])}", None
    if match := _CHIP.fullmatch(text):
        return f"phy:{int(match['phy'])}", int(match["copy"]) if match["copy"] else None
    if match := _BARE.fullmatch(text):
        return f"phy:{int(match['phy'])}", None
    return text, None


def annotated_npus(labels: Mapping[str, str]) -> tuple[DeviceShare, ...] | None:
    """The chips that a pod's annotations (and labels) tell; None = they tell none."""
    if real := labels.get(_REAL):
        percent = _percent(labels.get(_SOFT_QUOTA, ""))
        names = {split_npu_id(text)[0] for text in _tokens(real)}
        return _sorted(_share(name, (0, percent, 100)) for name in names) or None
    if core := labels.get(_CORE):
        matches = (_TEMPLATE.fullmatch(text) for text in _tokens(core))
        return _sorted(_of_template(match) for match in matches if match) or None
    return None


def is_npu_core(resource: str) -> bool:
    """Whether the kubelet's ids of it stand for AI cores of any chip, and so name none."""
    return resource == _CORE


def _of_template(match: re.Match[str]) -> DeviceShare:
    name = f"phy:{int(match['phy'])}"
    cores = int(match["cores"] or 0)
    of = _CORES_OF_CHIP.get(cores, 8)
    return _share(name, (0, min(cores, of), of) if cores else (0, 1, 1))


def _share(name: str, part: tuple[int, int, int]) -> DeviceShare:
    part = (0, 1, 1) if part[1] == part[2] else part
    return DeviceShare(type=ResourceType.NPU, id=name, model=None, part=part)


def _percent(text: str) -> int:
    """A soft share; nothing, or nonsense, is the whole chip."""
    is_number = text.isascii() and text.isdecimal() and len(text) <= 3
    return min(int(text), 100) if is_number and int(text) else 100


def _sorted(shares: Iterable[DeviceShare]) -> tuple[DeviceShare, ...]:
    return tuple(sorted(shares, key=lambda share: (share.id, share.part)))


def _tokens(text: str) -> list[str]:
    return [token for token in _SEPARATORS.split(text) if token][:_MAX_CHIPS]
