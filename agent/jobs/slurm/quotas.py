"""How much CPU and memory a job has been given: its cgroup's limits, else what Slurm told it.

Slurm limits the cgroup of a job to its allocation where it is told to (ConstrainCores and
ConstrainRAMSpace), and nobody but root can change that. A job that requested no memory is
then limited to the node's: that is no request, and 0.
"""

from typing import NamedTuple

from agent.jobs.slurm.facts import Facts
from agent.keptfiles import KeptFiles

_KIB_PER_MIB = 1024
_MAX_TEXT = 4096
_ENDLESS = 1 << 62
"""v1 has no word for "no limit": it shows the largest number of pages there is."""


class Limits(NamedTuple):
    """The texts of a job's limit files; None = there is none."""

    cpus: bytes | None = None
    memory: bytes | None = None

    def after(self, earlier: "Limits") -> "Limits":
        """These, and the earlier ones in the place of what could not be read."""
        cpus = earlier.cpus if self.cpus is None else self.cpus
        return Limits(cpus, earlier.memory if self.memory is None else self.memory)

    def cpu_count(self) -> int | None:
        """How many CPUs it may use; None = as many as there are."""
        if self.cpus is None or not self.cpus.strip():
            return None
        try:
            ranges = [item.partition(b"-") for item in self.cpus.split(b",")]
            return sum(int(last or first) - int(first) + 1 for first, _, last in ranges)
        except ValueError:
            return None

    def mem_kib(self) -> int | None:
        """How much memory it may use; None = as much as there is."""
        text = self.memory.strip() if self.memory else b""
        limit = int(text) if text.isdigit() and len(text) <= 20 else _ENDLESS
        return limit // 1024 if limit < _ENDLESS else None


class Quotas:
    """Reads the limits of jobs again and again, and weighs them with what else is known."""

    def __init__(self, *, v1_root: str, v2_root: str | None, total_kib: int) -> None:
        """Look below these.

        Args:
            v1_root: what the mounts of v1 lie below.
            v2_root: the mount of v2; None = there is none.
            total_kib: the node's memory; 0 = unknown.
        """
        self._v1_root = v1_root
        self._v2_root = v2_root or v1_root
        self._kept = KeptFiles()
        self._all_kib = total_kib // _KIB_PER_MIB * _KIB_PER_MIB  # Slurm counts whole MiB

    def read(self, cgroup: str, *, is_v2: bool) -> Limits:
        """The limits as they are now."""
        return _look(self._paths(cgroup, is_v2=is_v2), self._kept)

    def read_once(self, cgroup: str, *, is_v2: bool) -> Limits:
        """The same without keeping a descriptor; from any thread."""
        return _look(self._paths(cgroup, is_v2=is_v2), KeptFiles(limit=0))

    def forget(self, cgroup: str, *, is_v2: bool) -> None:
        """Let go of what was kept for it."""
        for path in self._paths(cgroup, is_v2=is_v2):
            self._kept.forget(path)

    def cpu_m(self, limits: Limits, slurm: Facts | None, environ: Facts | None) -> int:
        """Milli-cores that the job was given; 0 = nobody says."""
        told = (facts.cpus if facts else None for facts in (slurm, environ))
        counts = (limits.cpu_count(), *told)
        return next((count * 1000 for count in counts if count is not None), 0)

    def mem_kib(self, limits: Limits, slurm: Facts | None, environ: Facts | None) -> int:
        """KiB that the job requested; 0 = nothing, or nobody says."""
        limit = limits.mem_kib()
        told, said = (facts.mem_kib if facts else None for facts in (slurm, environ))
        if limit is not None and told != 0 and not 0 < self._all_kib <= limit:
            return limit
        return told if told is not None else said or 0

    def is_doubtful(self, limits: Limits, environ: Facts | None) -> bool:
        """Whether only Slurm can say what was requested, or if the limit is a request."""
        cpus, mem_kib = (environ.cpus, environ.mem_kib) if environ else (None, None)
        has_cpus = limits.cpu_count() is not None or cpus is not None
        return not has_cpus or (limits.mem_kib() is not None and mem_kib is None)

    def _paths(self, cgroup: str, *, is_v2: bool) -> tuple[str, str]:
        if is_v2:
            folder = self._v2_root + cgroup
            return f"{folder}/cpuset.cpus", f"{folder}/memory.max"
        return (
            f"{self._v1_root}/cpuset{cgroup}/cpuset.cpus",
            f"{self._v1_root}/memory{cgroup}/memory.limit_in_bytes",
        )


def _look(paths: tuple[str, str], kept: KeptFiles) -> Limits:
    cpus, memory = (kept.read(path, _MAX_TEXT) for path in paths)
    return Limits(cpus, memory)
