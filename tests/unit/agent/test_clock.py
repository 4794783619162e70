"""Agent time: durations are true whatever happens to the wall clock."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.clock import DEADBAND_MS, MAX_LEAD_MS, AgentClock, Anchor, SystemTime
from tests.unit.agent.fakes import FakeTime

HOUR_MS = 3_600_000
TEN_YEARS_MS = 10 * 365 * 24 * HOUR_MS


def test_agent_time_starts_at_the_wall_clock() -> None:
    """A fresh clock shows the wall clock's instant, in whole milliseconds."""
    time = FakeTime(wall=1_700_000_000_123_999_999)
    assert AgentClock(time).now_ms() == 1_700_000_000_123


@pytest.mark.parametrize("step", [HOUR_MS, -HOUR_MS, TEN_YEARS_MS, -TEN_YEARS_MS])
def test_a_step_changes_no_duration(step: int) -> None:
    """Until `follow`, agent time goes on as if the wall clock had not been set."""
    time = FakeTime()
    clock = AgentClock(time)
    began = clock.now_ms()
    time.pass_ms(400)
    time.step_ms(step)
    time.pass_ms(600)
    assert clock.now_ms() - began == 1_000


@pytest.mark.parametrize("step", [HOUR_MS, -HOUR_MS, TEN_YEARS_MS, -TEN_YEARS_MS, 250])
def test_following_a_step_moves_time_by_exactly_the_step(step: int) -> None:
    """`follow` says by how much it moved; afterwards agent time is the wall clock's."""
    time = FakeTime()
    clock = AgentClock(time)
    time.step_ms(step)
    before = clock.now_ms()
    assert clock.pending_step_ms() == step
    assert clock.follow() == step
    assert clock.now_ms() == before + step == time.wall // 1_000_000
    assert clock.follow() == 0


def test_a_small_step_back_is_not_followed_but_told() -> None:
    """A leap second cuts no bill item in two: the agent stays ahead by it."""
    time = FakeTime()
    clock = AgentClock(time)
    time.step_ms(-1_000)
    assert clock.follow() == 0
    assert clock.lead_ms() == 1_000
    time.step_ms(-MAX_LEAD_MS)
    assert clock.follow() == -1_000 - MAX_LEAD_MS
    assert clock.lead_ms() == 0


@pytest.mark.parametrize("jitter", [-DEADBAND_MS, -1, 1, DEADBAND_MS])
def test_jitter_is_no_step(jitter: int) -> None:
    """What two reads one after the other can differ by moves nothing."""
    time = FakeTime()
    clock = AgentClock(time)
    time.step_ms(jitter)
    assert clock.follow() == 0
    assert clock.lead_ms() == 0


def test_suspended_time_counts_and_is_known() -> None:
    """An hour of sleep is an hour of agent time, and `suspended_ms` says so."""
    time = FakeTime()
    clock = AgentClock(time)
    began = clock.now_ms()
    time.suspend_ms(HOUR_MS)
    assert clock.now_ms() - began == HOUR_MS
    assert clock.suspended_ms() == HOUR_MS
    assert clock.follow() == 0


def test_a_restart_in_the_same_boot_goes_on_in_the_same_time() -> None:
    """The clock may have been stepped while no agent ran: the duration is true."""
    time = FakeTime()
    first = AgentClock(time)
    began, anchor = first.now_ms(), first.anchor
    time.step_ms(HOUR_MS)
    time.pass_ms(90_000)
    second = AgentClock(time)
    assert second.resume(anchor)
    assert second.now_ms() - began == 90_000
    assert second.follow() == HOUR_MS


def test_after_a_reboot_the_wall_clock_is_all_there_is() -> None:
    """An anchor of another boot is refused and changes nothing."""
    time = FakeTime()
    anchor = AgentClock(time).anchor
    time.reboot("boot-2")
    clock = AgentClock(time)
    assert not clock.resume(anchor)
    assert clock.now_ms() == time.wall // 1_000_000


def test_clocks_read_apart_are_read_again() -> None:
    """The pair that was read most nearly at once decides; one preemption does not."""

    class Preempted(FakeTime):
        """The first reading of the wall clock comes late."""

        calls = 0

        def wall_ns(self) -> int:
            self.calls += 1
            if self.calls == 1:
                self.pass_ms(80)
                return self.wall - 80_000_000
            return self.wall

    time = Preempted()
    assert AgentClock(time).now_ms() == time.wall // 1_000_000


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["pass", "suspend", "step"]),
            st.integers(min_value=0, max_value=TEN_YEARS_MS),
            st.booleans(),
        ),
        max_size=20,
    )
)
def test_elapsed_time_is_the_sum_of_what_elapsed(moves: list[tuple[str, int, bool]]) -> None:
    """For any history: now - begin - what `follow` reported = the time that truly passed."""
    time = FakeTime(wall=50 * 365 * 24 * HOUR_MS * 1_000_000)
    clock = AgentClock(time)
    began, elapsed, shifted = clock.now_ms(), 0, 0
    for kind, amount, backward in moves:
        if kind == "step":
            time.step_ms(-amount if backward else amount)
            shifted += clock.follow()
        else:
            getattr(time, f"{kind}_ms")(amount)
            elapsed += amount
        assert clock.now_ms() - began - shifted == elapsed
        assert -DEADBAND_MS <= clock.lead_ms() <= MAX_LEAD_MS


def test_the_machine_has_these_clocks() -> None:
    """The real clocks agree with the fake's idea of them."""
    source = SystemTime()
    clock = AgentClock(source)
    assert clock.anchor.boot_id == source.boot_id
    assert len(source.boot_id) == 36
    assert abs(clock.lead_ms()) == 0
    assert clock.suspended_ms() >= 0
    assert not clock.resume(Anchor(boot_id="another", offset_ns=0))
