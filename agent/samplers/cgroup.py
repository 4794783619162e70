"""The `cgroup` sampler: CPU time and working set of runs that have a cgroup, v1 or v2.

- CPU: `cpuacct.usage` (v1, nanoseconds) or `usage_usec` of `cpu.stat` (v2, there also
  without the cpu controller), since the cgroup was made.
- Memory: the working set as kubelet and cAdvisor define it, usage - inactive_file, which
  is what an eviction looks at; never the bare usage, which is full of page cache. Where
  the memory controller is missing, the memory of the cgroup's processes.

Descriptors are kept: one system call per file and sample. A cgroup that is gone is absent
from the answer; one that was made anew under a live run counts from 0 again.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from agent.cgroups import Hierarchies, find_hierarchies, members
from agent.clock import SystemTime
from agent.context import Context
from agent.keptfiles import KeptFiles
from agent.model import MeterKey, Reading, ReadingKind, ResourceType, Run, RunKey
from agent.procfs import ProcFs, number_after
from agent.samplers.pss import PssReader


def open_cgroup_sampler(context: Context) -> "CgroupSampler":
    """Make the sampler of the cgroup mounts that the settings name."""
    settings = context.settings
    procfs = ProcFs(settings.at("/proc"))
    pss = PssReader(procfs, SystemTime().monotonic_ns)
    return CgroupSampler(find_hierarchies(str(settings.cgroup.root)), procfs, pss)


_COUNTER, _LEVEL = ReadingKind.COUNTER, ReadingKind.LEVEL

_MAX_REUSE = 6
"""memory.stat costs more than all else: while the usage stands still, so many samples share it."""


class _Cpu(NamedTuple):
    path: str
    is_v2: bool


class _Memory(NamedTuple):
    usage: str
    stat: str
    inactive_file: bytes


class _Source:
    """Where one run's figures are; `memory` None = there is no memory controller."""

    __slots__ = ("cpu", "cpu_key", "folders", "mem_key", "memory", "usage", "used_times", "working")

    def __init__(
        self, run: RunKey, cpu: _Cpu, memory: _Memory | None, folders: Sequence[str]
    ) -> None:
        self.cpu_key = MeterKey(run, ResourceType.CPU, None)
        self.mem_key = MeterKey(run, ResourceType.MEM, None)
        self.cpu = cpu
        self.memory = memory
        self.folders = folders
        self.usage = b""  # of which `working` is the working set, used so many times
        self.working = 0
        self.used_times = 0


class CgroupSampler:
    """Reads the runs that name a cgroup."""

    name = "cgroup"

    def __init__(self, hierarchies: Hierarchies, procfs: ProcFs, pss: PssReader) -> None:
        """Read below these mounts; `procfs` and `pss` where there is no memory controller."""
        self._hierarchies = hierarchies
        self._procfs = procfs
        self._pss = pss
        self._kept = KeptFiles()
        self._sources: dict[RunKey, _Source] = {}

    def sample(self, runs: Sequence[Run]) -> Mapping[MeterKey, Reading]:
        """Read every run that names a cgroup and lives."""
        readings: dict[MeterKey, Reading] = {}
        for run in runs:
            if run.cgroup is not None and run.ended_at_ms is None:
                self._sample(run.key, run.cgroup, readings)
        return readings

    def forget(self, keys: Collection[RunKey]) -> None:
        """Close what was kept for these runs."""
        for key in keys:
            source = self._sources.pop(key, None)
            if source is not None:
                self._kept.forget(source.cpu.path)
            if source is not None and source.memory is not None:
                self._kept.forget(source.memory.usage)
                self._kept.forget(source.memory.stat)

    def _sample(self, run: RunKey, cgroup: str, readings: dict[MeterKey, Reading]) -> None:
        source = self._sources.get(run)
        if source is None:
            source = self._find_source(run, cgroup)
        cpu_us = self._read_cpu(source.cpu) if source else None
        if source is None or cpu_us is None:
            self.forget([run])
            return
        self._sources[run] = source
        readings[source.cpu_key] = Reading(kind=_COUNTER, value=cpu_us)
        memory_kib = self._read_memory(source)
        if memory_kib is not None:
            readings[source.mem_key] = Reading(kind=_LEVEL, value=memory_kib)

    def _find_source(self, run: RunKey, cgroup: str) -> _Source | None:
        """Look which hierarchy has the cgroup's CPU time, and which its memory."""
        v1, v2 = self._hierarchies.v1, self._hierarchies.v2
        cpus = (
            [_Cpu(f"{v1['cpuacct']}{cgroup}/cpuacct.usage", is_v2=False)] if "cpuacct" in v1 else []
        )
        memories = [_v1_memory(v1["memory"] + cgroup)] if "memory" in v1 else []
        if v2 is not None:
            cpus.append(_Cpu(f"{v2}{cgroup}/cpu.stat", is_v2=True))
            memories.append(_v2_memory(v2 + cgroup))
        cpu = next((cpu for cpu in cpus if self._kept.read(cpu.path, 64)), None)
        memory = next((memory for memory in memories if self._kept.read(memory.usage, 64)), None)
        return _Source(run, cpu, memory, self._hierarchies.folders(cgroup)) if cpu else None

    def _read_cpu(self, cpu: _Cpu) -> int | None:
        """Microseconds since the cgroup was made."""
        data = self._kept.read(cpu.path, 64)
        if not data:
            return None
        return number_after(data, b"usage_usec ") if cpu.is_v2 else int(data) // 1000

    def _read_memory(self, source: _Source) -> int | None:
        """The working set in KiB."""
        if source.memory is None:
            return self._memory_of_processes(source.folders)
        usage = self._kept.read(source.memory.usage, 64)
        if not usage:
            return None
        if usage != source.usage or source.used_times >= _MAX_REUSE:
            stat = self._kept.read(source.memory.stat, 8192)
            inactive = number_after(stat, source.memory.inactive_file) if stat else None
            if inactive is None:
                return None
            source.usage, source.used_times = usage, 0
            source.working = max(0, int(usage) - inactive) // 1024
        source.used_times += 1
        return source.working

    def _memory_of_processes(self, folders: Sequence[str]) -> int:
        pids = {pid for folder in folders for pid in members(folder)}
        processes = (self._procfs.process(pid) for pid in pids)
        return self._pss.total_kib(process for process in processes if process)


def _v1_memory(folder: str) -> _Memory:
    usage, stat = f"{folder}/memory.usage_in_bytes", f"{folder}/memory.stat"
    return _Memory(usage, stat, b"\ntotal_inactive_file ")


def _v2_memory(folder: str) -> _Memory:
    return _Memory(f"{folder}/memory.current", f"{folder}/memory.stat", b"\ninactive_file ")
