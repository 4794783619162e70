"""The ledger: whatever happens on a device, its use is told once and to its holders alone."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.model import DEVICE_UNITS, DeviceShare, ResourceType, Run, RunKey
from agent.samplers.nvidia.ledger import Ledger, Split
from agent.samplers.nvidia.timeline import Span

GPU = "GPU-0"
AHEAD_MS = 1_700_000_000_000  # agent time is ahead of the ledger's by so much


def run_of(key: str, start_ms: int, end_ms: int | None, share: int) -> Run:
    return Run(
        key=RunKey(key),
        provider="files",
        job_id=key,
        job_name=key,
        started_at_ms=AHEAD_MS + start_ms,
        ended_at_ms=None if end_ms is None else AHEAD_MS + end_ms,
        quotas={},
        devices=(DeviceShare(type=ResourceType.GPU, id=GPU, model="m", share=share),),
    )


LIVES = st.lists(
    st.tuples(st.integers(0, 60_000), st.integers(1, 40_000), st.integers(1, 4)),
    min_size=1,
    max_size=5,
)


@settings(max_examples=200)
@given(
    lives=LIVES,
    levels=st.lists(st.integers(0, DEVICE_UNITS), min_size=10, max_size=10),
    weights=st.lists(st.integers(0, 100), min_size=5, max_size=5),
    partial=st.lists(st.integers(0, 9), max_size=3),
)
def test_the_parts_are_never_more_than_the_whole(
    lives: list[tuple[int, int, int]], levels: list[int], weights: list[int], partial: list[int]
) -> None:
    """For any starts and ends: sum of use <= what the device did; each one's <= its share.

    What was told is the mean of the time whose use is known.
    """
    ledger = Ledger(10_000)
    told = 0
    for at, level in enumerate(levels):
        now_ms = (at + 1) * 10_000
        runs = {
            n: run_of(
                str(n),
                start_ms,
                start_ms + length_ms if start_ms + length_ms <= now_ms else None,
                DEVICE_UNITS // part,
            )
            for n, (start_ms, length_ms, part) in enumerate(lives)
            if start_ms <= now_ms
        }
        named = list(runs.values())[: 1 if at in partial else None]
        ledger.name(named, now_ms, AHEAD_MS + now_ms)
        ledger.measure(GPU, [Span(now_ms - 10_000, now_ms, level * 10_000, 10_000)])
        shared = ledger.shared(now_ms)
        parts = {run.key: weights[n] for n, run in runs.items()}
        splits = {device: Split(parts, sum(parts.values())) for device in shared}
        ledger.attribute(now_ms, splits)
        for n, run in runs.items():
            stake = ledger._stakes.get(GPU, {}).get(run.key)
            before_ms = stake.read_ms if stake else 0
            for value in ledger.read(run, now_ms).values():
                assert stake
                assert 0 <= value <= DEVICE_UNITS // lives[n][2]
                told += value * stake.used.between(before_ms, now_ms).covered_ms
    assert told <= sum(levels) * 10_000


def test_what_is_not_split_is_nobodys() -> None:
    """Unknown; and it is not told later either."""
    ledger = Ledger(10_000)
    runs = [run_of(key, 0, None, DEVICE_UNITS) for key in "ab"]
    ledger.name(runs, 0, AHEAD_MS)
    ledger.measure(GPU, [Span(0, 10_000, 10_000, 10_000)])
    ledger.attribute(10_000, {})
    assert [ledger.read(run, 10_000) for run in runs] == [{}, {}]


def test_one_that_came_while_it_was_split_is_unknown() -> None:
    """Its processes were not looked for."""
    ledger = Ledger(10_000)
    runs = [run_of(key, 0, None, DEVICE_UNITS) for key in "abc"]
    ledger.name(runs, 0, AHEAD_MS)
    ledger.measure(GPU, [Span(0, 10_000, 100_000, 10_000)])
    parts = {run.key: 1 for run in runs[:2]}
    ledger.attribute(10_000, {GPU: Split(parts, 2)})
    assert [ledger.read(run, 10_000) for run in runs] == [{GPU: 5}, {GPU: 5}, {}]


def test_an_old_answer_is_no_reading() -> None:
    """Older than an interval and a half: what happens since is not known."""
    ledger = Ledger(10_000)
    run = run_of("a", 0, None, DEVICE_UNITS)
    ledger.name([run], 0, AHEAD_MS)
    ledger.measure(GPU, [Span(0, 10_000, 10_000, 10_000)])
    ledger.attribute(10_000, {})
    assert ledger.read(run, 25_001) == {}
    assert ledger.read(run, 25_000) == {GPU: 1}


def test_a_device_that_is_given_up_is_held_no_more() -> None:
    """A run that changes its devices holds each from when to when."""
    ledger = Ledger(10_000)
    run = run_of("a", 0, None, DEVICE_UNITS)
    ledger.name([run], 0, AHEAD_MS)
    other = DeviceShare(type=ResourceType.GPU, id="GPU-1", model="m")
    moved = replace(run, devices=(other,))
    ledger.name([moved], 4_000, AHEAD_MS + 4_000)
    late = run_of("b", 4_000, None, DEVICE_UNITS)
    ledger.name([moved, late], 10_000, AHEAD_MS + 10_000)
    ledger.measure(GPU, [Span(0, 4_000, 0, 4_000), Span(4_000, 10_000, 600_000, 6_000)])
    assert ledger.shared(10_000) == {}
    ledger.attribute(10_000, {})
    assert ledger.read(late, 10_000) == {GPU: 100}


def test_one_that_is_named_late_gets_what_it_used_alone() -> None:
    """Before and after it shared the device, not only where it never did."""
    ledger = Ledger(10_000)
    first = run_of("a", 4_000, 6_000, DEVICE_UNITS)
    ledger.name([first], 6_000, AHEAD_MS + 6_000)
    ledger.measure(GPU, [Span(0, 10_000, 10_000 * 700, 10_000)])
    ledger.attribute(10_000, {})
    late = run_of("b", 1_000, None, DEVICE_UNITS)
    ledger.name([first, late], 12_000, AHEAD_MS + 12_000)
    alone = ledger._stakes[GPU][late.key].used
    assert [alone.between(start, end) for start, end in ((0, 4_000), (4_000, 6_000))] == [
        (3_000 * 700, 3_000),
        (0, 0),
    ]
    assert alone.between(6_000, 10_000) == (4_000 * 700, 4_000)
