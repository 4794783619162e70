"""The jobs.d file: its schema, and nothing else. Pure: bytes in, a `Run` out.

Must be there: `job_id`, `username` (null = nobody known), `started_at`.
May be there: `job_name`, `user_id`, `vc`, `project`, `namespace`, `kind`, `cpu_m`,
`mem_mi`, `devices`, `storage_paths`, `cgroup` or `pids`, `ended_at`, `cpu_usec`.

Faults are reported together, each with its key, what is wrong and what to write instead. A file
is trusted when its owner is root or the agent's own account; anybody else's may bill only
its owner.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from decimal import ROUND_CEILING, Decimal
from typing import NamedTuple

from agent.errors import JobFileError
from agent.jobs.fields import Fields, Json
from agent.model import Reading, ReadingKind, ResourceType, Run, RunKey

MAX_BYTES = 64 << 10
MAX_CPU_M = 10_000_000
MAX_MEM_MI = 1 << 30
_MAX_CORES = MAX_CPU_M // 1000
_MAX_FAULTS = 20

_DAY_MS = 86_400_000
_MAX_AGE_DAYS = 35
"""The aggregator takes nothing older."""
_MAX_LATE_MS = _DAY_MS
"""So long before its file a run may have begun where anybody may have written that."""
_MAX_DEVICES = 64
"""More than any machine has; a trusted file may list slices of them."""


class Owner(NamedTuple):
    """Whose file it is; `is_trusted` = root's or the agent's own."""

    uid: int
    name: str
    is_trusted: bool


def parse_job(data: bytes, owner: Owner) -> Run:
    """Read one file.

    Raises:
        JobFileError: it does not describe a job, or not one that `owner` may describe.
    """
    fields = Fields(_load(data))
    run = _build(fields, owner)
    if problems := [*fields.problems(), *_presumption(run, owner)]:
        raise JobFileError(_shorten(problems))
    return run


def bound_start(run: Run, owner: Owner, appeared_ms: int) -> tuple[Run, str | None]:
    """Let nobody have a past metered that is longer than one may forget to write a file.

    Every minute since the start becomes records of every device. A run that outlived an
    agent, and whose file is rewritten at its end, must not be lost: its start is moved.

    Args:
        run: what the file says.
        owner: whose file it is.
        appeared_ms: agent time when the file appeared, which its owner cannot choose.

    Returns:
        The run with the start that counts, and what is to be said of that.

    Raises:
        JobFileError: it began before anything can be billed.
    """
    late_ms = appeared_ms - run.started_at_ms
    if late_ms > _MAX_AGE_DAYS * _DAY_MS:
        problem = (
            f"started_at: is more than {_MAX_AGE_DAYS} days before the file appeared, and nothing "
            "so old is billed; give the time when this run started"
        )
        raise JobFileError([problem])
    if owner.is_trusted or late_ms <= _MAX_LATE_MS:
        return run, None
    notice = (
        "started_at: is more than 24 hours before the file appeared; only root's files may begin "
        "earlier, so unless it was metered before, it is from 24 hours before the file on"
    )
    return replace(run, started_at_ms=appeared_ms - _MAX_LATE_MS), notice


def _shorten(problems: list[str]) -> list[str]:
    """A file of 64 KiB has room for more faults than a log."""
    more = len(problems) - _MAX_FAULTS
    return problems if more <= 0 else [*problems[:_MAX_FAULTS], f"and {more} more"]


def _load(data: bytes) -> dict[str, Json]:
    """Parse JSON strictly: no NaN, no key twice, numbers exact."""
    if len(data) > MAX_BYTES:
        raise JobFileError([f"has more than {MAX_BYTES} bytes; a job needs far fewer"])
    try:
        raw: Json = json.loads(
            data.decode(),
            parse_float=Decimal,
            parse_constant=_refuse_constant,
            object_pairs_hook=_refuse_twins,
        )
    except (ValueError, ArithmeticError, RecursionError) as error:
        raise JobFileError([f"is not valid JSON ({error}); write one JSON object"]) from error
    if not isinstance(raw, dict):
        raise JobFileError(['is not a JSON object; write {"job_id": …, …}'])
    return raw


def _refuse_constant(name: str) -> Json:
    raise ValueError(f"{name} is not a number")


def _refuse_twins(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    raw = dict(pairs)
    if len(raw) != len(pairs):
        names = [name for name, _ in pairs]
        twin = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twin!a} is given twice")
    return raw


def _build(fields: Fields, owner: Owner) -> Run:
    """Take every key; a faulty one gets a harmless value and a place in the report."""
    job_id = fields.text("job_id")
    started, ended = _lifetime(fields)
    cgroup, pids = fields.path("cgroup"), fields.pids("pids")
    if fields.has("cgroup") and fields.has("pids"):
        fields.complain("pids", "stands beside cgroup; give one of the two")
    return Run(
        key=_key(job_id, started, owner),
        provider="files",
        own_word_of=None if owner.is_trusted else owner.uid,
        job_id=job_id,
        job_name=fields.text("job_name", job_id),
        user_id=fields.uuid("user_id"),
        username=fields.nullable_text("username"),
        vc=fields.text("vc", "default"),
        project=fields.text("project", "", may_be_empty=True),
        namespace=fields.text("namespace", "", may_be_empty=True),
        kind=fields.text("kind", "job"),
        started_at_ms=started,
        ended_at_ms=ended,
        devices=fields.devices("devices"),
        cgroup=cgroup,
        pids=pids,
        storage_paths=(paths := fields.paths("storage_paths")),
        quotas=_quotas(fields, has_storage=bool(paths)),
        final=_final(fields, started, ended),
    )


def _lifetime(fields: Fields) -> tuple[int, int | None]:
    """Take both instants; an end may not come before its start."""
    started, ended = fields.time("started_at"), fields.time("ended_at")
    if started is None and not fields.has("started_at"):
        fields.complain("started_at", "is missing; give the time when the run started")
    if started is not None and ended is not None and ended < started:
        fields.complain("ended_at", "is before started_at; a run ends after it started")
    return started or 0, ended


def _key(job_id: str, started: int, owner: Owner) -> RunKey:
    """Nobody can take another's key: those who are not trusted have name spaces of their own."""
    space = "files" if owner.is_trusted else f"files.{owner.uid}"
    return RunKey(f"{space}:{job_id}@{started}")


def _quotas(fields: Fields, *, has_storage: bool) -> dict[ResourceType, int]:
    """Take the quotas in base units; memory is rounded up to whole KiB."""
    mem_kib = fields.number("mem_mi", MAX_MEM_MI, "MiB") * 1024
    quotas = {
        ResourceType.CPU: fields.whole("cpu_m", MAX_CPU_M, "milli-cores"),
        ResourceType.MEM: int(mem_kib.to_integral_value(ROUND_CEILING)),
    }
    return quotas | ({ResourceType.STORAGE: 0} if has_storage else {})


def _final(fields: Fields, started: int, ended: int | None) -> dict[ResourceType, Reading]:
    """Take the last CPU reading; no machine has more cores than the largest quota."""
    most = _MAX_CORES * 1000 * (max(0, (ended or started) - started) + 1000)
    cpu_usec = fields.whole("cpu_usec", most, "microseconds")
    if not fields.has("cpu_usec"):
        return {}
    if ended is None:
        fields.complain("cpu_usec", "stands without ended_at; it is the reading at the end")
    total = Reading(kind=ReadingKind.COUNTER, value=cpu_usec)
    return {ResourceType.CPU: total}


def _presumption(run: Run, owner: Owner) -> Iterator[str]:
    """Name what only a trusted owner may write."""
    if owner.is_trusted:
        return
    if run.username != owner.name:
        yield f"username: the file is {owner.name}'s, so it may bill only {owner.name}"
    if len(run.devices) > _MAX_DEVICES:
        yield f"devices: are more than {_MAX_DEVICES}; only root's files may name so many"
    if run.user_id is not None:
        yield f"user_id: the file is {owner.name}'s; only root's files may name a uuid"
