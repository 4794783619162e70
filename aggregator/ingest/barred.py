"""Sets aside what a stream tells of what is, or was, another stream's. Pure.

Most batches tell nothing of the kind and pass as they are.
"""

from collections.abc import Mapping
from dataclasses import replace

from aggregator.ingest.definition import KnownRun
from aggregator.ingest.floors import is_touched, part
from aggregator.ingest.quarantine import set_aside_already_metered
from aggregator.ingest.settle import BatchItem
from proto.metering.v1 import metering_pb2 as pb


def floors_of(item: BatchItem, runs: Mapping[int, KnownRun]) -> Mapping[int, int]:
    """From when on the meters that a batch defines may be told, where that is not from ever."""
    return {
        number: floor_ms
        for number, meter in item.decoded.meters.items()
        if (floor_ms := runs[meter.run].claim.floor_ms(meter.type.value, meter.device))
    }


def without_barred(item: BatchItem, runs: Mapping[int, KnownRun]) -> BatchItem:
    """Part a batch at the floors of its meters; who does not tell a run does not end it."""
    decoded = item.decoded
    ends = [number for number in decoded.run_ends if runs[number].claim.is_foreign]
    floors = {**item.session.floors, **floors_of(item, runs)}
    columns = decoded.columns
    is_barred = columns is not None and is_touched(columns, floors)
    if not is_barred and not ends:
        return item
    good, aside = part(columns, floors) if columns is not None and is_barred else (columns, None)
    batch = pb.Batch.FromString(item.raw)
    return replace(
        item,
        decoded=replace(
            decoded,
            columns=good if good is not None and len(good) else None,
            run_ends={
                number: at_ms for number, at_ms in decoded.run_ends.items() if number not in ends
            },
            set_aside=(*decoded.set_aside, set_aside_already_metered(batch, aside, ends)),
        ),
    )
