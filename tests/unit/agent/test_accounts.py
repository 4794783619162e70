"""Nothing that the node has vanishes from the books."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from agent.accounts import NodeAccounts
from agent.model import DEVICE_UNITS, Device, DeviceShare
from tests.unit.agent.ledger import CPU_M, DEVICES, PlayedNode, Sums, sums
from tests.unit.agent.nodes import CPU, GPU, HOLD_MS, MEM, START_MS, gpu, job

WHOLE, QUARTER = (0, 1, 1), (0, 1, 4)
MINUTE = 60_000


def balance(accounts: Mapping[str, int]) -> int:
    """What is missing: 0 for books that add up."""
    given_out = sum(accounts.get(name, 0) for name in ("jobs", "idle", "unattributed", "down"))
    return accounts.get("capacity", 0) - given_out + accounts.get("excess", 0)


def check(played: PlayedNode) -> Sums:
    """Whatever happened: every device and resource adds up in every minute."""
    played.stop()
    records = played.node.told.records
    assert all(min(record[2:]) >= 0 for record in records)
    by_minute = sums(records, played.node)
    assert {
        key: balance(accounts) for key, accounts in by_minute.items() if balance(accounts)
    } == {}
    whole = sums(records, played.node, by_minute=False)
    for device in DEVICES:
        assert whole[device, 0]["capacity"] == DEVICE_UNITS * played.passed_ms
    return whole


JOBS = st.sampled_from(["a", "b", "c", "d"])
PARTS = st.sampled_from([WHOLE, QUARTER, (1, 2, 4), (0, 1, 3), (0, 1, 7)])
HELD = st.sampled_from([(), ("GPU-a",), ("GPU-b",), DEVICES])
EVENTS: st.SearchStrategy[tuple[str, tuple[Any, ...]]] = st.one_of(
    st.tuples(st.just("tick"), st.tuples(st.integers(1, 95_000))),
    st.tuples(st.just("begin"), st.tuples(JOBS, HELD, PARTS, st.integers(0, 400_000))),
    st.tuples(st.just("finish"), st.tuples(JOBS, st.integers(0, 9_000))),
    st.tuples(st.just("resize"), st.tuples(JOBS, PARTS)),
    st.tuples(st.just("drive"), st.tuples(st.sampled_from(DEVICES), st.booleans())),
    st.tuples(st.just("restart"), st.just(())),
    st.tuples(st.just("step"), st.tuples(st.integers(-3_600_000, 3_600_000))),
    st.tuples(st.just("reboot"), st.tuples(st.integers(0, 300_000))),
)
Events = Sequence[tuple[str, tuple[Any, ...]]]


@settings(max_examples=150, deadline=None)
@given(st.lists(EVENTS, max_size=40))
def test_the_books_add_up_whatever_happens(events: Events) -> None:
    """Starts, stops, quota changes, samples, restarts, steps, failures, in any order."""
    note(f"{events}")
    played = PlayedNode()
    for name, arguments in events:
        getattr(played, name)(*arguments)
    check(played)


@settings(max_examples=40, deadline=None)
@given(st.lists(EVENTS, max_size=25), st.data())
def test_cutting_anywhere_changes_no_total(events: Events, data: st.DataObject) -> None:
    """Windows closed early and agents restarted in between tell the same in the end."""
    plain, cut = PlayedNode(), PlayedNode()
    for name, arguments in events:
        getattr(plain, name)(*arguments)
        getattr(cut, name)(*arguments)
        if data.draw(st.booleans()):
            cut.node.tell(flush=True)
        if data.draw(st.booleans()):
            cut.restart()
    assert _totals(check(plain)) == _totals(check(cut))


def _totals(whole: Sums) -> Mapping[tuple[str, int], Mapping[str, int]]:
    """What must not depend on cuts: all of the devices, and of cpu and memory the jobs'.

    Which minute a job's CPU time is told in decides what is idle there and what excess.
    """
    return {
        key: accounts
        if key[0] in DEVICES
        else {name: accounts[name] for name in ("jobs", "capacity") if name in accounts}
        for key, accounts in whole.items()
    }


def minutes(played: PlayedNode, count: int) -> None:
    """Let whole minutes pass, a look every ten seconds."""
    for _ in range(6 * count):
        played.tick(10_000)


def test_a_held_but_idle_device_is_billed_and_its_rest_is_idle() -> None:
    """Half an hour of a quarter: a quarter is the job's, three quarters are idle."""
    played = PlayedNode()
    played.begin("a", ("GPU-a",), QUARTER, 0)
    minutes(played, 30)
    whole = check(played)
    held = DEVICE_UNITS // 4 * played.passed_ms
    assert whole["GPU-a", 0] == {
        "jobs": held, "capacity": 4 * held, "idle": 3 * held,
    }  # fmt: skip
    assert whole["GPU-b", 0]["idle"] == DEVICE_UNITS * played.passed_ms


def test_four_quarters_are_one_device_and_five_are_not_more() -> None:
    """What is claimed beyond a device is cut, the same for all."""
    played = PlayedNode()
    for name in ("a", "b", "c", "d"):
        played.begin(name, ("GPU-a",), QUARTER, 0)
    minutes(played, 5)
    played.begin("e", ("GPU-a",), QUARTER, 0)
    minutes(played, 5)
    whole = check(played)
    unheard = DEVICE_UNITS // 5 * 10_000  # nobody knew of the fifth in its first ten seconds
    assert whole["GPU-a", 0] == {
        "jobs": DEVICE_UNITS * played.passed_ms + unheard,
        "capacity": DEVICE_UNITS * played.passed_ms,
        "excess": unheard,
    }


def test_a_lost_device_stays_allocated_and_its_rest_is_down() -> None:
    """A driver's death bills its holder on, and makes nobody's time idle."""
    played = PlayedNode()
    played.begin("a", ("GPU-a",), WHOLE, 0)
    minutes(played, 5)
    played.up = dict.fromkeys(DEVICES, False)
    minutes(played, 5)
    whole = check(played)
    assert whole["GPU-a", 0].keys() == {"jobs", "capacity"}
    assert whole["GPU-b", 0]["down"] == DEVICE_UNITS * 300_000


def test_a_machine_that_was_off_was_down() -> None:
    """Ten minutes of it, for all that it has."""
    played = PlayedNode()
    minutes(played, 5)
    played.reboot(600_000)
    minutes(played, 5)
    whole = check(played)
    assert whole["cpu", 0]["down"] == CPU_M * 600_000
    assert whole["GPU-a", 0]["down"] == DEVICE_UNITS * 600_000


@pytest.mark.parametrize(("late_ms", "excess_ms"), [(110_000, 0), (400_000, 280_000)])
def test_a_start_that_was_heard_of_late_is_no_idle_time(late_ms: int, excess_ms: int) -> None:
    """Within two minutes nothing is told yet; what was told idle before is set right."""
    played = PlayedNode()
    minutes(played, 10)
    played.begin("a", ("GPU-a",), WHOLE, late_ms)
    minutes(played, 5)
    whole = check(played)
    assert whole["GPU-a", 0]["jobs"] == DEVICE_UNITS * (late_ms + 310_000)
    assert whole["GPU-a", 0].get("excess", 0) == DEVICE_UNITS * excess_ms


def test_what_no_job_used_is_unattributed() -> None:
    """The node's counter is the jobs' and the rest, to the microsecond."""
    played = PlayedNode()
    played.begin("a", (), WHOLE, 0)
    minutes(played, 10)
    job = played.jobs["a"]
    whole = check(played)
    system_us = 7 * played.passed_ms
    assert whole["cpu", 0]["unattributed"] == system_us
    assert whole["cpu", 0]["jobs"] == job.cpu_us


def test_a_device_that_is_listed_late_knows_who_holds_it() -> None:
    """A driver that takes its time to answer makes no idle time of what is held."""
    accounts = NodeAccounts(position_ms=START_MS, seen_ms=START_MS)
    accounts.hold("GPU-a", 1, DEVICE_UNITS, START_MS)
    accounts.set_devices([Device(type=GPU, id="GPU-a", model="H200")], START_MS + MINUTE)
    accounts.settle(START_MS + 10 * MINUTE, HOLD_MS)
    assert {amount.account for amount in accounts.amounts} == {"capacity"}


def test_a_device_that_was_given_back_before_it_is_listed_is_idle() -> None:
    """Who held it while the driver had not answered yet holds it no longer."""
    accounts = NodeAccounts(position_ms=START_MS, seen_ms=START_MS)
    accounts.hold("GPU-a", 1, DEVICE_UNITS, START_MS)
    accounts.release("GPU-a", 1, START_MS + 1_000)
    accounts.set_devices([Device(type=GPU, id="GPU-a", model="H200")], START_MS + MINUTE)
    accounts.settle(START_MS + 10 * MINUTE, HOLD_MS)
    idle = sum(amount.value for amount in accounts.amounts if amount.account == "idle")
    assert idle == sum(amount.value for amount in accounts.amounts) - idle > 0


def test_a_restart_before_a_device_is_listed_forgets_nobody_who_holds_it() -> None:
    """An agent that is killed while the driver has not answered makes no idle time of it."""
    node = PlayedNode().node
    node.tick(job(devices=[gpu("GPU-new")]))
    node.restart()
    accounts = node.state.meters.accounts
    assert accounts is not None
    listed = [Device(type=GPU, id=name, model="H200") for name in (*DEVICES, "GPU-new")]
    accounts.set_devices(listed, node.now_ms)
    (holding,) = accounts.devices["GPU-new"].holdings.values()
    assert (holding.units, holding.start_ms, holding.end_ms) == (DEVICE_UNITS, START_MS, None)


@pytest.mark.parametrize("into_minute_ms", [0, 10_000])
def test_what_is_forfeited_is_in_no_account_and_the_books_begin_there(into_minute_ms: int) -> None:
    """It may be told already, as another node's: nothing is told twice, and nothing missing."""
    played = PlayedNode()
    played.begin("a", ("GPU-a",), QUARTER, 0)
    minutes(played, 5)
    played.tick(into_minute_ms)
    floor_ms = played.node.now_ms
    played.node.state.forfeit(floor_ms)
    told = len(played.node.told.records)
    minutes(played, 5)
    played.stop()
    later = played.node.told.records[told:]
    assert min(record.start_ms for record in later) == floor_ms
    books = sums(later, played.node)
    assert {key: balance(accounts) for key, accounts in books.items() if balance(accounts)} == {}
    whole = sums(later, played.node, by_minute=False)["GPU-a", 0]
    lived_ms = played.node.now_ms - floor_ms
    assert whole["capacity"] == DEVICE_UNITS * lived_ms
    assert whole["jobs"] == DEVICE_UNITS // 4 * lived_ms


def test_an_account_is_told_under_one_number() -> None:
    """The wire knows a meter of the node by one definition, however often it is told."""
    played = PlayedNode()
    minutes(played, 10)
    told = played.node.told
    capacity = [m for m in told.meters.values() if told.runs[m.run].kind == "capacity"]
    assert sorted((m.type, m.device) for m in capacity) == [
        (CPU, ""), (GPU, "GPU-a"), (GPU, "GPU-b"), (MEM, ""),
    ]  # fmt: skip


def test_a_slice_is_told_with_the_device_that_it_is_cut_from() -> None:
    """Also after a restart: what it holds is taken from the whole device's idle time."""
    node = PlayedNode().node
    share = DeviceShare(type=GPU, id="MIG-a1", model="H200 MIG", share=18_000, physical="GPU-a")
    node.tick(job(devices=[share]))
    node.restart()
    node.state.redefine()
    node.tell()
    (meter,) = [meter for meter in node.told.meters.values() if meter.device == "MIG-a1"]
    assert meter.physical == "GPU-a"
    accounts = node.state.meters.accounts
    assert accounts is not None
    assert [one.units for one in accounts.devices["GPU-a"].holdings.values()] == [18_000]
