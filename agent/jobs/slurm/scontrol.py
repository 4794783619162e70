"""Asks Slurm's controller about one job: `scontrol -d -o show job N`.

A job's name may hold anything, also what looks like the fields that follow it: where a field
is there twice nobody can say which one is Slurm's, and the answer is refused. The question
costs the controller one call, so it is asked once a job, and never by a look.
"""

import os
import re
from collections.abc import Iterator

from agent.errors import ProviderError
from agent.jobs.slurm.facts import Facts, Gpu, memory_kib, numbers_in
from agent.jobs.slurm.hostlist import is_in

TIMEOUT_SECONDS = 15.0
_MAX_BYTES = 4 << 20
_UNKNOWN = b"Invalid job id"
_FIELDS = ("UserId", "Account", "Partition", "StartTime", "NumNodes")
_REQUESTS = ("MinMemoryNode", "MinMemoryCPU", "MinMemoryGRES")

_USER = re.compile(r"(.*)\(([0-9]{1,10})\)")
_DETAIL = re.compile(r"\sNodes=(\S+) CPU_IDs=(\S*) Mem=(\S*) GRES=(\S*)")
_CPU_IDS = re.compile(r"([0-9]{1,6})(?:-([0-9]{1,6}))?")
_GRES = re.compile(
    r"(?P<kind>gpu|shard|mps)(?::[^:(),]+)?:(?P<count>[0-9]{1,9})"
    r"\((?:IDX:(?P<numbers>[0-9,-]+)|(?P<parts>[0-9/,-]+))\)"
)
_PART = re.compile(r"([0-9]{1,9})/([1-9][0-9]{0,8})")


class NoProgramError(ProviderError):
    """Says that there is no scontrol on this machine, so that nobody waits for its answer."""


def show_job(program: str, job: str) -> str | None:
    """Ask about a job by its number or SLUID; None = Slurm does not know it any more.

    Raises:
        NoProgramError: there is no such program, or it cannot be run.
        ProviderError: the controller does not answer.
    """
    import subprocess  # noqa: PLC0415  most nodes never ask

    try:
        done = subprocess.run(
            [program, "-d", "-o", "show", "job", job],
            env=os.environ | {"SLURM_TIME_FORMAT": "%s", "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ProviderError(f"{program} did not answer for {TIMEOUT_SECONDS:g} s") from error
    except OSError as error:
        raise NoProgramError(f"{program} cannot be run: {error.strerror}") from error
    if done.returncode == 0:
        return done.stdout[:_MAX_BYTES].decode(errors="replace")
    if _UNKNOWN in done.stderr:
        return None
    reason = done.stderr.decode(errors="replace").strip()[:200]
    raise ProviderError(f"{program} failed: {reason or done.returncode}")


def read_job(text: str, job: str, node: str | None) -> Facts | None:
    """What the answer says of the job (number or SLUID) on this node; None = nothing certain.

    `node` None = what the job has is certain only if it has it on a single node.
    """
    lines = [f"{line} " for line in text.split("\n") if _is_about(f"{line} ", job)]
    if len(lines) != 1 or any(lines[0].count(f" {name}=") != 1 for name in _FIELDS):
        return None
    (line,) = lines
    user = _USER.fullmatch(_field(line, "UserId") or "")
    if user is None:
        return None
    cpu_ids, memory, gres = _detail_of(line, node) or (None, None, None)
    cpus = _count_of(cpu_ids or "")
    return Facts(
        job_id=line.removeprefix("JobId=").partition(" ")[0],
        job_name=line.partition(" JobName=")[2].partition(" UserId=")[0],
        uid=int(user[2]),
        username=user[1] if user[1] not in {"", "(null)", user[2]} else None,
        account=_field(line, "Account"),
        partition=_field(line, "Partition"),
        node=node,
        cpus=cpus,
        mem_kib=memory_kib(memory or "") or _requested_kib(line, cpus),
        gpus=None if gres is None else tuple(_gpus_of(gres)),
        started_ms=_instant_ms(_field(line, "StartTime")),
    )


def _requested_kib(line: str, cpus: int | None) -> int | None:
    """What was asked for, where Slurm does not give out memory and so allocates none."""
    if sum(line.count(f" {name}=") for name in _REQUESTS) != 1:
        return None
    by_node = memory_kib(_field(line, "MinMemoryNode") or "")
    by_cpu = memory_kib(_field(line, "MinMemoryCPU") or "")
    return by_cpu * cpus if by_cpu is not None and cpus is not None else by_node


def _is_about(line: str, job: str) -> bool:
    if job.isdecimal():
        return line.startswith(f"JobId={job} ")
    return line.startswith("JobId=") and f" SLUID={job} " in line


def _field(line: str, name: str) -> str | None:
    value = line.partition(f" {name}=")[2].partition(" ")[0]
    return value if value not in {"", "(null)", "N/A", "Unknown"} else None


def _detail_of(line: str, node: str | None) -> tuple[str, str, str] | None:
    """CPUs, memory and GRES on this node; None = not said, or said twice."""
    found = _DETAIL.findall(line)
    if node is None:
        ours = found if _field(line, "NumNodes") == "1" else []
    else:
        ours = [detail for detail in found if is_in(node, detail[0])]
    return ours[0][1:] if len(ours) == 1 else None


def _count_of(cpu_ids: str) -> int | None:
    """How many CPUs `0-3,8` are."""
    matches = [_CPU_IDS.fullmatch(item) for item in cpu_ids.split(",")]
    if not all(matches):
        return None
    return sum(int(match[2] or match[1]) - int(match[1]) + 1 for match in matches if match)


def _gpus_of(gres: str) -> Iterator[Gpu]:
    """Each GPU of `gpu:a100:2(IDX:0-1),shard:3(IDX:2)`, `mps:50(IDX:3)`, `shard:6(-/4,2/4)`."""
    for match in _GRES.finditer(gres):
        kind, count = match["kind"], int(match["count"])
        if match["parts"]:
            yield from _parts_of(kind, match["parts"])
            continue
        names = numbers_in(match["numbers"])
        for name in names:
            is_whole = kind == "gpu"
            yield Gpu(name) if is_whole else Gpu(name, kind, max(1, count // len(names)), 0)


def _parts_of(kind: str, parts: str) -> Iterator[Gpu]:
    """One word for each GPU of the node: how much of how much, or that it is not there."""
    for number, text in enumerate(parts.split(",")):
        match = _PART.fullmatch(text)
        if match and int(match[1]):
            yield Gpu(str(number), kind, int(match[1]), int(match[2]))


def _instant_ms(text: str | None) -> int | None:
    return int(text) * 1000 if text and text.isdecimal() and len(text) <= 11 else None
