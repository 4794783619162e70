"""The job's own cgroup: made, entered, limited, read, emptied and removed by `exec`.

v1: in the controllers cpuacct and memory, and in cpu only where a limit is enforced: being
in a group of its own changes a job's share of the processors, and metering must not.
v2: below the highest cgroup that is ours to write: the root's for root, the delegated one
for a user of systemd. The memory controller is switched on where that is possible, cpu
again only for a limit; CPU time is counted without.
"""

# Paths as text, since every import delays the command.
# ruff: noqa: PTH102, PTH103, PTH106, PTH121, PTH123

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence

from agent.cgroups import Hierarchies, members
from agent.errors import LaunchError

_PARENT = "nodemeter"
_PATIENCE_SECONDS = 5.0


class JobGroup:
    """One cgroup in every hierarchy that it needs; `path` is the same in each."""

    def __init__(self, path: str, folders: dict[str, str]) -> None:
        """Take the folder by controller; "v2" stands for all of them."""
        self.path = path
        self._folders = folders
        self._is_entered = False

    def fork(self) -> int:
        """Like os.fork; the child is in the group from its first instant where that is possible."""
        if "v2" not in self._folders:
            return os.fork()
        from agent.launch.clone import fork_into  # noqa: PLC0415  ctypes costs 3 ms

        pid = fork_into(self._folders["v2"])
        self._is_entered = pid is not None
        return os.fork() if pid is None else pid

    def enter(self) -> None:  # pragma: no cover  the child's measurement ends with exec
        """In the child: move it in, unless it was born there.

        In v1 by the one-thread file: moving a whole process makes the kernel wait for all
        others first (12 to 17 ms were measured), and this process has but one thread.

        Raises:
            OSError: it may not enter.
        """
        if not self._is_entered:
            name = "cgroup.procs" if "v2" in self._folders else "tasks"
            for folder in self._folders.values():
                _write(f"{folder}/{name}", "0")

    def limit(self, cpu_m: int, mem_kib: int) -> None:
        """Let the kernel hold the job to its quotas; 0 = no limit.

        Raises:
            LaunchError: this cgroup cannot.
        """
        if cpu_m:
            period_us = 100_000 if cpu_m >= 10 else 1_000_000  # the quota is 1 ms at least
            quota_us = cpu_m * period_us // 1000
            if "v2" in self._folders:
                self._limit("cpu", "v2", [("cpu.max", f"{quota_us} {period_us}")])
            else:
                period = ("cpu.cfs_period_us", str(period_us))
                self._limit("cpu", "cpu", [period, ("cpu.cfs_quota_us", str(quota_us))])
        if mem_kib:
            name = "memory.max" if "v2" in self._folders else "memory.limit_in_bytes"
            where = "v2" if "v2" in self._folders else "memory"
            self._limit("memory", where, [(name, str(mem_kib * 1024))])

    def cpu_usec(self) -> int | None:
        """What every process in it has used so far."""
        try:
            if "v2" in self._folders:
                return int(_read(f"{self._folders['v2']}/cpu.stat").split(None, 2)[1])
            return int(_read(f"{self._folders['cpuacct']}/cpuacct.usage")) // 1000
        except (OSError, ValueError, IndexError):
            return None

    def kill(self) -> None:
        """Kill whatever is still in it; wait until nothing is."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while self._signal_all() and time.monotonic() < deadline:
            time.sleep(0.002)

    def remove(self) -> None:
        """Delete it, with the cgroups that the job made below it."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        for folder in self._folders.values():
            while not _remove(folder) and time.monotonic() < deadline:
                time.sleep(0.002)

    def _signal_all(self) -> bool:
        """Kill what lives in it; v1 lists the dead, too, until somebody waits for them."""
        found = {pid for folder in self._folders.values() for pid in members(folder)}
        if not found:
            return False
        from agent.procfs import ProcFs  # noqa: PLC0415  needed only where something is left

        living = [pid for pid in found if ProcFs().is_alive(pid)]
        for pid in living:
            try:
                os.kill(pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                continue
        return bool(living)

    def _limit(self, what: str, where: str, values: list[tuple[str, str]]) -> None:
        try:
            for name, value in values:
                _write(f"{self._folders[where]}/{name}", value)
        except (KeyError, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) else "no such controller"
            raise LaunchError(
                f"--enforce is impossible: the {what} controller of cgroups cannot be used here "
                f"({reason}); leave --enforce out, or have the controller enabled"
            ) from error


def make_group(hierarchies: Hierarchies, job_id: str, *, limits_cpu: bool) -> JobGroup | None:
    """Make the job's cgroup; None = this machine or this user has none to make."""
    if "cpuacct" in hierarchies.v1 and os.access(hierarchies.v1["cpuacct"], os.W_OK):
        return _make_v1(hierarchies.v1, job_id, limits_cpu=limits_cpu)
    controllers = ("memory", "cpu") if limits_cpu else ("memory",)
    return _make_v2(hierarchies.v2, job_id, controllers) if hierarchies.v2 else None


def _make_v1(mounts: dict[str, str], job_id: str, *, limits_cpu: bool) -> JobGroup | None:
    path = f"/{_PARENT}/{job_id}"
    folders: dict[str, str] = {}
    for name, mount in mounts.items():
        is_shared = name == "cpu" and os.path.samefile(mount, mounts["cpuacct"])
        if name == "cpu" and is_shared:
            folders[name] = folders["cpuacct"]
        elif name != "cpu" or limits_cpu:
            try:
                os.makedirs(f"{mount}{path}")
            except OSError:
                continue
            folders[name] = f"{mount}{path}"
    return JobGroup(path, folders) if "cpuacct" in folders else None


def _make_v2(mount: str, job_id: str, controllers: Sequence[str]) -> JobGroup | None:
    for base in _v2_bases():
        parent = f"{mount}{base}/{_PARENT}"
        if not os.access(f"{mount}{base}/cgroup.procs", os.W_OK):
            continue
        try:
            os.makedirs(parent, exist_ok=True)
            for folder in (f"{mount}{base}", parent):
                _enable(folder, controllers)
            os.mkdir(f"{parent}/{job_id}")
        except OSError:
            continue
        return JobGroup(f"{base}/{_PARENT}/{job_id}", {"v2": f"{parent}/{job_id}"})
    return None


def _v2_bases() -> Iterator[str]:
    """The cgroups above us, the highest first; "" is the root."""
    try:
        lines = _read("/proc/self/cgroup").splitlines()
    except OSError:
        return
    own = next((line[3:] for line in lines if line.startswith("0::")), "/")
    base = ""
    yield base
    for part in filter(None, own.split("/")):
        base = f"{base}/{part}"
        yield base


def _enable(folder: str, controllers: Sequence[str]) -> None:
    """Switch controllers on for the cgroups below; those that cannot be stay off."""
    for name in controllers:
        try:
            _write(f"{folder}/cgroup.subtree_control", f"+{name}")
        except OSError:
            continue


def _remove(folder: str) -> bool:
    try:
        with os.scandir(folder) as entries:
            inner = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        for path in inner:
            _remove(path)
        os.rmdir(folder)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _read(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()


def _write(path: str, value: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)
