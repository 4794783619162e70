"""Which GPUs a job has: what a prolog noted, and what Slurm's numbers mean here.

A prolog may leave one file for each GPU in a folder: named by Slurm's number, the uuid of
the GPU or of the MIG device, it holds `JOBID UID` (as Princeton's jobstats has it); named by
number or `GPU.INSTANCE`, it holds one job id a line (NVIDIA's dcgm-exporter). The folder
and its files must be root's or ours: whoever may write there says who pays for a GPU.
"""

# Paths as text: a Path costs several times the system call.
# ruff: noqa: PTH116

import os
import re
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from agent.jobs.slurm.facts import Gpu
from agent.model import DeviceShare, ResourceType

_NAME = re.compile(r"[0-9]{1,4}(\.[0-9]{1,4})?|(?:GPU|MIG)-[0-9A-Za-z/-]{1,120}")
_NVML = "nvml:"
_MAX_FILES = 4096
_MAX_BYTES = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuNames:
    """What Slurm's number of a GPU means: its place in `listed`, else a minor or NVML number.

    `sizes` tells into how many parts of a kind a GPU is divided; 0 = unknown.
    """

    listed: Sequence[str] = ()
    is_minor: bool = True
    shards: int = 0
    mps: int = 100

    def shares(self, gpus: Iterable[Gpu]) -> tuple[DeviceShare, ...]:
        """Put them into the inventory's words."""
        return tuple(
            DeviceShare(
                type=ResourceType.GPU, id=self._name(gpu.name), model=None, part=self._part(gpu)
            )
            for gpu in gpus
        )

    def is_unknown(self, gpu: Gpu) -> bool:
        """Whether it is a part of which nobody says how large it is."""
        return self._of(gpu) == 0

    def _name(self, name: str) -> str:
        if not name.isdecimal():
            return name.removeprefix(_NVML)
        if self.listed:
            return self.listed[int(name)] if int(name) < len(self.listed) else f"slurm:{name}"
        return f"minor:{name}" if self.is_minor else name

    def _part(self, gpu: Gpu) -> tuple[int, int, int]:
        of = self._of(gpu)
        return (0, min(gpu.parts, of), of) if of else (0, 1, 1)

    def _of(self, gpu: Gpu) -> int:
        known = {"gpu": 1, "shard": self.shards, "mps": self.mps}
        return gpu.of or known.get(gpu.kind, 0)


def noted_gpus(folders: Sequence[str], job_id: str, uid: int | None) -> Sequence[Gpu] | None:
    """The GPUs that the files in these folders say the job has; None = none of them names it.

    A MIG device is noted together with the GPU that it is cut from, and a GPU by number and by
    uuid: the most exact names are taken.
    """
    names = [name for folder in folders for name in _names_in(folder, job_id, uid)]
    for kind in ("MIG-", "GPU-", ""):
        if chosen := [name for name in names if name.startswith(kind)]:
            return [Gpu(name) for name in dict.fromkeys(chosen)]
    return None


def distrust(folder: str) -> str | None:
    """Say what is wrong with a folder of such files; None = nothing, or it is not there."""
    try:
        status = os.stat(folder)
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"cannot be looked into: {error.strerror}"
    return None if _is_trusted(status) else "may be written by others than root; chown, chmod it"


def _names_in(folder: str, job_id: str, uid: int | None) -> list[str]:
    try:
        if not _is_trusted(os.stat(folder)):
            return []
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if _NAME.fullmatch(entry.name)]
    except OSError:
        return []
    meant = (_meaning(folder, name, job_id, uid) for name in sorted(names)[:_MAX_FILES])
    return [name for name in meant if name]


def _meaning(folder: str, name: str, job_id: str, uid: int | None) -> str | None:
    """The GPU of a file that names the job; dcgm-exporter's own number where no user is named."""
    for line in _read(f"{folder}/{name}").splitlines():
        words = line.split()
        if words[:1] == [job_id] and len(words) == 1:
            return f"{_NVML}{name}" if name.isdecimal() else name
        if words[:1] == [job_id] and (uid is None or words[1] == str(uid)):
            return name
    return None


def _read(path: str) -> str:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        status = os.fstat(fd)
        is_file = stat.S_ISREG(status.st_mode) and _is_trusted(status)
        return os.read(fd, _MAX_BYTES).decode(errors="replace") if is_file else ""
    except OSError:
        return ""
    finally:
        os.close(fd)


def _is_trusted(status: os.stat_result) -> bool:
    is_ours = status.st_uid in {0, os.geteuid()}
    return is_ours and not status.st_mode & stat.S_IWOTH
