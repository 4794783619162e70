"""The host: what the node has and uses altogether, and the address that bills show for it.

Not a `Sampler` of runs. What all processes together use, metered or not:

- CPU: the root cgroup's own counter, of which every job's is a part to the microsecond;
  where there is none, /proc/stat, in ticks of 10 ms.
- Memory: total - free - inactive page cache, the working set of the whole node in the words
  of `agent.samplers.cgroup`.
"""

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from agent.cgroups import Hierarchies
from agent.errors import SamplerError
from agent.keptfiles import KeptFiles
from agent.model import Reading, ReadingKind, ResourceType
from agent.procfs import TICK_US, number_after

_ELSEWHERE = (("192.0.2.1", 9), ("2001:db8::1", 9))
"""Addresses that nobody has: the way to them is the default route's. Nothing is sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostCapacity:
    """What the node has; `cpu_model` None = the processor does not say."""

    cpu_m: int
    mem_kib: int
    cpu_model: str | None


def read_capacity(proc: Path = Path("/proc")) -> HostCapacity:
    """Count the processors that are online and the memory that the kernel manages.

    Raises:
        SamplerError: /proc does not say how much memory there is.
    """
    try:
        mem_kib = _field((proc / "meminfo").read_text(), "MemTotal")
        cpu_m = _count_processors(proc) * 1000
    except OSError as error:
        raise SamplerError(f"the capacity of the node cannot be read: {error}") from error
    if mem_kib is None:
        raise SamplerError(f"{proc}/meminfo does not say how much memory there is")
    return HostCapacity(
        cpu_m=cpu_m,
        mem_kib=int(mem_kib.removesuffix("kB")),
        cpu_model=_model(proc),
    )


def _model(proc: Path) -> str | None:
    try:
        return _field((proc / "cpuinfo").read_text(errors="replace"), *_MODEL_FIELDS)
    except OSError:
        return None


def _count_processors(proc: Path) -> int:
    """Those that are online: /proc/stat has a line for each."""
    lines = (proc / "stat").read_text().splitlines()
    return sum(line.startswith("cpu") and line[3:4].isdigit() for line in lines)


_MODEL_FIELDS = ("model name", "cpu model", "Model", "Hardware", "cpu")
"""x86 and new arm, mips, boards, old arm, power: /proc/cpuinfo has no one name for it."""


def _field(text: str, *names: str) -> str | None:
    """The first line named so; the earlier name wins."""
    parts = (line.partition(":") for line in reversed(text.splitlines()))
    lines = {key.strip(): value.strip() for key, colon, value in parts if colon}
    return next((lines[name] for name in names if lines.get(name)), None)


class HostReader:
    """Reads what the whole node uses; `capacity` is what it has, in base units."""

    def __init__(self, hierarchies: Hierarchies, proc: str, capacity: HostCapacity) -> None:
        """Read below these mounts and this /proc."""
        self.capacity: Mapping[ResourceType, int] = {
            ResourceType.CPU: capacity.cpu_m,
            ResourceType.MEM: capacity.mem_kib,
        }
        self._proc = proc
        self._kept = KeptFiles()
        self._v1 = (
            f"{hierarchies.v1['cpuacct']}/cpuacct.usage" if "cpuacct" in hierarchies.v1 else None
        )
        self._v2 = f"{hierarchies.v2}/cpu.stat" if hierarchies.v2 else None

    def read(self) -> Mapping[ResourceType, Reading]:
        """Take readings of CPU and memory; what cannot be read is absent."""
        readings: dict[ResourceType, Reading] = {}
        cpu_us, mem_kib = self._cpu_us(), self._mem_kib()
        if cpu_us is not None:
            readings[ResourceType.CPU] = Reading(kind=ReadingKind.COUNTER, value=cpu_us)
        if mem_kib is not None:
            readings[ResourceType.MEM] = Reading(kind=ReadingKind.LEVEL, value=mem_kib)
        return readings

    def _cpu_us(self) -> int | None:
        """Microseconds of CPU time since the boot."""
        if self._v1 and (data := self._kept.read(self._v1, 64)):
            return int(data) // 1000
        if self._v2 and (data := self._kept.read(self._v2, 64)):
            return number_after(data, b"usage_usec ")
        data = self._kept.read(f"{self._proc}/stat", 256)
        return cpu_us_of(data) if data else None

    def _mem_kib(self) -> int | None:
        data = self._kept.read(f"{self._proc}/meminfo", 4096) or b""
        parts = [
            number_after(data, name) for name in (b"MemTotal:", b"MemFree:", b"Inactive(file):")
        ]
        total, free, inactive = parts
        if total is None or free is None:
            return None
        return max(0, total - free - (inactive or 0))


def cpu_us_of(stat: bytes) -> int:
    """What /proc/stat's first line counts as used: user, nice, system, irq and softirq."""
    user, nice, system, _idle, _iowait, irq, softirq = map(int, stat.split()[1:8])
    return (user + nice + system + irq + softirq) * TICK_US


def find_address(target: str) -> str:
    """The source address of the route to `target` (a gRPC target), else of the default route.

    An aggregator on this very host says nothing about the node: then the default route's
    holds. Without any route it is the loopback address.
    """
    for candidates in (_resolve(target), _ELSEWHERE):
        for address in candidates:
            source = _source(address)
            if source is not None and not ip_address(source).is_loopback:
                return source
    return "127.0.0.1"


def _resolve(target: str) -> list[tuple[str, int]]:
    """Addresses of a gRPC target; [] where the name service does not answer."""
    place = target.removeprefix("dns:").lstrip("/").removeprefix("ipv4:").removeprefix("ipv6:")
    host, _, port = place.rpartition(":")
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError):
        return []
    return [(str(address[0]), int(address[1])) for *_, address in found]


def _source(address: tuple[str, int]) -> str | None:
    """Ask the kernel which own address it would use; connecting UDP sends nothing."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(address)
            return str(probe.getsockname()[0]).partition("%")[0]
    except OSError:
        return None
