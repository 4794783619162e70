"""Saves what `inspect` reads of this node, so that a report of a fault can be replayed.

Small text files only, and of the environments of processes nothing but the variables that
the providers read: what a tree holds may be sent to somebody. Who saves is mostly root, and
some folders are anybody's, so no link is followed and nothing but a plain file is opened.
"""

import fnmatch
import os
import stat
from collections.abc import Collection, Iterator
from pathlib import Path

from agent.errors import AgentError
from agent.jobs.kubernetes.podlogs import LOGS, pod_folders
from agent.jobs.slurm.facts import VARIABLES
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
_DEVICES = ("NVIDIA_VISIBLE_DEVICES", "ASCEND_VISIBLE_DEVICES")


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
        for folder in pod_folders(LOGS):
            Path(f"{target}{LOGS}/{folder}").mkdir(parents=True)
        variables = _variables(settings)
        for path in _paths(settings):
            data = _read(path)
            if data is not None and path.endswith("/environ"):
                data = _only(variables, data)
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
    """The start of a plain file with one name; None = it is none, or not for us."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(fd, "rb") as file:  # noqa: PTH123  it is a descriptor
            status = os.fstat(fd)
            is_plain = stat.S_ISREG(status.st_mode) and status.st_nlink <= 1
            return file.read(_MAX_BYTES) if is_plain else None
    except OSError:
        return None


def _variables(settings: AgentSettings) -> Collection[bytes]:
    """By name, each one that some provider reads; by nothing else can a secret be told."""
    process = settings.process
    names = {
        *VARIABLES,
        *_DEVICES,
        *process.job_id_from,
        *process.job_name_from,
        *process.user_from,
        *process.vc_from,
        *process.project_from,
    }
    return {os.fsencode(name) for name in names}


def _only(variables: Collection[bytes], environ: bytes) -> bytes:
    entries = environ.split(b"\0")
    return b"\0".join(entry for entry in entries if entry.partition(b"=")[0] in variables)
