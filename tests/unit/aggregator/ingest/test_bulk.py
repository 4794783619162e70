"""Batches that come together are decoded as they would be one by one."""

from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from aggregator.ingest.bulk import decode_plain, is_plain
from aggregator.ingest.columns import Columns
from aggregator.ingest.decode import Decoded, Known
from aggregator.ingest.definition import RunRef
from aggregator.model import MeterId, RunId
from proto.metering.v1 import metering_pb2 as pb
from tests.unit.aggregator.ingest.test_decode import (
    BOUNDS,
    NOON_MS,
    decoded,
    good_batch,
    sealed,
)

MINUTE_MS = 60_000
KNOWN = Known(
    runs={1: RunRef(run_id=RunId(10), key="files:j", vc="vc1")},
    meters={number: MeterId(100 + number) for number in range(1, 6)},
)


def plain(sequence: int, meters: Sequence[int], minute: int = 1) -> pb.Batch:
    """A minute of these meters, and nothing else."""
    count = len(meters)
    records = pb.Records(
        base_ms=NOON_MS - minute * MINUTE_MS,
        meter=meters,
        start_ms=[0] * count,
        length_ms=[MINUTE_MS] * count,
        allocated=[sequence] * count,
        used=[number * 1_000 for number in meters],
        effective=[max(sequence, number * 1_000) for number in meters],
        observed_ms=[MINUTE_MS] * count,
    )
    return sealed(pb.Batch(sequence=sequence, records=records))


def rows_of(columns: Columns | None, meter_ids: Sequence[int]) -> list[tuple[int, ...]]:
    """What would be stored, record by record."""
    if columns is None:
        return []
    table = np.column_stack(
        [
            np.array(meter_ids)[columns.meter],
            columns.started_at_ms,
            columns.ended_at_ms,
            columns.allocated,
            columns.used,
            columns.effective,
            columns.observed_ms,
        ]
    )
    return [tuple(row) for row in table.tolist()]


def told(result: Decoded) -> object:
    """All that matters of a batch of records alone."""
    assert not any((result.runs, result.meters, result.known_runs, result.run_ends))
    ids: list[int] = [] if result.meter_ids is None else result.meter_ids.tolist()
    return result.sequence, result.digest, rows_of(result.columns, ids), result.set_aside


METERS = st.lists(st.integers(1, 5), max_size=6)


@given(st.lists(st.tuples(METERS, st.integers(1, 100)), min_size=1, max_size=5))
def test_together_is_as_one_by_one(contents: list[tuple[list[int], int]]) -> None:
    """In any order of meters, with any of them twice, of any minute, and without records."""
    batches = [plain(place + 1, *content) for place, content in enumerate(contents)]
    together = decode_plain(batches, known=KNOWN, bounds=BOUNDS)
    assert together is not None
    assert [told(each) for each in together] == [
        told(decoded(batch, known=KNOWN)) for batch in batches
    ]


@given(st.integers(0, 2), st.sampled_from(["unknown", "negative", "old", "floor"]))
def test_one_that_must_be_looked_at_leaves_all_to_be_decoded_one_by_one(
    place: int, what: str
) -> None:
    """An unknown meter, a fault, or something that another stream told before."""
    batches = [plain(number, [1, 2]) for number in (1, 2, 3)]
    known = KNOWN
    if what == "unknown":
        batches[place].records.meter[0] = 9
    elif what == "negative":
        batches[place].records.allocated[1] = -1
    elif what == "old":
        batches[place].records.base_ms = 0
    else:
        known = Known(runs=KNOWN.runs, meters=KNOWN.meters, floors={2: NOON_MS})
    assert decode_plain(batches, known=known, bounds=BOUNDS) is None


def test_plain_is_what_brings_records_of_one_table_and_nothing_else() -> None:
    """Definitions, ends of runs, columns that do not fit and a bad digest are looked at."""
    assert is_plain(plain(1, [1, 2]))
    assert not is_plain(good_batch())
    ended, unequal, unsealed = plain(1, [1]), plain(1, [1]), plain(1, [1])
    ended.run_ends.add(run=1, ended_at_ms=NOON_MS)
    unequal.records.used.append(1)
    unsealed.digest = b"short"
    assert not any(is_plain(each) for each in (ended, unequal, unsealed))
