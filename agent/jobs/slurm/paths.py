"""Where Slurm puts the cgroups of its jobs, and what the names in their paths say. Pure.

- v1: `/slurm[_NODE]/uid_N/job_M` below each controller that it uses;
- v2: `SLICE/[NODE_]slurmstepd.scope/job_M`, in Slurm 26.05 and later
  `SLICE/[NODE_]slurmstepd.scope/SLUID`, unless CgroupJobIdPaths brings the number back.

NODE is there where slurmd was built to run several times on one machine, as Debian's is. A
SLUID names one run of a job; it is given when the job is submitted (those of an array all at
once), so the instant in it is no start.
"""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from agent.cgroupwatch import Pattern

_SCOPE = "slurmstepd.scope"
_V1_ROOT = "slurm"
_V1: Pattern = (
    re.compile(r"slurm(_.+)?"),
    re.compile(r"uid_[0-9]{1,10}"),
    re.compile(r"job_[0-9]{1,10}"),
)
_V2_SCOPE = re.compile(r"(.+_)?slurmstepd\.scope")
_V2_JOB = re.compile(r"job_[0-9]{1,10}|s[0-9A-HJKMNP-TV-Z]{13}")


class JobPlace(NamedTuple):
    """What the path of a job's cgroup says; None = nothing of that kind."""

    node: str | None  # NodeName of the slurmd
    uid: int | None
    job_id: str | None
    sluid: str | None


def patterns(slices: Sequence[str]) -> Sequence[Pattern]:
    """What to look for: v1's layout, and v2's below each slice or cgroup."""
    folders = dict.fromkeys(way for slice_ in slices for way in _ways_to(slice_))
    return [_V1, *((*map(_exactly, way), _V2_SCOPE, _V2_JOB) for way in folders)]


def place_of(names: Sequence[str]) -> JobPlace:
    """Read the names of the folders that a pattern matched."""
    *_, folder, job = names
    is_v1 = folder.startswith("uid_")
    job_id = job.removeprefix("job_") if job.startswith("job_") else None
    if is_v1:
        node = names[0].removeprefix(_V1_ROOT).removeprefix("_")
    else:
        node = folder.removesuffix(_SCOPE).removesuffix("_")
    return JobPlace(
        node=node or None,
        uid=int(folder.removeprefix("uid_")) if is_v1 else None,
        job_id=str(int(job_id)) if job_id else None,
        sluid=None if job_id else job,
    )


def _ways_to(slice_: str) -> Iterator[tuple[str, ...]]:
    """The folders that lead to a slice: systemd puts `a-b.slice` into `a.slice`."""
    if "/" in slice_:
        yield tuple(filter(None, slice_.split("/")))
        return
    yield (slice_,)
    parts = slice_.removesuffix(".slice").split("-")
    if all(parts) and len(parts) > 1:
        yield tuple("-".join(parts[: length + 1]) + ".slice" for length in range(len(parts)))


def _exactly(name: str) -> re.Pattern[str]:
    return re.compile(re.escape(name))
