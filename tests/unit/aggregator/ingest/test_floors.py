"""What is parted at a floor is neither lost nor doubled: every millisecond, every unit."""

from dataclasses import dataclass

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from aggregator.ingest.claim import FOREVER_MS, OWN, Claim
from aggregator.ingest.columns import Columns, columns_of, records_of
from aggregator.ingest.floors import is_touched, part

MINUTE_MS = 60_000
START_MS = 1_700_000_040_000
MAX_UNITS = 1 << 46


@dataclass(frozen=True)
class Window:
    """One record."""

    meter: int
    start_ms: int
    length_ms: int
    allocated: int
    used: int
    effective: int
    observed_ms: int


@st.composite
def windows(draw: st.DrawFn) -> Window:
    """A window within a minute, with quantities up to the largest."""
    first = draw(st.integers(0, MINUTE_MS - 1))
    length_ms = draw(st.integers(1, MINUTE_MS - first))
    largest = length_ms * MAX_UNITS
    allocated, used = draw(st.integers(0, largest)), draw(st.integers(0, largest))
    return Window(
        meter=draw(st.integers(0, 2)),
        start_ms=START_MS + draw(st.integers(0, 5)) * MINUTE_MS + first,
        length_ms=length_ms,
        allocated=allocated,
        used=used,
        effective=draw(st.integers(max(allocated, used), largest)),
        observed_ms=draw(st.integers(0, length_ms)),
    )


def laid_out(rows: list[Window]) -> Columns:
    """The windows as columns, of the meters 7, 8 and 9."""
    return Columns(
        numbers=[7, 8, 9],
        meter=np.array([row.meter for row in rows], dtype=np.intp),
        started_at_ms=np.array([row.start_ms for row in rows], dtype=np.int64),
        length_ms=np.array([row.length_ms for row in rows], dtype=np.int64),
        allocated=np.array([row.allocated for row in rows], dtype=np.int64),
        used=np.array([row.used for row in rows], dtype=np.int64),
        effective=np.array([row.effective for row in rows], dtype=np.int64),
        observed_ms=np.array([row.observed_ms for row in rows], dtype=np.int64),
    )


def records() -> st.SearchStrategy[Columns]:
    """Records of three meters."""
    return st.lists(windows(), min_size=1, max_size=12).map(laid_out)


def test_claims_say_from_when_on_a_meter_may_be_told() -> None:
    """From ever, from the floor of its type and device, or never."""
    moved = Claim(floors={("cpu", None): 5, ("gpu", "GPU-1"): 9})
    assert (OWN.floor_ms("cpu", None), OWN.highest_ms) == (0, 0)
    assert (moved.floor_ms("cpu", None), moved.floor_ms("gpu", "GPU-1")) == (5, 9)
    assert (moved.floor_ms("gpu", "GPU-2"), moved.highest_ms) == (0, 9)
    assert Claim(is_foreign=True).floor_ms("cpu", None) == FOREVER_MS


@given(columns=records(), floor=st.integers(START_MS - 1, START_MS + 7 * MINUTE_MS))
def test_a_floor_parts_exactly(columns: Columns, floor: int) -> None:
    """Nothing that is taken begins before it; with what lies before it, all is there."""
    floors = {7: floor, 8: FOREVER_MS}
    good, aside = part(columns, floors)
    assert is_touched(columns, floors) == (len(aside) > 0)
    assert not (good.meter == 1).any(), "what is another stream's is not taken"
    own = good.only(good.meter == 0)
    assert (own.started_at_ms >= floor).all()
    assert (own.ended_at_ms > own.started_at_ms).all()
    assert (good.effective >= np.maximum(good.allocated, good.used)).all()
    assert (good.observed_ms <= good.length_ms).all()
    assert ((good.ended_at_ms - 1) // MINUTE_MS == good.started_at_ms // MINUTE_MS).all()
    before = columns.only((columns.meter == 0) & (columns.started_at_ms < floor))
    lost_ms = sum(
        min(int(end), floor) - int(start)
        for start, end in zip(before.started_at_ms, before.ended_at_ms, strict=True)
    )
    first = columns.only(columns.meter == 0)
    assert int(own.length_ms.sum()) == int(first.length_ms.sum()) - lost_ms
    assert len(good.only(good.meter == 2)) == len(columns.only(columns.meter == 2))


@given(columns=records(), quota=st.integers(0, 1 << 40), at=st.integers(0, 6 * MINUTE_MS))
def test_the_cut_of_quota_times_time_is_exact(columns: Columns, quota: int, at: int) -> None:
    """Whatever the floor, what is taken is quota x its length."""
    lengths = columns.length_ms
    whole = Columns(
        numbers=columns.numbers,
        meter=columns.meter,
        started_at_ms=columns.started_at_ms,
        length_ms=lengths,
        allocated=lengths * quota,
        used=columns.used,
        effective=columns.effective,
        observed_ms=lengths,
    )
    good, _ = part(whole, dict.fromkeys(columns.numbers, START_MS + at))
    assert (good.allocated == good.length_ms * quota).all()
    assert (good.observed_ms == good.length_ms).all()


@given(columns=records())
def test_what_is_set_aside_can_be_read_back(columns: Columns) -> None:
    """As records of the wire, which know each meter by its number."""
    again = columns_of(records_of(columns))
    assert [again.numbers[place] for place in again.meter] == [
        columns.numbers[place] for place in columns.meter
    ]
    assert (again.started_at_ms == columns.started_at_ms).all()
    assert (again.effective == columns.effective).all()
