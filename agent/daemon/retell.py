"""Makes what a stream that is given up had to tell a part of its successor. Pure.

The aggregator sees to it that nothing is billed twice: a run goes on in the new stream
after what is durable of it. So on one and the same host everything is told again that may
not have arrived. What another life told, before a reboot or on the machine that a disk was
copied from, is not ours to tell: its runs may go on there.
"""

from dataclasses import dataclass

from proto.metering.v1 import metering_pb2 as pb


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Since when the spool is this life's: frames after `sequence`, runs from `number` on.

    `is_renamed`: it is of the same host under another node's name. What may have arrived is
    that node's, and nothing is told again.
    """

    sequence: int = 0
    number: int = 0
    is_renamed: bool = False


def retold(batch: bytes, sequence: int, origin: Origin) -> bytes:
    """Serialize a stored Batch as another stream's, without what is not ours to tell."""
    told = pb.Batch.FromString(batch)
    told.sequence = sequence
    if origin.number:
        _leave_out(told, origin.number)
    return told.SerializeToString(deterministic=True)


def _leave_out(batch: pb.Batch, number: int) -> None:
    runs = [run for run in batch.runs if run.number >= number]
    meters = [meter for meter in batch.meters if meter.run >= number]
    ends = [end for end in batch.run_ends if end.run >= number]
    records = _records_of(batch.records, {meter.number for meter in meters})
    batch.CopyFrom(
        pb.Batch(sequence=batch.sequence, runs=runs, meters=meters, records=records, run_ends=ends)
    )


def _records_of(records: pb.Records, meters: set[int]) -> pb.Records | None:
    places = [place for place, meter in enumerate(records.meter) if meter in meters]
    if not places:
        return None
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
