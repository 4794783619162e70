"""Usage records in columns: laid out from the wire, checked as sets. Pure.

Everything is int64. Nothing is multiplied or divided before it is known to be in range:
instants fit in 53 bits, lengths in 32.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from aggregator.ingest.definition import MAX_BASE_UNITS, Fault, TimeBounds
from proto.metering.v1 import metering_pb2 as pb

Int64s: TypeAlias = NDArray[np.int64]
Flags: TypeAlias = NDArray[np.bool_]

_MINUTE_MS: Final = 60_000
_FAR_MS: Final = 1 << 52


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Records: instants in ms since 1970, quantities in base unit x ms."""

    numbers: Sequence[int]
    """The meters' numbers, each once."""
    meter: NDArray[np.intp]
    """Per record, the place of its meter in `numbers`."""
    started_at_ms: Int64s
    length_ms: Int64s
    allocated: Int64s
    used: Int64s
    effective: Int64s
    observed_ms: Int64s

    def __len__(self) -> int:
        """Records held."""
        return len(self.meter)

    @property
    def ended_at_ms(self) -> Int64s:
        """Where each window ends, exclusive."""
        return self.started_at_ms + self.length_ms

    def part(self, lengths: Sequence[int]) -> Iterator["Columns"]:
        """Give so many records each, in order; the parts share `numbers`."""
        start = 0
        for length in lengths:
            yield self._rows(slice(start, start + length))
            start += length

    def only(self, wanted: Flags) -> "Columns":
        """Keep the records that are flagged."""
        return self._rows(wanted)

    def _rows(self, wanted: Flags | slice) -> "Columns":
        return Columns(
            numbers=self.numbers,
            meter=self.meter[wanted],
            started_at_ms=self.started_at_ms[wanted],
            length_ms=self.length_ms[wanted],
            allocated=self.allocated[wanted],
            used=self.used[wanted],
            effective=self.effective[wanted],
            observed_ms=self.observed_ms[wanted],
        )


def has_equal_lengths(records: pb.Records) -> bool:
    """Whether the wire's columns are columns of one table."""
    lengths = {
        len(records.meter),
        len(records.start_ms),
        len(records.length_ms),
        len(records.allocated),
        len(records.used),
        len(records.effective),
        len(records.observed_ms),
    }
    return len(lengths) == 1


def columns_of(*tables: pb.Records) -> Columns:
    """Lay out columns of equal length, one table after another.

    A base out of all reason puts its records before any time.
    """
    numbers, meter = _number([table.meter for table in tables])
    return Columns(
        numbers=numbers,
        meter=meter,
        started_at_ms=_joined([table.start_ms for table in tables]) + _bases(tables),
        length_ms=_joined([table.length_ms for table in tables]),
        allocated=_joined([table.allocated for table in tables]),
        used=_joined([table.used for table in tables]),
        effective=_joined([table.effective for table in tables]),
        observed_ms=_joined([table.observed_ms for table in tables]),
    )


def _joined(columns: Sequence[Sequence[int]]) -> Int64s:
    if len(columns) == 1:
        return np.array(columns[0], dtype=np.int64)
    return np.concatenate([np.array(column, dtype=np.int64) for column in columns])


def _bases(tables: Sequence[pb.Records]) -> int | Int64s:
    bases = [table.base_ms if abs(table.base_ms) < _FAR_MS else -_FAR_MS for table in tables]
    if len(bases) == 1:
        return bases[0]
    return np.repeat(np.array(bases, dtype=np.int64), [len(table.meter) for table in tables])


def records_of(columns: Columns) -> pb.Records:
    """Put columns, one record at least, back on the wire."""
    base_ms = int(columns.started_at_ms.min())
    places: list[int] = columns.meter.tolist()
    return pb.Records(
        base_ms=base_ms,
        meter=[columns.numbers[place] for place in places],
        start_ms=(columns.started_at_ms - base_ms).tolist(),
        length_ms=columns.length_ms.tolist(),
        allocated=columns.allocated.tolist(),
        used=columns.used.tolist(),
        effective=columns.effective.tolist(),
        observed_ms=columns.observed_ms.tolist(),
    )


def _number(columns: Sequence[Sequence[int]]) -> tuple[list[int], NDArray[np.intp]]:
    """Give each number once and each record's place; most batches are in order already."""
    column = np.concatenate([np.array(each, dtype=np.uint64) for each in columns])
    if (column[1:] > column[:-1]).all():
        return column.tolist(), np.arange(len(column))
    numbers, meter = np.unique(column, return_inverse=True)
    return numbers.tolist(), meter


def find_faults(
    columns: Columns, bad_meters: Mapping[int, Fault], bounds: TimeBounds
) -> Mapping[Fault, Flags]:
    """Flag the faulty records by reason; each has one reason, the first that it meets."""
    if not len(columns):
        return {}
    start, length, end = columns.started_at_ms, columns.length_ms, columns.ended_at_ms
    largest = np.minimum(length, _MINUTE_MS) * MAX_BASE_UNITS
    quantities = (columns.allocated, columns.used, columns.effective)
    checks = [
        *_of_bad_meters(columns, bad_meters),
        (Fault.ZERO_LENGTH, length == 0),
        (Fault.BAD_TIME, (start < bounds.oldest_ms) | (end > bounds.newest_ms)),
        (Fault.CROSSES_MINUTE, start // _MINUTE_MS != (end - 1) // _MINUTE_MS),
        (Fault.NEGATIVE, np.minimum.reduce(quantities) < 0),
        (Fault.TOO_LARGE, np.maximum.reduce(quantities) > largest),
        (
            Fault.UNDER_EFFECTIVE,
            columns.effective < np.maximum(columns.allocated, columns.used),
        ),
        (Fault.OVER_OBSERVED, columns.observed_ms > length),
    ]
    return _first_of_each(checks)


def _of_bad_meters(
    columns: Columns, bad_meters: Mapping[int, Fault]
) -> Iterable[tuple[Fault, Flags]]:
    for place, number in enumerate(columns.numbers):
        if fault := bad_meters.get(number):
            yield fault, columns.meter == place


def _first_of_each(checks: Iterable[tuple[Fault, Flags]]) -> Mapping[Fault, Flags]:
    found: dict[Fault, Flags] = {}
    taken: Flags | None = None
    for fault, flags in checks:
        if not flags.any():
            continue
        fresh = flags if taken is None else flags & ~taken
        taken = flags if taken is None else flags | taken
        if fresh.any():
            found[fault] = found[fault] | fresh if fault in found else fresh
    return found
