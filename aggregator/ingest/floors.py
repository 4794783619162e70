"""Parts what a stream may tell of a run from what another one told already. Pure.

A claim that moved to a stream has floors: through when each type and device was durable
then. A record from before its floor is set aside; one that lies across it is cut there:
`allocated` is quota x time, so its cut is exact, and of `used`, `effective` and
`observed_ms` the part before the floor is the length's share, rounded down. So both parts
add up to the record, and each keeps `effective >= max(allocated, used)`.

The floor of what is another stream's now is for ever: nothing is taken.
"""

from collections.abc import Mapping

import numpy as np

from aggregator.ingest.columns import Columns, Flags, Int64s


def is_touched(columns: Columns, floors: Mapping[int, int]) -> bool:
    """Whether a record begins before its meter's floor; floors by the meters' numbers."""
    return bool(floors) and bool(_early(columns, floors).any())


def part(columns: Columns, floors: Mapping[int, int]) -> tuple[Columns, Columns]:
    """Give the records to be taken, and those that begin before their floor, as they came."""
    early = _early(columns, floors)
    aside = columns.only(early)
    across = early & (columns.ended_at_ms > _floors(columns, floors))
    return _cut(columns, across, floors).only(~early | across), aside


def _floors(columns: Columns, floors: Mapping[int, int]) -> Int64s:
    by_place = np.array([floors.get(number, 0) for number in columns.numbers], dtype=np.int64)
    return by_place[columns.meter]


def _early(columns: Columns, floors: Mapping[int, int]) -> Flags:
    return columns.started_at_ms < _floors(columns, floors)


def _cut(columns: Columns, across: Flags, floors: Mapping[int, int]) -> Columns:
    """Move the start of the flagged records to their floor; they are few."""
    start, length = columns.started_at_ms.copy(), columns.length_ms.copy()
    allocated, used = columns.allocated.copy(), columns.used.copy()
    effective, observed_ms = columns.effective.copy(), columns.observed_ms.copy()
    limits = _floors(columns, floors)
    places: list[int] = across.nonzero()[0].tolist()
    for place in places:
        whole_ms, before_ms = int(length[place]), int(limits[place] - start[place])
        for quantity in (allocated, used, effective, observed_ms):
            value = int(quantity[place])  # no 64 bits hold value x ms
            quantity[place] = value - value * before_ms // whole_ms
        start[place], length[place] = limits[place], whole_ms - before_ms
    return Columns(
        numbers=columns.numbers,
        meter=columns.meter,
        started_at_ms=start,
        length_ms=length,
        allocated=allocated,
        used=used,
        effective=effective,
        observed_ms=observed_ms,
    )
