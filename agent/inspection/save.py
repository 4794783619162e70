"""Saves what `inspect` reads of this node, so that a report of a fault can be replayed.

Small text files only, and of the environments of processes nothing but the variables that
say which job they belong to: what a tree holds may be sent to somebody.
"""

import fnmatch
import os
import re
from collections.abc import Iterator
from pathlib import Path

from agent.errors import AgentError
from agent.settings import AgentSettings

_MAX_FILES = 200_000
_MAX_BYTES = 1 << 20
_PROC = ("stat", "status", "cgroup")
_NODE = (
    "/proc/uptime",
    "/proc/stat",
    "/proc/meminfo",
    "/proc/cpuinfo",
    "/proc/driver/nvidia/gpus/*/information",
    "/sys/class/accel/*/dev",
    "/sys/class/accel/*/device/npu_busy_time_us",
    "/run/gpustat/*",
    "/etc/passwd",
)
_CGROUP_FILES = frozenset(
    {
        "tasks",
        "cgroup.controllers",
        "cgroup.procs",
        "cgroup.events",
        "cpu.stat",
        "cpu.max",
        "cpuset.cpus.effective",
        "cpuset.cpus",
        "cpuset.effective_cpus",
        "memory.current",
        "memory.stat",
        "memory.max",
        "cpuacct.usage",
        "cpu.cfs_quota_us",
        "cpu.cfs_period_us",
        "memory.usage_in_bytes",
        "memory.limit_in_bytes",
    }
)
_VARIABLES = re.compile(
    rb"(SLURM|DLWS|DLTS|PAI|MA|VC|JOB|POD)_[A-Z0-9_]+|(NVIDIA|ASCEND)_VISIBLE_DEVICES|"
    rb"CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"
)
_SECRET = re.compile(rb"TOKEN|SECRET|PASS|KEY|CRED", re.IGNORECASE)


def save_tree(settings: AgentSettings, target: Path) -> int:
    """Copy what is read of this node below `target`, which must not exist.

    Returns:
        How many files were saved; what could not be read is left out.

    Raises:
        AgentError: `target` exists or cannot be written.
    """
    count = 0
    try:
        for folder in ("/", settings.jobs.dir, settings.cgroup.root):
            Path(f"{target}{folder}").mkdir(parents=True, exist_ok=folder != "/")
        for path in _paths(settings):
            data = _read(path)
            if data is not None and count < _MAX_FILES:
                copy = Path(f"{target}{path}")
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(data)
                count += 1
    except OSError as error:
        raise AgentError(f"{target} cannot be written: {error.strerror}") from error
    return count


def _paths(settings: AgentSettings) -> Iterator[str]:
    for pattern in (*_NODE, f"{settings.jobs.dir}/*.json"):
        yield from map(str, sorted(Path("/").glob(pattern.removeprefix("/"))))
    for folder, _, names in os.walk(settings.cgroup.root):
        yield from (f"{folder}/{name}" for name in sorted(_CGROUP_FILES.intersection(names)))
    for name in sorted(fnmatch.filter(os.listdir("/proc"), "[0-9]*")):  # noqa: PTH208
        yield from (f"/proc/{name}/{file}" for file in (*_PROC, "environ"))


def _read(path: str) -> bytes | None:
    try:
        with Path(path).open("rb") as file:
            data = file.read(_MAX_BYTES)
    except OSError:
        return None
    return _without_secrets(data) if path.endswith("/environ") else data


def _without_secrets(environ: bytes) -> bytes:
    kept: list[bytes] = []
    for entry in environ.split(b"\0"):
        name = entry.partition(b"=")[0]
        if _VARIABLES.fullmatch(name) and not _SECRET.search(name):
            kept.append(entry)
    return b"\0".join(kept)
