"""Trees that look like a machine's cgroup mounts, and a watch over them with a clock of its own.

Made of plain folders, whose events the kernel gives like those of real cgroups.
"""

from collections.abc import Callable
from itertools import count
from pathlib import Path

from agent.cgroups import find_hierarchies
from agent.cgroupwatch import CgroupWatch
from agent.procfs import ProcFs

V1_LIMITS = {
    "cpu": {"cpu.cfs_quota_us": "-1", "cpu.cfs_period_us": "100000"},
    "memory": {"memory.limit_in_bytes": "9223372036854771712"},
}
V2_LIMITS = {"cpu.max": "max 100000", "memory.max": "max"}


class CgroupTree:
    """The mounts of one machine below `root`: v2 alone, v1 alone, or both."""

    def __init__(self, root: Path, layout: str) -> None:
        self.root = root
        self.layout = layout
        self.v1: dict[str, Path] = {}
        self.v2: Path | None = None
        self._graves = count()
        if layout != "v2":
            self.v1 = {name: root / name for name in ("cpuacct", "memory", "cpu")}
            for mount in self.v1.values():
                _write(mount / "tasks", "")
        if layout != "v1":
            self.v2 = root / "unified" if self.v1 else root
            _write(self.v2 / "cgroup.controllers", "")

    def make(self, path: str, *, pids: tuple[int, ...] = ()) -> None:
        """Make a cgroup without limits; hybrid machines have their jobs in v1."""
        procs = "".join(f"{pid}\n" for pid in pids)
        for controller, mount in self.v1.items():
            _write(Path(f"{mount}{path}/cgroup.procs"), procs)
            for name, value in V1_LIMITS.get(controller, {}).items():
                _write(Path(f"{mount}{path}/{name}"), value)
        if self.v1:
            _write(Path(f"{self.v1['cpuacct']}{path}/cpuacct.usage"), "5000000\n")
            return
        folder = Path(f"{self.v2}{path}")
        _write(folder / "cgroup.events", "populated 1\nfrozen 0\n")
        _write(folder / "cgroup.procs", procs)
        _write(folder / "cpu.stat", "usage_usec 5000\n")
        for name, value in V2_LIMITS.items():
            _write(folder / name, value)

    def limit(self, path: str, *, cpu_m: int | None = None, mem_bytes: int | None = None) -> None:
        """Set limits as an engine or a service manager does."""
        if self.v1:
            if cpu_m is not None:
                (self._v1("cpu", path) / "cpu.cfs_quota_us").write_text(f"{cpu_m * 100}\n")
            if mem_bytes is not None:
                (self._v1("memory", path) / "memory.limit_in_bytes").write_text(f"{mem_bytes}\n")
            return
        folder = Path(f"{self.v2}{path}")
        if cpu_m is not None:
            (folder / "cpu.max").write_text(f"{cpu_m * 100} 100000\n")
        if mem_bytes is not None:
            (folder / "memory.max").write_text(f"{mem_bytes}\n")

    def remove(self, path: str) -> None:
        """Remove a cgroup from every hierarchy; its inode is never given to another one."""
        for mount in [*self.v1.values(), *([self.v2] if self.v2 else [])]:
            folder, grave = Path(f"{mount}{path}"), mount / f".gone-{next(self._graves)}"
            if folder.exists():
                folder.rename(grave)

    def watch(self, now_ms: Callable[[], int], proc: Path | None = None) -> CgroupWatch:
        """A watch over it that has not been started: it walks at every `scan`."""
        hierarchies = find_hierarchies(str(self.root))
        procfs = ProcFs(str(proc) if proc else "/proc")
        return CgroupWatch(hierarchies, now_ms=now_ms, told=lambda: None, procfs=procfs)

    def _v1(self, controller: str, path: str) -> Path:
        return Path(f"{self.v1[controller]}{path}")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
