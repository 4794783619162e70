"""Decodes batches that came together as one table: most of a backlog. Pure.

Only such as bring records and nothing else, of meters that the connection knows, and without
a fault anywhere: then a batch costs little beside its records. All others are for `decode`,
which would give the same for these, one by one.
"""

from collections.abc import Sequence

import numpy as np

from aggregator.ingest.columns import columns_of, find_faults, has_equal_lengths
from aggregator.ingest.decode import DIGEST_BYTES, Decoded, Known
from aggregator.ingest.definition import TimeBounds
from aggregator.ingest.floors import is_touched
from proto.metering.v1 import metering_pb2 as pb


def is_plain(batch: pb.Batch) -> bool:
    """Whether it brings records, of one table, and nothing else."""
    has_more = batch.runs or batch.meters or batch.run_ends
    is_whole = len(batch.digest) == DIGEST_BYTES and has_equal_lengths(batch.records)
    return is_whole and not has_more


def decode_plain(
    batches: Sequence[pb.Batch], *, known: Known, bounds: TimeBounds
) -> Sequence[Decoded] | None:
    """Decode batches that are plain; None: one of them is not to be taken just as it is."""
    columns = columns_of(*[batch.records for batch in batches])
    ids = [known.meters.get(number) for number in columns.numbers]
    meter_ids = np.array([each for each in ids if each is not None], dtype=np.int64)
    is_known = len(meter_ids) == len(ids)
    if not is_known or is_touched(columns, known.floors) or find_faults(columns, {}, bounds):
        return None
    parts = columns.part([len(batch.records.meter) for batch in batches])
    return [
        Decoded(
            sequence=batch.sequence,
            digest=batch.digest,
            columns=part if len(part) else None,
            meter_ids=meter_ids,
        )
        for batch, part in zip(batches, parts, strict=True)
    ]
