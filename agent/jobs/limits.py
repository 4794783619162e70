"""Reads what a cgroup limits itself to: the quotas of a run whose scheduler left no other word.

CPU from `cpu.max` (v2) or the CFS quota (v1), memory from `memory.max` or
`memory.limit_in_bytes`. No limit, or no controller that could set one, is nothing
requested: 0, never the whole node. Weights and shares are no quantities.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from agent.cgroups import Hierarchies
from agent.jobs.jobfile import MAX_CPU_M, MAX_MEM_MI
from agent.keptfiles import KeptFiles
from agent.model import ResourceType

Quotas = Mapping[ResourceType, int]

NOTHING_REQUESTED: Quotas = {ResourceType.CPU: 0, ResourceType.MEM: 0}

_NUMBER = re.compile(rb"-?[0-9]{1,20}")
_MAX_MEM_KIB = MAX_MEM_MI << 10


_Paths = tuple[str, str, str, str]
"""cpu.max, the CFS quota and period, the memory limit; "" = there cannot be one."""


class Limits(NamedTuple):
    """The texts of a cgroup's limit files; None = there is none of that name."""

    cpu_max: bytes | None
    cpu_quota: bytes | None
    cpu_period: bytes | None
    memory: bytes | None

    @property
    def is_known(self) -> bool:
        """Whether anything could be read; a cgroup that is gone has nothing to read."""
        return any(text is not None for text in self)

    def after(self, before: "Limits | None") -> "Limits":
        """What holds now: v1's controllers go one by one, and a limit does not with them."""
        if before is None:
            return self
        pairs = zip(self, before, strict=True)
        return Limits(*(old if new is None else new for new, old in pairs))

    def quotas(self) -> Quotas:
        """The base units that they allow."""
        return {ResourceType.CPU: self._cpu_m(), ResourceType.MEM: self._mem_kib()}

    def _cpu_m(self) -> int:
        if self.cpu_max is not None:
            quota, _, period = self.cpu_max.strip().partition(b" ")
        else:
            quota, period = self.cpu_quota or b"", self.cpu_period or b""
        return cpu_m_of(_number(quota), _number(period))

    def _mem_kib(self) -> int:
        return mem_kib_of(_number(self.memory or b""))


UNLIMITED = Limits(None, None, None, None)


def cpu_m_of(quota_us: int, period_us: int) -> int:
    """Milli-cores of so much CPU time in each period; 0 = no limit, or no period."""
    if quota_us <= 0 or period_us <= 0:
        return 0
    return min(quota_us * 1000 // period_us, MAX_CPU_M)


def mem_kib_of(limit_bytes: int) -> int:
    """KiB; 0 = no limit, which v1 has no word for: it shows the largest number there is."""
    kib = limit_bytes // 1024
    return kib if 0 < kib <= _MAX_MEM_KIB else 0


class LimitReader:
    """Reads the limits of many cgroups again and again, through kept descriptors."""

    def __init__(self, hierarchies: Hierarchies) -> None:
        """Look below these mounts."""
        self._v1 = hierarchies.v1
        self._v2 = hierarchies.v2
        self._kept = KeptFiles()
        self._paths: dict[str, _Paths] = {}

    def read(self, cgroup: str) -> Limits:
        """The limits as they are now, from whichever hierarchy has the controller."""
        paths = self._paths.get(cgroup)
        if paths is None:
            paths = self._paths[cgroup] = self._find(cgroup)
        return _look(paths, self._kept)

    def read_once(self, cgroup: str) -> Limits:
        """The same without keeping anything; from any thread."""
        return _look(self._find(cgroup), KeptFiles(limit=0))

    def forget(self, cgroup: str) -> None:
        """Let go of what was kept for it."""
        for path in self._paths.pop(cgroup, ()):
            if path:
                self._kept.forget(path)

    def _find(self, cgroup: str) -> _Paths:
        v1, v2 = self._v1, self._v2
        cpu = f"{v1['cpu']}{cgroup}" if "cpu" in v1 else ""
        cpu_max = f"{v2}{cgroup}/cpu.max" if v2 is not None and not cpu else ""
        memory = f"{v2}{cgroup}/memory.max" if v2 is not None else ""
        if "memory" in v1:
            memory = f"{v1['memory']}{cgroup}/memory.limit_in_bytes"
        quota, period = (f"{cpu}/cpu.cfs_{name}_us" if cpu else "" for name in ("quota", "period"))
        return cpu_max, quota, period, memory


def _look(paths: _Paths, kept: KeptFiles) -> Limits:
    cpu_max, quota, period, memory = paths
    return Limits(
        kept.read(cpu_max, 64) if cpu_max else None,
        kept.read(quota, 64) if quota else None,
        kept.read(period, 64) if period else None,
        kept.read(memory, 64) if memory else None,
    )


def _number(text: bytes) -> int:
    """A decimal number, negative or not; anything else ("max") is 0."""
    match = _NUMBER.fullmatch(text.strip())
    return int(match[0]) if match else 0
