"""Makes what is set aside readable by itself: one reason, with its definitions. Pure."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from aggregator.ingest.columns import Columns, Flags, records_of
from aggregator.ingest.definition import Fault
from proto.metering.v1 import metering_pb2 as pb


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAside:
    """What goes to quarantine for one reason."""

    reason: Fault
    record_count: int
    payload: bytes
    """A serialized Batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """All that is wrong in one batch: records by reason, the rest by number."""

    records: Mapping[Fault, Flags]
    runs: Mapping[int, Fault]
    meters: Mapping[int, Fault]
    run_ends: Mapping[int, Fault]

    @property
    def reasons(self) -> list[Fault]:
        """Every reason found, in a fixed order."""
        if not (self.records or self.runs or self.meters or self.run_ends):
            return []
        named = {*self.runs.values(), *self.meters.values(), *self.run_ends.values()}
        return sorted(named | {*self.records})


def is_self_contained(batch: pb.Batch, columns: Columns) -> bool:
    """Whether the batch defines every number that it uses."""
    runs = {run.number for run in batch.runs}
    meters = {meter.number for meter in batch.meters}
    used = {meter.run for meter in batch.meters} | {end.run for end in batch.run_ends}
    return used <= runs and meters.issuperset(columns.numbers)


def set_aside_whole(batch: pb.Batch, reason: Fault) -> SetAside:
    """Keep the batch as it came."""
    return SetAside(
        reason=reason,
        record_count=len(batch.records.meter),
        payload=batch.SerializeToString(deterministic=True),
    )


def set_aside_already_metered(
    batch: pb.Batch, columns: Columns | None, ends: Collection[int]
) -> SetAside:
    """Make the Batch of what another stream told or tells: these records and ends of runs."""
    used: set[int] = set()
    if columns is not None:
        places: list[int] = columns.meter.tolist()
        used = {columns.numbers[place] for place in places}
    meters = [meter for meter in batch.meters if meter.number in used]
    runs = {meter.run for meter in meters}.union(ends)
    part = pb.Batch(
        sequence=batch.sequence,
        digest=batch.digest,
        runs=[run for run in batch.runs if run.number in runs],
        meters=meters,
        records=None if columns is None else records_of(columns),
        run_ends=[end for end in batch.run_ends if end.run in ends],
    )
    return SetAside(
        reason=Fault.ALREADY_METERED,
        record_count=0 if columns is None else len(columns),
        payload=part.SerializeToString(deterministic=True),
    )


def set_aside(batch: pb.Batch, columns: Columns, faults: Faults, reason: Fault) -> SetAside:
    """Make the Batch of one reason: its records, its definitions, its ends.

    It keeps the sequence and the digest of the batch that it is a part of.
    """
    flags = faults.records.get(reason)
    places: list[int] = [] if flags is None else flags.nonzero()[0].tolist()
    ends = [end for end in batch.run_ends if faults.run_ends.get(end.run) is reason]
    meters = {number for number, fault in faults.meters.items() if fault is reason}
    meters |= {columns.numbers[columns.meter[place]] for place in places}
    kept_meters = [meter for meter in batch.meters if meter.number in meters]
    runs = {number for number, fault in faults.runs.items() if fault is reason}
    runs |= {meter.run for meter in kept_meters} | {end.run for end in ends}
    part = pb.Batch(
        sequence=batch.sequence,
        digest=batch.digest,
        runs=[run for run in batch.runs if run.number in runs],
        meters=kept_meters,
        records=_pick(batch.records, places),
        run_ends=ends,
    )
    return SetAside(
        reason=reason,
        record_count=len(places),
        payload=part.SerializeToString(deterministic=True),
    )


def _pick(records: pb.Records, places: list[int]) -> pb.Records:
    return pb.Records(
        base_ms=records.base_ms,
        meter=[records.meter[place] for place in places],
        start_ms=[records.start_ms[place] for place in places],
        length_ms=[records.length_ms[place] for place in places],
        allocated=[records.allocated[place] for place in places],
        used=[records.used[place] for place in places],
        effective=[records.effective[place] for place in places],
        observed_ms=[records.observed_ms[place] for place in places],
    )
