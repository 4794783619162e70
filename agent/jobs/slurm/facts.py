"""What is known of a job, and what its environment says. Pure.

The environment of a process is the user's to change: the caller takes it only from a process
in the job's own cgroup, run by the job's own user, and believes nothing of it that Slurm's
own words contradict.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

_UNITS = {"": 1 << 10, "K": 1, "M": 1 << 10, "G": 1 << 20, "T": 1 << 30}
_MEMORY = re.compile(r"([0-9]{1,12})(?:\.[0-9]+)?([KMGT]?)")
_CPUS = re.compile(r"([0-9]{1,6})(?:\(x([0-9]{1,6})\))?")
_RANGE = re.compile(r"([0-9]{1,4})(?:-([0-9]{1,4}))?")
_UUID = re.compile(r"(?:GPU|MIG)-[0-9A-Za-z/-]{1,120}")
_MAX_TEXT = 1 << 16
_MAX_DEVICES = 1024
_SHARED = ("SLURM_SHARDS_ON_NODE", "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE")
VARIABLES = frozenset(
    {
        "SLURMD_NODENAME",
        "SLURM_CPUS_ON_NODE",
        "SLURM_JOB_ACCOUNT",
        "SLURM_JOB_CPUS_PER_NODE",
        "SLURM_JOB_GPUS",
        "SLURM_JOB_ID",
        "SLURM_JOB_NAME",
        "SLURM_JOB_PARTITION",
        "SLURM_JOB_SLUID",
        "SLURM_JOB_UID",
        "SLURM_MEM_PER_CPU",
        "SLURM_MEM_PER_GPU",
        "SLURM_MEM_PER_NODE",
        "SLURM_STEP_GPUS",
        *_SHARED,
    }
)
"""All that are read of an environment."""


class Gpu(NamedTuple):
    """One GPU that a job has: `parts` of the `of` that it is given out in.

    `name` is Slurm's number of it, or a uuid. `kind` is Slurm's: gpu (all of it), shard,
    mps. `of` 0 = only Slurm's configuration knows.
    """

    name: str
    kind: str = "gpu"
    parts: int = 1
    of: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What one source says of a job; None = nothing.

    `is_doubtful` = its GPUs may be those of one step only, or be shared: Slurm knows better.
    """

    job_id: str | None = None
    job_name: str | None = None
    uid: int | None = None
    username: str | None = None
    account: str | None = None
    partition: str | None = None
    node: str | None = None
    cpus: int | None = None  # on this node
    mem_kib: int | None = None  # on this node; 0 = nothing requested
    gpus: tuple[Gpu, ...] | None = None
    is_doubtful: bool = False
    started_ms: int | None = None  # wall clock


def facts_of(environ: Mapping[str, str]) -> Facts:
    """Read the variables that Slurm sets for every task."""
    cpus = _cpus_of(environ)
    gpus = environ.get("SLURM_JOB_GPUS")
    of_step = environ.get("SLURM_STEP_GPUS") if gpus is None else None
    names = numbers_in(gpus or of_step or "")
    uid = environ.get("SLURM_JOB_UID", "")
    return Facts(
        job_id=environ.get("SLURM_JOB_ID"),
        job_name=environ.get("SLURM_JOB_NAME"),
        uid=int(uid) if uid.isascii() and uid.isdecimal() and len(uid) <= 10 else None,
        account=environ.get("SLURM_JOB_ACCOUNT"),
        partition=environ.get("SLURM_JOB_PARTITION"),
        node=environ.get("SLURMD_NODENAME"),
        cpus=cpus,
        mem_kib=_memory_of(environ, cpus, len(names)),
        gpus=tuple(map(Gpu, names)),
        is_doubtful=bool(names) and (gpus is None or any(name in environ for name in _SHARED)),
    )


def is_about(environ: Mapping[str, str], *, job_id: str | None, sluid: str | None) -> bool:
    """Whether Slurm set this environment for the job, and not for another one."""
    if job_id is not None:
        return environ.get("SLURM_JOB_ID") == job_id
    return sluid is not None and environ.get("SLURM_JOB_SLUID") == sluid


def memory_kib(text: str) -> int | None:
    """An amount as Slurm writes it: MiB, or with one of its units; None = it is none."""
    match = _MEMORY.fullmatch(text.strip())
    return int(match[1]) * _UNITS[match[2]] if match else None


def numbers_in(text: str) -> Sequence[str]:
    """A list of devices such as `0,2-3` or of uuids; each once, what is neither passed over."""
    names = (name for item in text[:_MAX_TEXT].split(",") for name in _names_of(item.strip()))
    return list(dict.fromkeys(names))[:_MAX_DEVICES]


def _names_of(item: str) -> Iterable[str]:
    match = _RANGE.fullmatch(item)
    if match:
        first = int(match[1])
        last = int(match[2] or match[1])
        return map(str, range(first, min(last, first + _MAX_DEVICES) + 1))
    return (item,) if _UUID.fullmatch(item) else ()


def _cpus_of(environ: Mapping[str, str]) -> int | None:
    """Those of the job where all its nodes have the same number, else those of the step."""
    counts = _counts_in(environ.get("SLURM_JOB_CPUS_PER_NODE", ""))
    if len(counts) == 1:
        return counts.pop()
    on_node = _counts_in(environ.get("SLURM_CPUS_ON_NODE", ""))
    return on_node.pop() if len(on_node) == 1 else None


def _counts_in(text: str) -> set[int]:
    """The different numbers in `2(x3),1`; none where it is anything else."""
    matches = [_CPUS.fullmatch(item) for item in text[:_MAX_TEXT].split(",")]
    return {int(match[1]) for match in matches if match} if all(matches) else set()


def _memory_of(environ: Mapping[str, str], cpus: int | None, gpus: int) -> int | None:
    """What was requested on this node; None = nothing is said of it."""
    rates = (
        ("SLURM_MEM_PER_NODE", 1),
        ("SLURM_MEM_PER_CPU", cpus),
        ("SLURM_MEM_PER_GPU", gpus or None),
    )
    for name, times in rates:
        each = memory_kib(environ.get(name, ""))
        if each is not None and times is not None:
            return each * times
    return None
