"""Integration: every cut of the timeline gives the same totals, none of them negative."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.integrate import (
    MINUTE_MS,
    UNKNOWN_VALUE,
    Meter,
    UsageRecord,
    close_window,
    cut,
    finish,
    forfeit,
    inherit,
    observe,
    open_meter,
    settle,
    shift,
)
from agent.model import Reading, ReadingKind

HOLD_MS = 60_000
START_MS = 1_700_000_012_345
HOUR_MS = 3_600_000
FAR_MS = 1 << 60


def counter(value: int) -> Reading:
    return Reading(kind=ReadingKind.COUNTER, value=value)


def level(value: int) -> Reading:
    return Reading(kind=ReadingKind.LEVEL, value=value)


def follow_meter(number: int, quota: int, ended: Meter) -> Meter:
    """The meter of the next quota."""
    meter = open_meter(number, quota, ended.position_ms)
    inherit(meter, ended)
    return meter


def records_of(meter: Meter, limit: int = 1 << 40) -> list[UsageRecord]:
    """Everything that can be recorded now, the open window included."""
    records: list[UsageRecord] = []
    cut(meter, records, limit=limit, horizon_ms=FAR_MS)
    if not meter.spans:
        close_window(meter, records)
    return records


def totals(records: Sequence[UsageRecord]) -> tuple[int, int, int, int, int]:
    """Length, allocated, used, effective and observed, over all records."""
    return (
        sum(record.length_ms for record in records),
        sum(record.allocated for record in records),
        sum(record.used for record in records),
        sum(record.effective for record in records),
        sum(record.observed_ms for record in records),
    )


# Known answers ---------------------------------------------------------------------------


def test_effective_is_the_maximum_per_interval_then_integrated() -> None:
    """Request 2 cores, usage 4 for half an hour, then 0: 3.0 core-hours, not 2.0."""
    meter = open_meter(1, 2_000, 0)
    observe(meter, HOUR_MS // 2, counter(4_000 * HOUR_MS // 2), HOLD_MS)
    observe(meter, HOUR_MS, counter(4_000 * HOUR_MS // 2), HOLD_MS)
    _, allocated, used, effective, observed_ms = totals(records_of(meter))
    assert (allocated, used) == (2_000 * HOUR_MS, 2_000 * HOUR_MS)
    assert effective == 3_000 * HOUR_MS
    assert observed_ms == HOUR_MS


def test_a_job_between_two_samples_is_billed_for_its_true_time() -> None:
    """29 s that no sample fell into: allocated exactly, observed not at all."""
    meter = open_meter(1, 1_000, START_MS)
    settle(meter, START_MS + 29_000, HOLD_MS)
    assert totals(records_of(meter)) == (29_000, 29_000_000, 0, 29_000_000, 0)


def test_a_final_counter_makes_a_short_job_exact() -> None:
    """What `wait` reported at the end is used and observed over the whole run."""
    meter = open_meter(1, 500, START_MS)
    observe(meter, START_MS + 3_000, counter(2_999_123), HOLD_MS)
    settle(meter, START_MS + 3_000, HOLD_MS)
    assert totals(records_of(meter)) == (3_000, 1_500_000, 2_999_123, 2_999_123, 3_000)


def test_a_run_across_midnight_is_cut_at_midnight() -> None:
    """23:50 to 00:05: ten minutes and five minutes on their own days."""
    midnight_ms = 1_700_006_400_000
    meter = open_meter(1, 1, midnight_ms - 10 * MINUTE_MS)
    settle(meter, midnight_ms + 5 * MINUTE_MS, HOLD_MS)
    records = records_of(meter)
    before = sum(record.length_ms for record in records if record.start_ms < midnight_ms)
    assert (before, len(records)) == (10 * MINUTE_MS, 15)


def test_a_resize_within_the_hour_adds_up() -> None:
    """30 min at 3, then 30 min at 6: 4.5 unit-hours."""
    first = open_meter(1, 3, 0)
    settle(first, HOUR_MS // 2, HOLD_MS)
    second = follow_meter(2, 6, first)
    settle(second, HOUR_MS, HOLD_MS)
    allocated = totals(records_of(first))[1] + totals(records_of(second))[1]
    assert allocated * 10 == 45 * HOUR_MS


# Counters --------------------------------------------------------------------------------


def test_a_counter_bridges_the_time_without_an_agent() -> None:
    """Three days between two readings: all of it used and observed, in whole minutes."""
    days_ms = 3 * 24 * HOUR_MS
    meter = open_meter(1, 100, START_MS)
    observe(meter, START_MS + 1, counter(7), HOLD_MS)
    observe(meter, START_MS + days_ms, counter(7 + 123_456_789_011), HOLD_MS)
    records = records_of(meter)
    assert totals(records)[2:] == (123_456_789_018, 100 + 123_456_789_011, days_ms)
    assert len(records) == 3 * 24 * 60 + 1


def test_a_counter_that_fell_began_again_at_zero() -> None:
    """After a reset the new value is what was used since: never negative, never doubled."""
    meter = open_meter(1, 0, START_MS)
    for second, value in enumerate((1_000, 5_000, 200, 900), start=1):
        observe(meter, START_MS + 1_000 * second, counter(value), HOLD_MS)
    assert totals(records_of(meter))[2] == 5_000 + 900


def test_a_counter_that_cannot_begin_again_counts_when_it_is_past_its_height() -> None:
    """Of a process tree less is seen after a restart: nothing is used twice for it."""
    meter = open_meter(1, 0, START_MS)
    meter.can_reset = False
    for second, value in enumerate((1_000, 5_000, 200, 4_900, 5_600), start=1):
        observe(meter, START_MS + 1_000 * second, counter(value), HOLD_MS)
    assert totals(records_of(meter))[2] == 5_600


def test_suspended_time_is_allocated_and_unobserved() -> None:
    """Of 100 s the machine slept 70: observed are 30."""
    meter = open_meter(1, 10, START_MS)
    observe(meter, START_MS + 100_000, counter(300), HOLD_MS, blind_ms=70_000)
    assert totals(records_of(meter)) == (100_000, 1_000_000, 300, 1_000_000, 30_000)


def test_a_silent_counter_is_billed_as_allocated_and_caught_up_exactly() -> None:
    """A counter silent for 10 min: effective ends as if it had been read all along."""
    meter = open_meter(1, 500, 0)
    settle(meter, 600_000, HOLD_MS)
    silent = records_of(meter)
    assert totals(silent) == (600_000, 500 * 600_000, 0, 500 * 600_000, 0)
    observe(meter, 610_000, counter(1_000 * 610_000), HOLD_MS)
    records = silent + records_of(meter)
    assert totals(records)[3] == 1_000 * 610_000
    assert all(record.effective >= record.used for record in records)


def test_a_silent_counter_below_its_quota_changes_nothing() -> None:
    """What the allocation covered is not billed again when the counter speaks."""
    meter = open_meter(1, 500, 0)
    settle(meter, 600_000, HOLD_MS)
    observe(meter, 610_000, counter(400 * 610_000), HOLD_MS)
    observe(meter, 620_000, counter(400 * 620_000), HOLD_MS)
    assert totals(records_of(meter))[3] == 500 * 620_000


def test_a_silent_counter_is_exact_across_a_change_of_quota() -> None:
    """What was billed ahead of the counter goes over to the next meter."""
    first = open_meter(1, 500, 0)
    settle(first, 600_000, HOLD_MS)
    settle(first, 600_000, HOLD_MS)
    second = follow_meter(2, 100, first)
    observe(second, 610_000, counter(1_000 * 610_000), HOLD_MS)
    assert totals(records_of(first))[3] + totals(records_of(second))[3] == 1_000 * 610_000


# Levels ----------------------------------------------------------------------------------


def test_a_level_is_the_trapezoid_of_its_readings() -> None:
    """From 100 to 300 over 10 s is 200 on average."""
    meter = open_meter(1, 0, START_MS)
    observe(meter, START_MS, level(100), HOLD_MS)
    observe(meter, START_MS + 10_000, level(300), HOLD_MS)
    assert totals(records_of(meter))[2] == 200 * 10_000


def test_the_first_level_holds_back_and_the_last_one_forward() -> None:
    """One reading 50 s after the start, the end 20 s later: 70 s observed at its value."""
    meter = open_meter(1, 5, START_MS)
    observe(meter, START_MS + 50_000, level(8), HOLD_MS)
    settle(meter, START_MS + 70_000, HOLD_MS)
    assert totals(records_of(meter)) == (70_000, 350_000, 560_000, 560_000, 70_000)


def test_a_level_holds_no_longer_than_it_may() -> None:
    """Each reading stands for 60 s at most; the rest is allocated and unobserved."""
    meter = open_meter(1, 5, 0)
    observe(meter, 100_000, level(8), HOLD_MS)  # 40 s before it unknown, 60 s held back
    observe(meter, 200_000, level(9), HOLD_MS)  # 60 s held forward, 40 s unknown
    settle(meter, 300_000, HOLD_MS)  # the same again
    _, allocated, used, effective, observed_ms = totals(records_of(meter))
    assert used == 60_000 * (8 + 8 + 9)
    assert observed_ms == 180_000
    assert allocated == 1_500_000
    assert effective == used + 5 * 120_000


def test_a_level_never_read_is_unobserved_not_zero() -> None:
    """A dead driver: allocation goes on, nothing was observed."""
    meter = open_meter(1, 126_000, START_MS)
    settle(meter, START_MS + HOUR_MS, HOLD_MS)
    settle(meter, START_MS + HOUR_MS + 7, HOLD_MS)
    length_ms, allocated, used, effective, observed_ms = totals(records_of(meter))
    assert (length_ms, observed_ms, used) == (HOUR_MS + 7, 0, 0)
    assert allocated == effective == 126_000 * (HOUR_MS + 7)


def test_a_level_while_suspended_is_not_observed() -> None:
    """Of 40 s the machine slept 30: 10 s of the level are usage."""
    meter = open_meter(1, 0, START_MS)
    observe(meter, START_MS, level(10), HOLD_MS)
    observe(meter, START_MS + 40_000, level(10), HOLD_MS, blind_ms=30_000)
    assert totals(records_of(meter))[2:] == (100_000, 100_000, 10_000)


def test_a_second_level_at_the_same_instant_replaces_the_first() -> None:
    """Two readings of one millisecond span no time; the later one counts."""
    meter = open_meter(1, 0, START_MS)
    observe(meter, START_MS + 1_000, level(5), HOLD_MS)
    observe(meter, START_MS + 1_000, level(7), HOLD_MS)
    observe(meter, START_MS + 2_000, level(7), HOLD_MS)
    assert totals(records_of(meter))[2] == 12_000


# Both ------------------------------------------------------------------------------------


def test_a_reading_from_before_the_start_says_nothing() -> None:
    """A sample taken before the run began is not its own."""
    meter = open_meter(1, 3, START_MS)
    observe(meter, START_MS - 1, counter(999), HOLD_MS)
    observe(meter, START_MS + 1_000, counter(10), HOLD_MS)
    assert totals(records_of(meter))[2] == 10


def test_a_counter_at_the_very_start_is_left_for_the_next_reading() -> None:
    """No time has passed, so no window could hold what it says; nothing is lost."""
    meter = open_meter(1, 3, START_MS)
    observe(meter, START_MS, counter(5), HOLD_MS)
    observe(meter, START_MS + 1_000, counter(10), HOLD_MS)
    assert totals(records_of(meter))[2] == 10


def test_a_final_counter_without_time_goes_into_the_window_that_ends_there() -> None:
    """It fits under what was allocated and not used; only what is more is more to pay."""
    for final, effective in ((9_000_000, 10_000_000), (13_000_000, 13_000_000)):
        meter = open_meter(1, 1000, 0)
        observe(meter, 10_000, counter(7_880_000), HOLD_MS)
        assert finish(meter, 10_000, counter(final), HOLD_MS) == 0
        (record,) = records_of(meter)
        assert (record.used, record.effective, record.observed_ms) == (final, effective, 10_000)


def test_a_final_counter_that_no_window_can_take_is_handed_back() -> None:
    """Its window was recorded already, or there is none."""
    meter = open_meter(1, 1000, 0)
    assert finish(meter, 0, counter(5), HOLD_MS) == 5
    observe(meter, 10_000, counter(7), HOLD_MS)
    records_of(meter)
    assert finish(meter, 10_000, counter(9), HOLD_MS) == 2
    forfeit(meter, 20_000)
    assert finish(meter, 10_000, counter(9), HOLD_MS) == 0


def test_a_counter_that_another_run_left_behind_tells_nothing_before_its_next_reading() -> None:
    """What it holds is the other one's; what was used until the first reading is unobserved."""
    meter = open_meter(1, 5, 0)
    meter.value = UNKNOWN_VALUE
    assert finish(meter, 0, counter(900), HOLD_MS) == 0
    observe(meter, 10_000, counter(1_000), HOLD_MS)
    observe(meter, 20_000, counter(1_700), HOLD_MS)
    assert totals(records_of(meter)) == (20_000, 100_000, 700, 100_000, 10_000)


def test_a_reading_of_another_kind_begins_anew() -> None:
    """A counter's value is no level: the interval between them is unobserved."""
    meter = open_meter(1, 3, START_MS)
    observe(meter, START_MS + 1_000, counter(10), HOLD_MS)
    observe(meter, START_MS + 2_000, level(1_000_000), HOLD_MS)
    observe(meter, START_MS + 3_000, level(1_000_000), HOLD_MS)
    assert totals(records_of(meter)) == (3_000, 9_000, 1_000_000_010, 1_000_006_000, 2_000)


def test_forfeited_time_is_never_recorded() -> None:
    """What may have been recorded before a loss is measured but not recorded again."""
    meter = open_meter(1, 2, START_MS, emit_from_ms=START_MS + 30_000)
    observe(meter, START_MS + 10_000, counter(100_000), HOLD_MS)
    observe(meter, START_MS + 50_000, counter(500_000), HOLD_MS)
    records = records_of(meter)
    assert records[0].start_ms == START_MS + 30_000
    assert totals(records) == (20_000, 40_000, 200_000, 200_000, 20_000)


def test_time_forfeited_later_is_not_recorded_either() -> None:
    """Open sums and pending intervals from before the instant go; the rest stays to the unit."""
    meter = open_meter(1, 2, 0)
    observe(meter, 90_000, counter(90_000), HOLD_MS)
    observe(meter, 150_000, counter(150_000), HOLD_MS)
    observe(meter, 170_000, counter(170_000), HOLD_MS)
    forfeit(meter, 100_000)
    forfeit(meter, 50_000)  # was forfeited already
    observe(meter, 200_000, counter(200_000), HOLD_MS)
    records = records_of(meter)
    assert records[0].start_ms == 100_000
    assert totals(records) == (100_000, 200_000, 100_000, 200_000, 100_000)


def test_a_window_that_is_open_up_to_the_instant_is_forfeited() -> None:
    """It began before: to tell it would be to tell that again."""
    meter = open_meter(1, 2, 0)
    observe(meter, 10_000, counter(10_000), HOLD_MS)
    forfeit(meter, 10_000)
    observe(meter, 60_000, counter(70_000), HOLD_MS)
    records = records_of(meter)
    assert records[0].start_ms == 10_000
    assert totals(records) == (50_000, 100_000, 60_000, 100_000, 50_000)


def test_a_shift_moves_the_labels_and_no_quantity() -> None:
    """After a step of the clock the meter goes on in the new time, without a hole in it."""
    still, moved = open_meter(1, 2, START_MS), open_meter(1, 2, START_MS)
    records: list[list[UsageRecord]] = [[], []]
    for index, meter in enumerate((still, moved)):
        observe(meter, START_MS + 10_000, level(7), HOLD_MS)
        records[index] += records_of(meter)
    shift(moved, HOUR_MS)
    observe(still, START_MS + 90_000, level(9), HOLD_MS)
    observe(moved, START_MS + 90_000 + HOUR_MS, level(9), HOLD_MS)
    for index, meter in enumerate((still, moved)):
        records[index] += records_of(meter)
    assert totals(records[0]) == totals(records[1])
    assert records[1][1].start_ms == START_MS + 10_000 + HOUR_MS


def test_an_unread_meter_shifts_as_well() -> None:
    """Nothing but its start is known of it."""
    meter = open_meter(1, 2, START_MS)
    shift(meter, -HOUR_MS)
    settle(meter, START_MS - HOUR_MS + 5_000, HOLD_MS)
    assert records_of(meter)[0].start_ms == START_MS - HOUR_MS


# Properties ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """What happens `after_ms` after the step before."""

    after_ms: int
    what: str  # counter | level | settle | quota
    value: int
    cut: bool
    close: bool
    limit: int


LENGTHS = st.one_of(
    st.integers(min_value=0, max_value=30_000),
    st.integers(min_value=0, max_value=200_000),
    st.integers(min_value=0, max_value=20 * 60_000),
)
VALUES = st.one_of(
    st.integers(min_value=0, max_value=5), st.integers(min_value=0, max_value=1 << 40)
)


def steps(*kinds: str) -> st.SearchStrategy[list[Step]]:
    return st.lists(
        st.builds(
            Step,
            after_ms=LENGTHS,
            what=st.sampled_from(kinds),
            value=VALUES,
            cut=st.booleans(),
            close=st.booleans(),
            limit=st.integers(min_value=1, max_value=7),
        ),
        min_size=1,
        max_size=12,
    )


class Play:
    """Plays a timeline over a meter and its successors, cutting where it is told to."""

    def __init__(self, quota: int, start_ms: int) -> None:
        self.meters = [open_meter(1, quota, start_ms)]
        self.records: list[UsageRecord] = []
        self.now_ms = start_ms

    def step(self, step: Step, *, is_cut: bool) -> None:
        """Let one thing happen."""
        self.now_ms += step.after_ms
        meter = self.meters[-1]
        match step.what:
            case "counter":
                observe(meter, self.now_ms, counter(step.value), HOLD_MS)
            case "level":
                observe(meter, self.now_ms, level(step.value), HOLD_MS)
            case "settle":
                settle(meter, self.now_ms - HOLD_MS, HOLD_MS)
            case _:
                settle(meter, self.now_ms, HOLD_MS)
                self.meters.append(follow_meter(meter.number + 1, step.value, meter))
        if is_cut and step.cut:
            self.cut(step.limit, is_closed=step.close)

    def cut(self, limit: int, *, is_closed: bool) -> None:
        """Record what can be recorded, `limit` records per meter."""
        for meter in self.meters:
            cut(meter, self.records, limit=len(self.records) + limit, horizon_ms=FAR_MS)
            if is_closed and not meter.spans:
                close_window(meter, self.records)

    def end(self) -> list[UsageRecord]:
        """End the last meter now and record everything."""
        settle(self.meters[-1], self.now_ms, HOLD_MS)
        self.cut(1 << 40, is_closed=True)
        return self.records


def play(quota: int, timeline: list[Step], *, is_cut: bool, start_ms: int = START_MS) -> Play:
    game = Play(quota, start_ms)
    for step in timeline:
        game.step(step, is_cut=is_cut)
    game.end()
    return game


QUOTAS = st.integers(min_value=0, max_value=1 << 30)
ALL = ("counter", "level", "settle", "quota")


@given(QUOTAS, st.one_of(steps(*ALL), steps("counter", "settle", "quota"), steps("level", "quota")))
def test_cutting_anywhere_changes_no_total(quota: int, timeline: list[Step]) -> None:
    """Cut at every step, now and then in parts, or once at the end: the same totals per meter."""
    whole = play(quota, timeline, is_cut=False)
    parts = play(quota, timeline, is_cut=True)
    for meter in whole.meters:
        assert totals([record for record in whole.records if record.meter == meter.number]) == (
            totals([record for record in parts.records if record.meter == meter.number])
        )


@given(QUOTAS, steps(*ALL))
def test_every_record_is_one_that_can_be_billed(quota: int, timeline: list[Step]) -> None:
    """None negative, none across a minute, no more observed than lasted, effective the most."""
    for record in play(quota, timeline, is_cut=True).records:
        assert record.length_ms > 0
        assert record.start_ms // MINUTE_MS == (record.start_ms + record.length_ms - 1) // MINUTE_MS
        assert min(record.allocated, record.used, record.effective) >= 0
        assert 0 <= record.observed_ms <= record.length_ms
        assert record.effective >= max(record.allocated, record.used)


@given(QUOTAS, steps(*ALL))
def test_the_windows_tile_the_life_of_the_run(quota: int, timeline: list[Step]) -> None:
    """No hole, no overlap, over all quotas; and the allocation is quota x time of each."""
    game = play(quota, timeline, is_cut=True)
    at_ms = START_MS
    for record in sorted(game.records, key=lambda record: record.start_ms):
        assert record.start_ms == at_ms
        at_ms += record.length_ms
        assert record.allocated == game.meters[record.meter - 1].quota * record.length_ms
    assert at_ms == game.now_ms


@given(QUOTAS, steps("counter"))
def test_what_a_counter_says_is_used_to_the_last_unit(quota: int, timeline: list[Step]) -> None:
    """Used is the sum of rises (a fall begins at zero), over changes of quota after readings."""
    game = Play(quota, START_MS)
    expected, base, has_passed = 0, 0, False
    for step in timeline:
        game.step(step, is_cut=True)
        has_passed = has_passed or step.after_ms > 0
        if not has_passed:
            continue  # no window could hold it: the next reading brings it
        expected += step.value - base if step.value >= base else step.value
        base, has_passed = step.value, False
        if step.close:
            change = Step(0, "quota", step.limit, cut=False, close=False, limit=1)
            game.step(change, is_cut=False)
    assert totals(game.end())[2] == expected


GAINS = st.one_of(st.integers(0, 1000), st.integers(0, 1 << 44))


@given(QUOTAS, steps(*ALL), st.integers(0, 1 << 41), GAINS, st.booleans())
def test_what_a_final_counter_gains_is_used_whole_and_can_be_billed(
    quota: int,
    timeline: list[Step],
    value: int,
    gain: int,
    is_cut: bool,  # noqa: FBT001  drawn by hypothesis
) -> None:
    """Told or handed back, to the unit; nothing is paid for twice that was allocated anyway."""
    game = Play(quota, START_MS)
    for step in timeline:
        game.step(step, is_cut=True)
    meter = game.meters[-1]
    game.now_ms += 1
    observe(meter, game.now_ms, counter(value), HOLD_MS)
    game.now_ms += 70_000
    observe(meter, game.now_ms, counter(value), HOLD_MS)
    if is_cut:
        game.cut(1, is_closed=False)
    before, slack = (meter.used, meter.effective, [*meter.spans]), meter.slack
    left = finish(meter, game.now_ms, counter(value + gain), HOLD_MS)
    used = meter.used - before[0] + sum(span.used for span in meter.spans)
    effective = meter.effective - before[1] + sum(span.effective for span in meter.spans)
    told = gain - left
    if not is_cut:
        assert used - sum(span.used for span in before[2]) == told
        more = effective - sum(span.effective for span in before[2])
        assert more == (max(0, gain - slack) if told else 0)
    for record in game.end():
        assert record.effective >= max(record.allocated, record.used)


@given(
    QUOTAS,
    st.integers(min_value=0, max_value=1 << 30),
    st.lists(st.integers(min_value=1, max_value=HOLD_MS), min_size=1, max_size=30),
)
def test_a_constant_level_is_its_value_times_its_time(
    quota: int, value: int, lengths: list[int]
) -> None:
    """Read often enough, a constant level is exact to the unit and wholly observed."""
    meter = open_meter(1, quota, START_MS)
    now_ms = START_MS
    for length_ms in lengths:
        now_ms += length_ms
        observe(meter, now_ms, level(value), HOLD_MS)
    length_ms, _, used, effective, observed_ms = totals(records_of(meter))
    assert length_ms == observed_ms == now_ms - START_MS
    assert used == value * length_ms
    assert effective == max(value, quota) * length_ms


@given(QUOTAS, steps("counter", "settle"))
def test_effective_does_not_depend_on_when_a_silence_was_settled(
    quota: int, timeline: list[Step]
) -> None:
    """Settled or waited out: a final reading makes both effective totals max(allocated, used)."""
    speaking = [step for step in timeline if step.what == "counter"]
    total_ms = sum(step.after_ms for step in timeline) + 1
    used = max((step.value for step in speaking), default=0)
    meter = open_meter(1, quota, START_MS)
    now_ms = START_MS
    for step in timeline:
        now_ms += step.after_ms
        settle(meter, now_ms, HOLD_MS)
    observe(meter, START_MS + total_ms, counter(used), HOLD_MS)
    assert totals(records_of(meter))[3] == max(quota * total_ms, used)


@pytest.mark.parametrize("limit", [1, 2, 3, 59])
def test_a_long_interval_is_recorded_in_parts(limit: int) -> None:
    """A day in calls of a few records each: the same records as at once."""
    whole, parts = open_meter(1, 3, START_MS), open_meter(1, 3, START_MS)
    for meter in (whole, parts):
        observe(meter, START_MS + 24 * HOUR_MS, counter(987_654_321), HOLD_MS)
    gathered: list[UsageRecord] = []
    while parts.spans:
        portion: list[UsageRecord] = []
        cut(parts, portion, limit=limit, horizon_ms=FAR_MS)
        assert len(portion) <= limit
        gathered += portion
    close_window(parts, gathered)
    assert gathered == records_of(whole)


def test_the_horizon_holds_windows_back() -> None:
    """Windows beyond it wait, so that a batch never spans more than its offsets can hold."""
    meter = open_meter(1, 3, 0)
    settle(meter, 10 * MINUTE_MS, HOLD_MS)
    records: list[UsageRecord] = []
    cut(meter, records, limit=100, horizon_ms=4 * MINUTE_MS)
    assert [record.start_ms for record in records] == [0, 60_000, 120_000, 180_000]
    cut(meter, records, limit=100, horizon_ms=FAR_MS)
    assert len(records) == 10
