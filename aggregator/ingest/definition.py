"""Checks the definitions of runs and meters that a batch brings. Pure.

What a node says is foreign: every string has a length and a character rule, every
quantity a bound. A definition that breaks a rule is a `Fault`, not an exception: the
records that need it go to quarantine, the others are taken.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias, TypeVar
from uuid import UUID

from aggregator.ingest.claim import OWN, Claim
from aggregator.model import (
    DEVICE_TYPES,
    NO_USER,
    NODE_PROVIDER,
    Account,
    ResourceType,
    RunId,
    UserId,
    user_id,
)
from proto.metering.v1 import metering_pb2 as pb

MAX_BASE_UNITS = 1 << 46
"""64 PiB in KiB: more of anything is a mistake; x 60,000 ms it still fits in 63 bits."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_MAX_NUMBER = (1 << 63) - 1
_TYPES = frozenset(ResourceType)
_ACCOUNTS = frozenset(Account)


class Fault(StrEnum):
    """Why something was set aside; the reason in the quarantine and in the metric."""

    BAD_DIGEST = "bad_digest"
    UNEQUAL_COLUMNS = "unequal_columns"
    REDEFINED = "redefined"
    BAD_STRING = "bad_string"
    BAD_UUID = "bad_uuid"
    BAD_NUMBER = "bad_number"
    BAD_QUOTA = "bad_quota"
    BAD_ACCOUNT = "bad_account"
    UNKNOWN_TYPE = "unknown_type"
    UNKNOWN_RUN = "unknown_run"
    UNKNOWN_METER = "unknown_meter"
    BAD_TIME = "bad_time"
    ZERO_LENGTH = "zero_length"
    CROSSES_MINUTE = "crosses_minute"
    NEGATIVE = "negative"
    TOO_LARGE = "too_large"
    UNDER_EFFECTIVE = "under_effective"
    """`effective` is below what was allocated or used, which it is the larger of."""
    OVER_OBSERVED = "over_observed"
    REFUSED_BY_DATABASE = "refused_by_database"
    NOT_STORABLE = "not_storable"
    """Storing it fails in a way that nobody foresaw; the log has the traceback."""
    SEQUENCE_REUSED = "sequence_reused"
    ALREADY_METERED = "already_metered"
    """Another stream of the node told it, or tells it now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeBounds:
    """Instants outside `[oldest_ms, newest_ms]` are not believed."""

    oldest_ms: int
    newest_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDefinition:
    """A run as the node described it, checked."""

    number: int
    key: str
    provider: str
    job_id: str
    job_name: str
    user_id: UserId
    username: str | None
    vc: str
    project: str
    namespace: str
    kind: str
    started_at_ms: int
    account: Account | None
    """None: a job."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterDefinition:
    """A meter as the node described it, checked."""

    number: int
    run: int
    type: ResourceType
    device: str | None
    model: str | None
    quota: int
    group_quota: int
    started_at_ms: int
    physical: str | None
    """The device that `device` is a slice of; None: it is no slice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRef:
    """What a later definition needs of a job's run that is durable."""

    run_id: RunId
    key: str
    vc: str
    claim: Claim = OWN


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountRef:
    """What a later definition needs of a run that is an account of the node."""

    account: Account
    claim: Claim = OWN


KnownRun: TypeAlias = RunRef | AccountRef
Definition = TypeVar("Definition", RunDefinition, MeterDefinition)


def check_run(run: pb.Run, *, cluster: str, newest_ms: int) -> RunDefinition | Fault:
    """Check one run; its user is named by the provider's uuid, else by (cluster, username).

    A run of the node itself is one of its accounts, and nobody's.
    """
    if not 0 < run.number <= _MAX_NUMBER:
        return Fault.BAD_NUMBER
    if not 0 < run.started_at_ms <= newest_ms:
        return Fault.BAD_TIME
    if not _has_good_strings(run):
        return Fault.BAD_STRING
    if run.HasField("user_id") and not _UUID.fullmatch(run.user_id):
        return Fault.BAD_UUID
    if run.provider == NODE_PROVIDER and not _is_account(run):
        return Fault.BAD_ACCOUNT
    return RunDefinition(
        number=run.number,
        key=run.key,
        provider=run.provider,
        job_id=run.job_id,
        job_name=run.job_name,
        user_id=_user(run, cluster),
        username=run.username if run.HasField("username") else None,
        vc=run.vc,
        project=run.project,
        namespace=run.namespace,
        kind=run.kind,
        started_at_ms=run.started_at_ms,
        account=Account(run.kind) if run.provider == NODE_PROVIDER else None,
    )


def check_meter(meter: pb.Meter, *, newest_ms: int) -> MeterDefinition | Fault:
    """Check one meter by itself; whether its run is known is the caller's to see."""
    if not 0 < meter.number <= _MAX_NUMBER:
        return Fault.BAD_NUMBER
    if meter.type not in _TYPES:
        return Fault.UNKNOWN_TYPE
    if not 0 < meter.started_at_ms <= newest_ms:
        return Fault.BAD_TIME
    device = meter.device if meter.HasField("device") else None
    model = meter.model if meter.HasField("model") else None
    physical = meter.physical if meter.HasField("physical") else None
    if not all(is_name(text) for text in (device, model, physical) if text is not None):
        return Fault.BAD_STRING
    if not (0 <= meter.quota <= MAX_BASE_UNITS and 0 <= meter.group_quota <= MAX_BASE_UNITS):
        return Fault.BAD_QUOTA
    return MeterDefinition(
        number=meter.number,
        run=meter.run,
        type=ResourceType(meter.type),
        device=device,
        model=model,
        quota=meter.quota,
        group_quota=meter.group_quota,
        started_at_ms=meter.started_at_ms,
        physical=physical,
    )


def is_name(text: str, *, longest: int = 256) -> bool:
    """Whether `text` may name something: not empty, and as `is_text`."""
    return bool(text) and is_text(text, longest=longest)


def is_text(text: str, *, longest: int = 256) -> bool:
    """Whether `text` is short enough and free of control characters."""
    return len(text) <= longest and (text.isprintable() or not _CONTROL.search(text))


@dataclass(frozen=True, slots=True, kw_only=True)
class Definitions:
    """What a batch defines, parted; the bad by number, each with its reason."""

    runs: Mapping[int, RunDefinition]
    meters: Mapping[int, MeterDefinition]
    bad_runs: Mapping[int, Fault]
    bad_meters: Mapping[int, Fault]


def check_definitions(
    batch: pb.Batch, *, cluster: str, known_runs: Mapping[int, KnownRun], newest_ms: int
) -> Definitions:
    """Check all definitions of a batch; a meter of a bad run is bad for the same reason."""
    runs, bad_runs = _part(
        (run.number, check_run(run, cluster=cluster, newest_ms=newest_ms)) for run in batch.runs
    )
    meters, bad_meters = _part(
        (meter.number, check_meter(meter, newest_ms=newest_ms)) for meter in batch.meters
    )
    for number, meter in list(meters.items()):
        run = runs.get(meter.run) or known_runs.get(meter.run)
        if run is None or meter.run in bad_runs:
            bad_meters[number] = bad_runs.get(meter.run, Fault.UNKNOWN_RUN)
        elif is_account(run) and not _is_of_account(meter):
            bad_meters[number] = Fault.BAD_ACCOUNT
        else:
            continue
        del meters[number]
    return Definitions(runs=runs, meters=meters, bad_runs=bad_runs, bad_meters=bad_meters)


def _part(
    checked: Iterable[tuple[int, Definition | Fault]],
) -> tuple[dict[int, Definition], dict[int, Fault]]:
    """Part the good from the bad; a number given twice must mean one thing."""
    good: dict[int, Definition] = {}
    bad: dict[int, Fault] = {}
    for number, result in checked:
        if isinstance(result, Fault):
            bad[number] = result
        elif good.setdefault(number, result) != result:
            bad[number] = Fault.REDEFINED
    for number in bad:
        good.pop(number, None)
    return good, bad


def is_account(run: RunDefinition | KnownRun) -> bool:
    """Whether the run is one of the node's accounts, not a job."""
    match run:
        case RunDefinition():
            return run.account is not None
        case RunRef():
            return False
        case AccountRef():
            return True


def _is_account(run: pb.Run) -> bool:
    return run.kind in _ACCOUNTS and not (run.HasField("user_id") or run.HasField("username"))


def _is_of_account(meter: MeterDefinition) -> bool:
    """Nodes have no account of storage; what comes in devices is accounted for by device."""
    is_of_device = meter.device is not None
    return meter.type is not ResourceType.STORAGE and is_of_device == (meter.type in DEVICE_TYPES)


def _has_good_strings(run: pb.Run) -> bool:
    names = [run.provider, run.job_id, run.job_name, run.vc, run.kind]
    if run.HasField("username"):
        names.append(run.username)
    return (
        is_name(run.key, longest=512)
        and all(is_name(text) for text in names)
        and all(is_text(text) for text in (run.project, run.namespace))
    )


def _user(run: pb.Run, cluster: str) -> UserId:
    if run.HasField("user_id"):
        return UserId(UUID(run.user_id))
    return user_id(cluster, run.username) if run.HasField("username") else NO_USER
