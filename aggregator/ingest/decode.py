"""Turns a Batch into columns and definitions, and parts the good from the bad. Pure.

All checks come before anything is multiplied or stored. A fault of one record costs
that record: it is set aside, the others are taken. A fault of the whole batch sets the
whole batch aside. Either way the sequence is settled: poison neither blocks nor
vanishes.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from aggregator.ingest.columns import (
    Columns,
    Flags,
    Int64s,
    columns_of,
    find_faults,
    has_equal_lengths,
)
from aggregator.ingest.definition import (
    Definitions,
    Fault,
    KnownRun,
    MeterDefinition,
    RunDefinition,
    TimeBounds,
    check_definitions,
)
from aggregator.ingest.floors import is_touched
from aggregator.ingest.quarantine import (
    Faults,
    SetAside,
    is_self_contained,
    set_aside,
    set_aside_whole,
)
from aggregator.model import MeterId
from proto.metering.v1 import metering_pb2 as pb

DIGEST_BYTES: Final = 32
_DEFINED_HERE: Final = 0
_UNKNOWN: Final = -(1 << 63)
"""No meter's number: jobs' are above zero, accounts' below."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """The numbers whose definitions this connection has acked."""

    runs: Mapping[int, KnownRun]
    meters: Mapping[int, MeterId]
    floors: Mapping[int, int] = field(default_factory=dict[int, int])
    """From when on what is told of a meter is taken, ms since 1970, where that is not always."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """A batch, checked: what is to be taken and what is to be set aside."""

    sequence: int
    digest: bytes
    runs: Mapping[int, RunDefinition] = field(default_factory=dict[int, RunDefinition])
    meters: Mapping[int, MeterDefinition] = field(default_factory=dict[int, MeterDefinition])
    known_runs: Mapping[int, KnownRun] = field(default_factory=dict[int, KnownRun])
    """The runs that the batch uses without defining them."""
    columns: Columns | None = None
    """None: no record to take."""
    meter_ids: Int64s | None = None
    """For each of the columns' numbers its meter, or 0 where this batch defines it."""
    run_ends: Mapping[int, int] = field(default_factory=dict[int, int])
    """When each run ended, ms since 1970, by number."""
    set_aside: tuple[SetAside, ...] = ()

    @property
    def record_count(self) -> int:
        """Records to be billed."""
        return 0 if self.columns is None else len(self.columns)


class NeedDefinitionsError(Exception):
    """The batch must be sent again with all its definitions."""


def decode(
    batch: pb.Batch, *, cluster: str, known: Known, bounds: TimeBounds, is_whole: bool
) -> Decoded:
    """Check a batch and part the good from the bad.

    `is_whole`: this is the node's answer to a request for all definitions, so what is
    unknown now is a fault. Raises `NeedDefinitionsError` where it is not and a number is
    unknown, or something must be set aside that would not be readable by itself.
    """
    if fault := _fault_of_whole(batch):
        return refuse_whole(batch, fault)
    definitions = check_definitions(
        batch, cluster=cluster, known_runs=known.runs, newest_ms=bounds.newest_ms
    )
    columns = columns_of(batch.records)
    meter_ids = _meter_ids(columns, definitions, known)
    faults = Faults(
        records=find_faults(
            columns, meters := _bad_meters(columns, meter_ids, definitions), bounds
        ),
        runs=definitions.bad_runs,
        meters=meters,
        run_ends=_bad_run_ends(batch, definitions, known, bounds),
    )
    is_clean = not faults.reasons and not _is_anothers(batch, columns, known)
    if not is_clean and not is_whole and not is_self_contained(batch, columns):
        raise NeedDefinitionsError
    ends = {end.run: end.ended_at_ms for end in batch.run_ends if end.run not in faults.run_ends}
    used_runs = {meter.run for meter in definitions.meters.values()} | {*ends}
    good = _without(columns, faults.records)
    return Decoded(
        sequence=batch.sequence,
        digest=digest_of(batch),
        runs=definitions.runs,
        meters=definitions.meters,
        known_runs={number: known.runs[number] for number in used_runs - {*definitions.runs}},
        columns=good if len(good) else None,
        meter_ids=meter_ids,
        run_ends=ends,
        set_aside=tuple(set_aside(batch, columns, faults, reason) for reason in faults.reasons),
    )


def refuse_whole(batch: pb.Batch, reason: Fault) -> Decoded:
    """Take nothing of the batch and keep all of it."""
    return Decoded(
        sequence=batch.sequence,
        digest=digest_of(batch),
        set_aside=(set_aside_whole(batch, reason),),
    )


def digest_of(batch: pb.Batch) -> bytes:
    """Tell one content from another: the node's digest, or ours where it gave none of use."""
    if len(batch.digest) == DIGEST_BYTES:
        return batch.digest
    return hashlib.sha256(batch.SerializeToString(deterministic=True)).digest()


def _is_anothers(batch: pb.Batch, columns: Columns, known: Known) -> bool:
    """Whether something will have to be set aside because another stream told it, or tells it."""
    ended = [known.runs[end.run] for end in batch.run_ends if end.run in known.runs]
    return any(run.claim.is_foreign for run in ended) or is_touched(columns, known.floors)


def _fault_of_whole(batch: pb.Batch) -> Fault | None:
    if len(batch.digest) != DIGEST_BYTES:
        return Fault.BAD_DIGEST
    return None if has_equal_lengths(batch.records) else Fault.UNEQUAL_COLUMNS


def _meter_ids(columns: Columns, definitions: Definitions, known: Known) -> Int64s:
    """A definition in the batch goes before what the connection knew by that number."""
    return np.array(
        [
            _DEFINED_HERE if number in definitions.meters else known.meters.get(number, _UNKNOWN)
            for number in columns.numbers
        ]
        if definitions.meters
        else [known.meters.get(number, _UNKNOWN) for number in columns.numbers],
        dtype=np.int64,
    )


def _bad_meters(
    columns: Columns, meter_ids: Int64s, definitions: Definitions
) -> Mapping[int, Fault]:
    places: list[int] = (meter_ids == _UNKNOWN).nonzero()[0].tolist()
    unknown = {columns.numbers[place]: Fault.UNKNOWN_METER for place in places}
    return {**unknown, **definitions.bad_meters}


def _bad_run_ends(
    batch: pb.Batch, definitions: Definitions, known: Known, bounds: TimeBounds
) -> Mapping[int, Fault]:
    faults: dict[int, Fault] = {}
    for end in batch.run_ends:
        if end.run in definitions.bad_runs:
            faults[end.run] = definitions.bad_runs[end.run]
        elif end.run not in definitions.runs and end.run not in known.runs:
            faults[end.run] = Fault.UNKNOWN_RUN
        elif not 0 < end.ended_at_ms <= bounds.newest_ms:
            faults[end.run] = Fault.BAD_TIME
    return faults


def _without(columns: Columns, faults: Mapping[Fault, Flags]) -> Columns:
    if not faults:
        return columns
    return columns.only(~np.logical_or.reduce([*faults.values()]))
