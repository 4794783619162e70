"""The schedule: absolute deadlines that do not drift, events soon but not too often."""

from hypothesis import given
from hypothesis import strategies as st

from agent.daemon.schedule import GATHER_MS, SPACING_MS, Look, Schedule

NOW_MS = 1_700_000_000_000
INTERVAL_MS = 10_000


def started(node: str = "n1") -> tuple[Schedule, int]:
    """A schedule after its first look, and its next deadline."""
    schedule = Schedule(node, INTERVAL_MS, NOW_MS)
    assert schedule.due(NOW_MS) is Look.FULL
    schedule.looked(Look.FULL, NOW_MS)
    return schedule, NOW_MS + schedule.wait_ms(NOW_MS)


def test_deadlines_lie_at_the_nodes_own_phase() -> None:
    """The same at every start, another for another node, spread over the interval."""
    phases = {started(f"node{number}")[1] % INTERVAL_MS for number in range(200)}
    assert started("a")[1] == started("a")[1]
    assert len(phases) > 150
    assert min(phases) < 500
    assert max(phases) > 9_500


def test_deadlines_do_not_drift() -> None:
    """However long a look takes, the next deadline is a whole number of intervals later."""
    schedule, first_ms = started()
    now_ms = first_ms
    for look_ms in (3, 900, 9_999, 0):
        assert schedule.due(now_ms) is Look.FULL
        schedule.looked(Look.FULL, now_ms + look_ms)
        now_ms += INTERVAL_MS
        assert schedule.wait_ms(now_ms) == 0
    assert schedule.skipped == 0


def test_missed_deadlines_are_skipped_and_counted() -> None:
    """After a stall of 35 s: one look, not four."""
    schedule, first_ms = started()
    schedule.looked(Look.FULL, first_ms + 35_000)
    assert schedule.due(first_ms + 35_000) is None
    assert schedule.wait_ms(first_ms + 35_000) == 5_000
    assert schedule.skipped == 3


def test_an_event_is_looked_at_soon_and_only_for_changes() -> None:
    """Within 50 ms, so that what belongs together is seen together."""
    schedule, first_ms = started()
    now_ms = min(first_ms - 1_000, NOW_MS + 5_000)
    schedule.note_event(now_ms)
    schedule.note_event(now_ms + 10)
    assert schedule.due(now_ms + GATHER_MS - 1) is None
    assert schedule.wait_ms(now_ms) == GATHER_MS
    assert schedule.due(now_ms + GATHER_MS) is Look.EVENT
    schedule.looked(Look.EVENT, now_ms + GATHER_MS)
    assert schedule.due(now_ms + GATHER_MS) is None
    assert now_ms + GATHER_MS + schedule.wait_ms(now_ms + GATHER_MS) == first_ms


def test_events_are_looked_at_once_a_second_at_most() -> None:
    """A storm of short jobs costs one look a second."""
    schedule, _ = started()
    schedule.note_event(NOW_MS + 1)
    assert schedule.wait_ms(NOW_MS + 1) == SPACING_MS - 1


def test_a_deadline_passed_during_a_look_is_due_at_once() -> None:
    """A look at an event does not push the full one away."""
    schedule, first_ms = started()
    schedule.looked(Look.EVENT, first_ms + 100)
    assert schedule.due(first_ms + 100) is Look.FULL
    assert schedule.skipped == 0


def test_a_clock_stepped_back_leaves_no_long_wait() -> None:
    """The next deadline is at most an interval away, in the new time."""
    schedule, first_ms = started()
    schedule.looked(Look.FULL, first_ms - 3_600_000)
    assert schedule.wait_ms(first_ms - 3_600_000) == INTERVAL_MS


@given(st.lists(st.tuples(st.sampled_from(list(Look)), st.integers(-(10**9), 10**9)), max_size=30))
def test_whatever_happens_something_is_due_within_an_interval(
    moves: list[tuple[Look, int]],
) -> None:
    """No history of looks and steps of the clock stops the metering."""
    schedule, now_ms = started()
    for look, step_ms in moves:
        now_ms += step_ms
        schedule.looked(look, now_ms)
        assert schedule.wait_ms(now_ms) <= INTERVAL_MS
        schedule.note_event(now_ms)
        assert schedule.wait_ms(now_ms) <= INTERVAL_MS
