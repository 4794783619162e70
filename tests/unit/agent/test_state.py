"""The state: starts, ends and quotas are exact, nothing is told twice, nothing is lost."""

from dataclasses import replace

import pytest

from agent.model import MeterKey, Reading, ReadingKind, RunKey
from agent.state import EndedRun, Moment, draft, take_draft
from agent.state.finished import REMEMBERED_MS, REMEMBERED_RUNS
from tests.unit.agent.nodes import (
    CPU,
    GPU,
    MEM,
    START_MS,
    TEN_S,
    Node,
    counter,
    cpu_of,
    gpu,
    job,
    mem_of,
    total,
)

HOUR_MS = 3_600_000


def moment_of(now_ms: int) -> Moment:
    return Moment(now_ms=now_ms, latest_ms=now_ms)


# Starts ----------------------------------------------------------------------------------


def test_a_run_is_told_as_soon_as_it_is_known() -> None:
    """The first batch defines run and meters and holds no record: the item appears at once."""
    node = Node()
    node.tick(job(devices=[gpu("a"), gpu("b")]), after_ms=200)
    (batch,) = node.told.batches
    assert not batch.records.meter
    (run,) = batch.runs
    assert (run.key, run.job_id, run.username, run.vc) == ("files:burn", "burn", "alice", "default")
    assert not run.HasField("user_id")
    meters = {(meter.type, meter.device): meter for meter in batch.meters}
    assert (meters["cpu", ""].quota, meters["cpu", ""].model) == (500, "EPYC")
    assert not meters["mem", ""].HasField("model")
    assert not meters["mem", ""].HasField("device")
    assert (meters["gpu", "b"].quota, meters["gpu", "b"].group_quota) == (126_000, 252_000)
    assert {meter.started_at_ms for meter in batch.meters} == {START_MS}


def test_nothing_new_is_nothing_to_tell() -> None:
    """Between the minutes there is no draft: an idle node and a quiet one write nothing."""
    node = Node()
    node.tick()
    assert take_draft(node.state) is None
    node.tick(job())
    for _ in range(3):
        node.tick(job())
    assert len(node.told.batches) == 1


def test_whole_minutes_are_told_when_the_reading_after_them_came() -> None:
    """The minute ends at 60 s, is known at 67 s, and holds exactly its part."""
    node, run = Node(), job()
    for second in range(7, 70, 10):
        after_ms = 7_000 if second == 7 else TEN_S
        node.tick(run, after_ms=after_ms, readings=cpu_of(run, 250_000 * second))
    (record,) = node.told.of(CPU)
    assert (record.start_ms, record.length_ms) == (START_MS, 60_000)
    assert (record.allocated, record.used) == (500 * 60_000, 250 * 60_000)


def test_a_start_in_the_future_is_now() -> None:
    """Nothing begins later than the answer that names it."""
    node = Node()
    node.tick(job(started_at_ms=START_MS + HOUR_MS))
    assert node.told.meters[2].started_at_ms == START_MS + TEN_S + 5


def test_a_run_that_began_long_ago_is_billed_from_its_start() -> None:
    """The agent was not there; the job was."""
    node, run = Node(), job(started_at_ms=START_MS - 24 * HOUR_MS)
    node.tick(run, after_ms=0, readings=cpu_of(run, 7_000_000))
    assert total(node.told.of(CPU), "allocated") == 500 * 24 * HOUR_MS
    assert total(node.told.of(CPU), "used") == 7_000_000


# Ends ------------------------------------------------------------------------------------


def test_a_job_between_two_ticks_is_exact() -> None:
    """Seen only when it was over: its time and its CPU time are those of fork and wait."""
    node = Node()
    run = job(started_at_ms=START_MS + 1_000, ended_at_ms=START_MS + 4_000, cpu_usec=2_900_000)
    node.tick(run)
    (record,) = node.told.of(CPU)
    assert (record.start_ms, record.length_ms) == (START_MS + 1_000, 3_000)
    assert (record.used, record.observed_ms) == (2_900_000, 3_000)
    (memory,) = node.told.of(MEM)
    assert (memory.used, memory.observed_ms) == (0, 0)
    assert node.told.ends == {1: START_MS + 4_000}
    assert not node.state.live


def test_an_end_is_told_at_once_with_everything_before_it() -> None:
    """The last, partial window and the end are in the same batch."""
    node, run = Node(), job()
    node.tick(run, readings=cpu_of(run, 5_000_000))
    node.tick(job(ended_at_ms=START_MS + 15_500, cpu_usec=7_700_000))
    assert len(node.told.batches) == 2
    (record,) = node.told.of(CPU)
    assert (record.length_ms, record.used) == (15_500, 7_700_000)


def test_a_smaller_final_counter_is_no_reset() -> None:
    """`wait` saw less than the cgroup: the run used what was read, not both."""
    node, run = Node(), job()
    node.tick(run, readings=cpu_of(run, 5_000_000))
    node.tick(job(ended_at_ms=START_MS + 15_000, cpu_usec=4_900_000))
    assert total(node.told.of(CPU), "used") == 5_000_000


def test_a_cgroup_made_anew_counts_from_zero() -> None:
    """What the first one counted stays, what the second one counts is added."""
    node, run = Node(), job()
    node.tick(run, readings=cpu_of(run, 5_000_000))
    node.tick(run, readings=cpu_of(run, 300_000))
    node.tick(job(ended_at_ms=node.now_ms, cpu_usec=0))
    assert total(node.told.of(CPU), "used") == 5_300_000


@pytest.mark.parametrize("quota_after", [500, 700])
def test_a_process_tree_of_which_less_is_seen_is_billed_once(quota_after: int) -> None:
    """After a restart the dead processes are missing from its sum; at its end they are in."""
    node, run = Node(), job(cgroup=None)
    node.tick(run, readings=cpu_of(run, 5_000_000))
    node.restart()
    again = job(cgroup=None, cpu_m=quota_after)
    node.tick(again, readings=cpu_of(run, 1_000_000))
    node.tick(again, readings=cpu_of(run, 2_000_000))
    node.tick(job(cgroup=None, cpu_m=quota_after, ended_at_ms=node.now_ms + 5, cpu_usec=7_000_000))
    assert total(node.told.of(CPU), "used") == 7_000_000


def test_without_a_final_counter_one_read_after_the_end_counts() -> None:
    """The cgroup is still there: its counter does not move any more."""
    node, run = Node(), job()
    node.tick(run, readings=cpu_of(run, 5_000_000))
    over = job(ended_at_ms=START_MS + 12_000)
    readings = {**cpu_of(run, 6_000_000), **mem_of(run, 1)}  # the memory is free by now
    node.tick(over, readings=readings)
    assert total(node.told.of(CPU), "used") == 6_000_000
    assert total(node.told.of(CPU), "observed_ms") == 12_000
    assert total(node.told.of(MEM), "observed_ms") == 0


def test_a_mean_up_to_the_end_counts() -> None:
    """So that a job that is shorter than the interval is told what it used of its GPU."""
    node, run = Node(), job(started_at_ms=START_MS + 1_000, devices=[gpu("a")])
    over = replace(run, ended_at_ms=START_MS + 4_000)
    mean = Reading(kind=ReadingKind.AVERAGE, value=42_000)
    node.tick(over, readings={MeterKey(run.key, GPU, "a"): mean})
    (record,) = node.told.of(GPU)
    assert (record.length_ms, record.observed_ms) == (3_000, 3_000)
    assert record.used == 42_000 * 3_000


def test_ended_and_changed_runs_are_to_be_read_once_more() -> None:
    """`affected` names whose readings matter in this very tick."""
    node, run = Node(), job()
    node.tick(run, job("other"))
    before = node.state.affected()
    node.state.reconcile(
        "files",
        [job(ended_at_ms=START_MS + 11_000), job("other", cpu_m=7)],
        moment_of(node.now_ms + 1_000),
    )
    assert before == []
    assert {run.job_id for run in node.state.affected()} == {"burn", "other"}
    assert {run.job_id for run in node.state.all_runs()} == {"burn", "other"}


def test_a_run_that_vanishes_ended_when_it_was_last_seen() -> None:
    """A complete answer without it: nothing after the last answer with it is billed."""
    node, run = Node(), job()
    node.tick(run)
    node.tick(run)
    node.tick()
    assert node.told.ends == {1: START_MS + 20_000}
    assert total(node.told.of(CPU), "length_ms") == 20_000


def test_a_provider_that_does_not_answer_ends_nothing() -> None:
    """Its runs stay; their time is billed when they are known to have lived."""
    node, run = Node(), job()
    node.tick(run, readings=cpu_of(run, 1_000_000))
    for _ in range(30):
        node.tick(provider=None)
    assert node.told.ends == {}
    assert total(node.told.of(CPU), "length_ms") == 0
    node.tick(run, readings=cpu_of(run, 2_000_000))
    node.tell(flush=True)
    assert total(node.told.of(CPU), "length_ms") == 320_000


def test_readings_prove_life_where_the_provider_is_silent() -> None:
    """A cgroup that can be read is alive; should the run vanish, that was its end."""
    node, run = Node(), job()
    node.tick(run)
    node.tick(provider=None, readings=cpu_of(run, 1_000_000))
    node.state.note_alive([run.key, RunKey("unknown")], node.now_ms)
    node.tick()
    assert node.told.ends == {1: START_MS + 20_000}


def test_one_providers_silence_says_nothing_of_anothers_runs() -> None:
    """Each provider ends its own runs only."""
    node = Node()
    node.tick(job())
    node.tick(job("pod", provider="kubernetes"), provider="kubernetes")
    assert {live.provider for live in node.state.live.values()} == {"files", "kubernetes"}
    node.tick()
    assert {live.provider for live in node.state.live.values()} == {"kubernetes"}


def test_runs_of_a_provider_that_is_not_configured_any_more_end() -> None:
    """Nobody could ever end them otherwise."""
    node = Node()
    node.tick(job())
    node.state.retire_others(["files"])
    node.tick(job())
    assert node.told.ends == {}
    node.state.retire_others(["slurm"])
    node.tick(provider=None)
    assert node.told.ends == {1: START_MS + 20_000}


def test_an_end_that_stays_named_is_taken_once() -> None:
    """A file that cannot be deleted bills its run once; the caller learns that it is settled."""
    node = Node()
    over = job(ended_at_ms=START_MS + 4_000)
    assert node.tick(over) == []
    assert node.tick(over) == [over.key]
    node.restart()
    assert node.tick(over) == [over.key]
    assert len(node.told.ends) == 1
    assert node.tick() == []
    node.tick(after_ms=REMEMBERED_MS)
    assert not node.state.finished


@pytest.mark.parametrize("is_restarted", [False, True])
@pytest.mark.parametrize("is_forgotten_between", [False, True])
def test_a_later_word_on_the_end_adds_what_is_missing(
    *, is_restarted: bool, is_forgotten_between: bool
) -> None:
    """Death was seen at 25.1 s, the epilog says 28.95 s: two items, whole time, whole CPU."""
    node, run = Node(), job(cpu_m=1000, devices=[gpu("a")])
    node.tick(run, after_ms=25_100, readings=cpu_of(run, 7_880_000))
    seen = replace(run, ended_at_ms=START_MS + 25_100)
    node.tick(seen)
    if is_forgotten_between:
        node.tick()
    if is_restarted:
        node.restart()
    late = replace(run, ended_at_ms=START_MS + 28_950, final={CPU: counter(10_000_000)})
    assert node.tick(late) == []
    assert node.tick(late) == [run.key]
    assert node.tick(seen) == [run.key]
    assert node.told.items(CPU) == [(1000, 25_100_000), (1000, 3_850_000)]
    assert total(node.told.of(CPU), "used") == 10_000_000
    assert total(node.told.of(CPU), "effective") == 28_950_000
    assert total(node.told.of(MEM), "length_ms") == total(node.told.of(GPU), "length_ms") == 28_950
    assert len({run.key for run in node.told.runs.values()}) == 2


def test_a_later_word_on_the_cpu_time_alone_takes_no_time() -> None:
    """What had been allocated anyway is not paid again; the rest is, in the last instant."""
    node, run = Node(), job(cpu_m=100, devices=[gpu("a")])
    node.tick(run, after_ms=10_000, readings=cpu_of(run, 900_000))
    node.tick(replace(run, ended_at_ms=START_MS + 15_000), after_ms=10_000)
    within = replace(run, ended_at_ms=START_MS + 15_000, final={CPU: counter(1_400_000)})
    assert node.tick(within) == [run.key]
    more = replace(within, final={CPU: counter(1_500_000)})
    assert node.tick(more) == []
    assert node.tick(more) == [run.key]
    records = node.told.of(CPU)
    assert total(records, "allocated") == 1_500_000
    assert total(records, "effective") == 1_600_000  # 1.0 s to 10 s, 0.6 s after
    assert total(node.told.of(GPU), "allocated") == 126_000 * 15_000
    assert total(node.told.of(MEM), "length_ms") == 15_000


def test_a_later_word_on_an_end_that_is_forgotten_adds_time_only() -> None:
    """The provider knows until when it was metered; of the CPU time nobody knows any more."""
    node, run = Node(), job()
    late = replace(
        run,
        metered_until_ms=START_MS + 4_000,
        ended_at_ms=START_MS + 9_000,
        final={CPU: counter(1_000_000)},
    )
    assert node.tick(late) == []
    assert node.tick(late) == [run.key]
    assert node.told.items(CPU) == [(500, 500 * 5_000)]
    assert total(node.told.of(CPU), "used") == 0
    assert total(node.told.of(CPU), "observed_ms") == 0


def test_a_final_counter_is_told_whole_where_the_end_is_the_last_reading() -> None:
    """Its processes were last seen when they were last read."""
    node, run = Node(), job(cpu_m=1000)
    node.tick(run, readings=cpu_of(run, 6_140_000))
    node.tick(job(cpu_m=1000, ended_at_ms=START_MS + TEN_S, cpu_usec=10_010_000))
    assert total(node.told.of(CPU), "used") == 10_010_000
    assert total(node.told.of(CPU), "effective") == 10_010_000


def test_a_final_counter_is_told_where_everything_was_recorded() -> None:
    """The window of the last reading is gone; a meter of no quota has the rest."""
    node, run = Node(), job(cpu_m=1000)
    node.tick(run, readings=cpu_of(run, 6_140_000))
    node.tell(flush=True)
    node.tick(job(cpu_m=1000, ended_at_ms=START_MS + TEN_S, cpu_usec=10_010_000))
    assert total(node.told.of(CPU), "used") == 10_010_000
    assert total(node.told.of(CPU), "allocated") == 10_000_000


def test_the_same_job_twice_is_two_runs() -> None:
    """Another start is another key: both are billed for their own time."""
    node = Node()
    first = job("again", ended_at_ms=START_MS + 5_000)
    second = job("again#2", started_at_ms=START_MS + 7_000, ended_at_ms=START_MS + 9_000)
    node.tick(first)
    node.tick(second)
    assert [record.length_ms for record in node.told.of(CPU)] == [5_000, 2_000]


def test_a_run_that_comes_back_goes_on_where_it_ended() -> None:
    """A provider's slip: the gap is billed (it lived), nothing twice, CPU to the unit."""
    node, run = Node(), job()
    node.tick(run, readings=cpu_of(run, 1_000_000))
    node.tick()
    node.tick(run, readings=cpu_of(run, 3_000_000))
    node.tick(job(ended_at_ms=START_MS + 40_000, cpu_usec=4_000_000))
    records = node.told.of(CPU)
    assert [(record.start_ms - START_MS, record.length_ms) for record in records] == [
        (0, 10_000),
        (10_000, 30_000),
    ]
    assert total(records, "used") == 4_000_000
    assert {run.key for run in node.told.runs.values()} == {
        "files:burn",
        f"files:burn~{START_MS + 10_000}",
    }


def test_a_run_that_comes_back_after_a_step_goes_on_in_the_new_time() -> None:
    """Where it ended moves with the clock, like everything that is kept."""
    node, run = Node(), job()
    node.tick(run)
    node.tick()
    node.state.shift(HOUR_MS)
    node.now_ms += HOUR_MS
    node.tick(run)
    node.tick(job(ended_at_ms=node.now_ms + 1_000))
    assert total(node.told.of(CPU), "length_ms") == 31_000


def test_a_vanished_run_is_remembered_for_a_while_only() -> None:
    """Its memory is bounded, in time and in number."""
    node = Node()
    node.tick(job())
    node.tick()
    assert node.state.finished.keys() == {"files:burn"}
    node.tick(after_ms=REMEMBERED_MS + 1)
    assert not node.state.finished
    many = [job(f"job{number}") for number in range(REMEMBERED_RUNS + 10)]
    node.tick(*many)
    node.tick()
    node.tick()
    assert len(node.state.finished) == REMEMBERED_RUNS


# Quotas ----------------------------------------------------------------------------------


def test_each_quota_is_an_item_of_its_own() -> None:
    """3, 6 and 3 again are three items; their allocations add up to the run's."""
    node = Node()
    for quota in (3, 6, 3):
        run = job(cpu_m=quota)
        node.tick(run, readings=cpu_of(run, node.now_ms - START_MS + TEN_S))
        node.tick(run)
    node.tick(job(cpu_m=3, ended_at_ms=START_MS + 60_000, cpu_usec=60_000))
    assert node.told.items(CPU) == [(3, 3 * 30_000), (6, 6 * 20_000), (3, 3 * 10_000)]
    assert total(node.told.of(CPU), "used") == 60_000
    assert node.told.items(MEM) == [(1_024, 1_024 * 60_000)]


def test_a_changed_device_closes_the_meters_of_its_model() -> None:
    """Group of two, then of one: both old meters end; the other model goes on."""
    node = Node()
    node.tick(job(devices=[gpu("a"), gpu("b"), gpu("x", "L4")]))
    node.tick(job(devices=[gpu("a"), gpu("x", "L4")]))
    node.tick(job(devices=[gpu("a"), gpu("x", "L4")], ended_at_ms=START_MS + 30_000))
    whole, one = 252_000, 126_000
    assert node.told.items(GPU) == [
        (whole, 126_000 * 20_000),
        (whole, 126_000 * 20_000),
        (one, 126_000 * 30_000),
        (one, 126_000 * 10_000),
    ]


def test_two_shares_of_one_device_are_one_meter() -> None:
    """Replicas of the same device add up."""
    node = Node()
    node.tick(job(devices=[gpu("a", share=18_000), gpu("a", share=36_000)]))
    assert [meter.quota for meter in node.told.meters.values() if meter.type == "gpu"] == [54_000]


def test_a_quota_that_changes_before_the_run_began_changes_it_from_its_start() -> None:
    """A start a moment ahead of the tick leaves no window before it."""
    node = Node()
    node.tick(job(started_at_ms=START_MS + TEN_S + 4))
    node.tick(job(cpu_m=9, started_at_ms=START_MS + TEN_S + 4), after_ms=1)
    node.tick(job(cpu_m=9, started_at_ms=START_MS + TEN_S + 4, ended_at_ms=START_MS + 20_000))
    assert total(node.told.of(CPU), "allocated") == 9 * (TEN_S - 4)


def test_a_quota_that_changes_with_the_end_does_not_matter() -> None:
    """What the run held until then is what it is billed for."""
    node = Node()
    node.tick(job())
    node.tick(job(cpu_m=9_000, ended_at_ms=START_MS + 12_000))
    assert node.told.items(CPU) == [(500, 500 * 12_000)]


# Clock, reboot, loss ---------------------------------------------------------------------


@pytest.mark.parametrize("step", [HOUR_MS, -HOUR_MS])
def test_a_step_of_the_clock_changes_no_total(step: int) -> None:
    """`exec` counts from the fork, in the old time: the run has its true length and usage."""
    node, run = Node(), job()
    node.tick(run, readings=cpu_of(run, 1_000_000))
    node.tell(flush=True)
    node.state.shift(step)
    node.now_ms += step
    node.tick(run, readings=cpu_of(run, 2_000_000))
    node.tick(job(ended_at_ms=START_MS + 25_000, cpu_usec=2_500_000))
    records = node.told.of(CPU)
    assert total(records, "length_ms") == 25_000
    assert total(records, "used") == 2_500_000
    spans = {
        number: [(r.start_ms, r.start_ms + r.length_ms) for r in records if r.meter == number]
        for number in {record.meter for record in records}
    }
    assert len(spans) == (1 if step > 0 else 2), "backward another meter, or windows overlap"


def test_an_end_by_the_wall_clock_is_understood_after_a_step() -> None:
    """A scheduler stamps the end in the new time: that fits what is known, and is meant."""
    node = Node()
    node.tick(job())
    node.tell(flush=True)
    node.state.shift(-HOUR_MS)
    node.now_ms -= HOUR_MS
    node.tick(job())
    node.tick(job(ended_at_ms=START_MS + 24_000 - HOUR_MS))
    assert total(node.told.of(CPU), "length_ms") == 24_000


@pytest.mark.parametrize(
    ("ended_ms", "billed_ms"), [(-HOUR_MS, 20_000), (12_000, 20_000), (HOUR_MS, 30_005)]
)
def test_an_end_is_put_where_it_can_be(ended_ms: int, billed_ms: int) -> None:
    """Not before what was read of the run, not after now."""
    node, run = Node(), job()
    node.tick(run)
    node.tick(run, readings={**cpu_of(run, 1), **mem_of(run, 1)})
    node.tick(job(ended_at_ms=START_MS + ended_ms))
    assert total(node.told.of(CPU), "length_ms") == billed_ms
    assert total(node.told.of(MEM), "length_ms") == billed_ms


@pytest.mark.parametrize("over_ms", [1, 95, 2_000])
@pytest.mark.parametrize("cpu_usec", [0, 1_000_000, 40_000_000])
def test_an_end_just_before_the_last_look_is_exact(over_ms: int, cpu_usec: int) -> None:
    """Its file was being written while we looked: nothing after the end is billed."""
    node, run = Node(), job()
    node.tick(run, readings={**cpu_of(run, 0), **mem_of(run, 100)})
    node.tick(run, readings={**cpu_of(run, cpu_usec), **mem_of(run, 100)})
    lived_ms = 20_000 - over_ms
    node.tick(job(ended_at_ms=START_MS + lived_ms, cpu_usec=cpu_usec + 9))
    (cpu,), (mem,) = node.told.of(CPU), node.told.of(MEM)
    assert (cpu.length_ms, cpu.allocated, cpu.used) == (lived_ms, 500 * lived_ms, cpu_usec + 9)
    assert cpu.observed_ms == mem.observed_ms == lived_ms
    assert (mem.used, mem.effective) == (100 * lived_ms, 1_024 * lived_ms)
    assert cpu.effective >= max(cpu.allocated, cpu.used)
    assert cpu.effective == cpu.allocated or cpu_usec > 500 * lived_ms
    assert node.told.ends == {1: START_MS + lived_ms}


def test_a_run_that_ends_as_the_machine_wakes_was_not_observed_asleep() -> None:
    """Its last counter bridges the sleep like any other."""
    node, run = Node(), job()
    node.tick(run, readings=cpu_of(run, 7))
    ended = job(ended_at_ms=START_MS + 620_000, cpu_usec=8)
    node.tick(ended, after_ms=611_000, blind_ms=600_000)
    assert total(node.told.of(CPU), "allocated") == 500 * 620_000
    assert total(node.told.of(CPU), "observed_ms") == 20_000


@pytest.mark.parametrize("rest_ms", [0, 30_000])
def test_time_asleep_is_unobserved_where_the_end_is_told_after_the_death(rest_ms: int) -> None:
    """As it wakes the run seems to have ended when it was last seen; then its end is told."""
    node, run = Node(), job()
    node.tick(run, readings=cpu_of(run, 5_000_000))
    node.tick(after_ms=600_000 + rest_ms, blind_ms=600_000)
    ended_at_ms = START_MS + 10_000 + 600_000 + rest_ms + 100
    node.tick(job(ended_at_ms=ended_at_ms, cpu_usec=5_000_000), after_ms=500)
    records = node.told.of(CPU)
    assert total(records, "length_ms") == ended_at_ms - START_MS
    assert total(records, "observed_ms") == 10_000 + rest_ms + 100


def test_time_asleep_is_unobserved_where_a_run_comes_back_after_it() -> None:
    """It was not named as the machine woke, and lives."""
    node, run = Node(), job()
    node.tick(run, readings=cpu_of(run, 5_000_000))
    node.tick(after_ms=601_000, blind_ms=600_000)
    node.tick(run, after_ms=1_000)
    node.tick(run, after_ms=1_000, readings=cpu_of(run, 5_000_000))
    node.tick(job(ended_at_ms=START_MS + 614_000), after_ms=1_000, readings=cpu_of(run, 5_000_000))
    records = node.told.of(CPU)
    assert total(records, "length_ms") == 614_000
    assert total(records, "observed_ms") == 14_000


def test_an_end_just_before_what_is_recorded_is_put_there() -> None:
    """What is in a frame is not taken back."""
    node, run = Node(), job()
    node.tick(run, readings=cpu_of(run, 7))
    node.tell(flush=True)
    node.tick(job(ended_at_ms=START_MS + 9_000, cpu_usec=7))
    assert total(node.told.of(CPU), "length_ms") == 10_000
    assert node.told.ends == {1: START_MS + 10_000}


def test_an_end_that_is_learned_of_late_is_exact_where_nothing_was_read() -> None:
    """An epilog names the end minutes after it; an answer that it lives is no reading."""
    node = Node()
    for _ in range(5):
        node.tick(job())
    node.tick(job(ended_at_ms=START_MS + 12_000))
    assert total(node.told.of(CPU), "length_ms") == 12_000
    assert node.told.ends == {1: START_MS + 12_000}


def test_a_run_that_began_while_agent_time_was_ahead_is_moved_as_a_whole() -> None:
    """A small step back is not followed: provider's instants are moved by the lead."""
    node = Node()
    run = job(started_at_ms=START_MS + 5_000)
    node.tick(run, lead_ms=2_000)
    node.tick(job(started_at_ms=START_MS + 5_000, ended_at_ms=START_MS + 12_000), lead_ms=2_000)
    (record,) = node.told.of(CPU)
    assert (record.start_ms, record.length_ms) == (START_MS + 7_000, 7_000)


def test_after_a_reboot_a_run_that_lives_is_a_new_one() -> None:
    """It ended with the machine; the time in between is nobody's, counters begin at zero."""
    node, run = Node(), job()
    node.tick(run, readings=cpu_of(run, 9_000_000))
    node.restart()
    node.state.reboot()
    node.tick(run, after_ms=HOUR_MS, readings=cpu_of(run, 0))
    node.tick(run, readings=cpu_of(run, 2_000_000))
    node.tick(job(ended_at_ms=node.now_ms + TEN_S))
    records = node.told.of(CPU)
    assert total(records, "length_ms") == 30_000
    assert total(records, "used") == 11_000_000
    assert len(node.told.ends) == 2


def test_after_a_reboot_a_run_that_ended_before_it_is_exact() -> None:
    """Its file says when."""
    node = Node()
    node.tick(job())
    node.restart()
    node.state.reboot()
    node.tick(job(ended_at_ms=START_MS + 13_000, cpu_usec=99), after_ms=HOUR_MS)
    assert total(node.told.of(CPU), "length_ms") == 13_000


def test_after_a_reboot_a_run_that_nobody_names_ended_when_last_seen() -> None:
    """No time without proof."""
    node = Node()
    node.tick(job())
    node.restart()
    node.state.reboot()
    node.tick(after_ms=HOUR_MS)
    assert total(node.told.of(CPU), "length_ms") == 10_000


def test_forfeited_time_is_told_of_no_run() -> None:
    """Neither of runs that were known, nor of those that are found again."""
    node, known, found = Node(), job("known"), job("found")
    node.tick(known, readings=cpu_of(known, 10_000))
    node.state.forfeit(START_MS + 15_000)
    node.tick(known, found, readings={**cpu_of(known, 20_000), **cpu_of(found, 20_000)})
    node.tell(flush=True)
    records = node.told.of(CPU)
    assert [record.start_ms for record in records] == [START_MS + 15_000] * 2
    assert total(records, "used") == 5_000 + 5_000
    assert node.told.meters[records[1].meter].started_at_ms == START_MS + 15_000


# Drafts ----------------------------------------------------------------------------------


def test_a_long_absence_is_told_in_many_drafts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is bounded, self-contained and followed by a checkpoint that goes on from it."""
    monkeypatch.setattr(draft, "MAX_RECORDS", 7)
    monkeypatch.setattr(draft, "MAX_FRESH", 3)
    node = Node()
    runs = [job(f"job{number}") for number in range(5)]
    node.tick(*runs)
    node.restart()
    node.now_ms += 30 * 60_000
    node.state.reconcile("files", runs, moment_of(node.now_ms))
    for run in runs:
        node.state.observe(node.now_ms, cpu_of(run, 1_000_000))
    node.state.settle(node.now_ms)
    while one := take_draft(node.state):
        node.told.hear(one)
        node.restart()
    assert max(len(batch.records.meter) for batch in node.told.batches) == 7
    assert max(len(batch.meters) for batch in node.told.batches) <= 7 + 3
    assert total(node.told.of(CPU), "used") == 5 * 60_000 * 30 * 1_000_000 // (30 * 60_000 + TEN_S)


def test_no_frame_is_larger_than_what_every_aggregator_takes() -> None:
    """A thousand jobs with the longest of names, all told at once, and all ended at once."""
    node = Node()
    long = "\N{SNOWMAN}" * 256
    runs = [
        replace(
            job(f"{number:04}{long}"[:256]), job_name=long, vc=long, project=long, namespace=long
        )
        for number in range(1_000)
    ]
    node.tick(*runs)
    node.now_ms += 120_000
    node.tick(*runs, readings={key: one for run in runs for key, one in cpu_of(run, 9).items()})
    node.tick()
    assert len(node.told.runs) == len(node.told.ends) == 1_000
    assert total(node.told.of(CPU), "used") == 1_000 * 9
    sizes = [batch.ByteSize() for batch in node.told.batches]
    assert max(sizes) < 3 << 20


def test_many_ends_are_told_in_many_drafts(monkeypatch: pytest.MonkeyPatch) -> None:
    """None is left out."""
    monkeypatch.setattr(draft, "MAX_FRESH", 3)
    node = Node()
    node.tick(*[job(f"job{number}", ended_at_ms=START_MS + 1_000) for number in range(10)])
    assert len(node.told.ends) == 10
    assert max(len(batch.run_ends) for batch in node.told.batches) == 3


def test_a_batch_spans_no_more_than_its_offsets_can_hold() -> None:
    """A run of 60 days ago and one of now are told in batches of their own."""
    node = Node()
    old = job("old", started_at_ms=START_MS - 60 * 24 * HOUR_MS)
    node.tick(old, job("new", started_at_ms=START_MS - 60_000), after_ms=5_000)
    node.tick(job("old", started_at_ms=old.started_at_ms, ended_at_ms=START_MS + 9_000))
    node.tell(flush=True)
    assert total(node.told.of(CPU, "old"), "length_ms") == 60 * 24 * HOUR_MS + 9_000
    assert total(node.told.of(CPU, "new"), "length_ms") == 65_000
    for batch in node.told.batches:
        if batch.records.meter:
            assert max(batch.records.start_ms) < 1 << 32


def test_flushing_tells_everything_up_to_the_last_reading() -> None:
    """What an orderly end leaves for the next start is nothing."""
    node, run = Node(), job()
    node.tick(run, readings=cpu_of(run, 5_000_000))
    assert node.tell(flush=True) == 1
    assert node.tell(flush=True) == 0
    (record,) = node.told.of(CPU)
    assert (record.length_ms, record.used) == (10_000, 5_000_000)
    node.restart()
    node.tick(job(ended_at_ms=START_MS + 20_000, cpu_usec=6_000_000))
    assert total(node.told.of(CPU), "length_ms") == 20_000
    assert total(node.told.of(CPU), "used") == 6_000_000


def test_a_draft_says_which_runs_are_settled() -> None:
    """Key and provider, so that the provider can delete what announced them."""
    node, run = Node(), job()
    node.tick(run)
    node.state.reconcile("files", [job(ended_at_ms=node.now_ms)], moment_of(node.now_ms))
    node.state.conclude(node.now_ms, {})
    one = take_draft(node.state)
    assert one is not None
    (ended,) = one.ended
    assert isinstance(ended, EndedRun)
    assert (ended.key, ended.provider) == (run.key, "files")


def test_a_counter_of_an_unknown_run_says_nothing() -> None:
    """Readings of runs that are not metered are passed over."""
    node = Node()
    node.state.observe(node.now_ms, cpu_of(job(), 5))
    assert node.tell() == 0
