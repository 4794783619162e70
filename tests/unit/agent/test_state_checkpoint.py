"""Checkpoints: a killed agent goes on as if it had not been killed; any history adds up."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.integrate import MINUTE_MS, UsageRecord
from agent.model import MeterKey, Reading, Run
from agent.state import dump, load
from agent.table import CheckpointError, Row
from tests.unit.agent.nodes import (
    ANCHOR,
    CPU,
    GPU,
    HOLD_MS,
    MEM,
    START_MS,
    Node,
    counter,
    cpu_of,
    gpu,
    job,
    level,
    mem_of,
)

NAMES = ("a", "b", "c")


def loaded(data: bytes) -> Node:
    return Node(state=load(data, hold_ms=HOLD_MS, cpu_model="EPYC").state)


def busy_node() -> Node:
    """Something of everything: open windows, pending spans, closing meters, ended runs."""
    node, run = Node(), job(devices=[gpu("g0")])
    node.tick(run, readings={**cpu_of(run, 3_000_000), **mem_of(run, 900)})
    changed = job(cpu_m=700, devices=[gpu("g0"), gpu("g1")])
    node.tick(changed, job("gone"), job("kept", ended_at_ms=node.now_ms + 1))
    node.tick(changed, job("kept", ended_at_ms=node.now_ms))
    node.now_ms += 3 * MINUTE_MS
    node.state.observe(node.now_ms, cpu_of(run, 4_000_000))
    node.state.retire_others([])
    node.state.conclude(node.now_ms, {})
    return node


def test_a_checkpoint_holds_everything() -> None:
    """Loading and dumping again gives the same bytes, whatever the state."""
    data = dump(busy_node().state, ANCHOR, 42)
    checkpoint = load(data, hold_ms=HOLD_MS, cpu_model="EPYC")
    assert checkpoint.anchor == ANCHOR
    assert checkpoint.suspended_ms == 42
    assert dump(checkpoint.state, ANCHOR, 42) == data


def test_a_field_from_the_future_is_passed_over() -> None:
    """An agent that is rolled back reads what its successor wrote."""
    document = json.loads(dump(busy_node().state, ANCHOR, 0))
    document["weather"] = "fine"
    document["runs"]["mood"] = ["good"] * len(document["runs"]["key"])
    same = loaded(dump(busy_node().state, ANCHOR, 0))
    node = loaded(json.dumps(document).encode())
    for one in (node, same):
        one.tell(flush=True)
    assert node.told.batches == same.told.batches


def test_a_checkpoint_of_another_version_is_refused_with_advice() -> None:
    """Starting from nothing instead would bill everything twice."""
    document = json.loads(dump(Node().state, ANCHOR, 0))
    document["version"] = 2
    with pytest.raises(CheckpointError, match=r"version 2, known is 1\): install that one again"):
        loaded(json.dumps(document).encode())


def test_what_a_checkpoint_lacks_is_named() -> None:
    """A missing or mistyped field is an error with its name, never a silent zero."""
    row = Row({"number": "seven", "text": 7, "table": [], "list": {"a": 1}})
    with pytest.raises(CheckpointError, match="number is no number: 'seven'"):
        row.integer("number")
    with pytest.raises(CheckpointError, match="text is no text: 7"):
        row.text("text")
    with pytest.raises(CheckpointError, match="table is no table"):
        list(row.rows("table"))
    with pytest.raises(ValueError, match="shorter"):
        list(Row({"table": {"a": [1, 2], "b": [1], "c": 3}}).rows("table"))
    assert row.integers("list") == []
    assert (row.integer_or_none("absent"), row.text_or_none("absent")) == (None, None)
    assert row.integer("absent", 5) == 5


# Any history -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Tick:
    """One tick of a random history; tuples run parallel to `NAMES`."""

    after_ms: int
    is_listed: tuple[bool, ...]
    cpu_m: tuple[int, ...]
    device: tuple[int, ...]  # which of two devices, 2 = none
    is_read: tuple[bool, ...]
    cpu_used: tuple[int, ...]
    has_answer: bool
    is_flushed: bool
    has_restart: bool


def each(strategy: st.SearchStrategy[int]) -> st.SearchStrategy[tuple[int, ...]]:
    return st.tuples(*[strategy] * len(NAMES))


FLAGS = st.tuples(*[st.booleans()] * len(NAMES))
TICKS = st.lists(
    st.builds(
        Tick,
        after_ms=st.one_of(st.integers(1, 15_000), st.integers(1, 300_000)),
        is_listed=FLAGS,
        cpu_m=each(st.sampled_from([0, 500, 700])),
        device=each(st.integers(0, 2)),
        is_read=FLAGS,
        cpu_used=each(st.integers(0, 10_000_000)),
        has_answer=st.sampled_from([True, True, True, False]),
        is_flushed=st.booleans(),
        has_restart=st.booleans(),
    ),
    min_size=1,
    max_size=15,
)


class History:
    """Plays ticks on a node, and remembers which runs held what, in truth."""

    def __init__(self) -> None:
        self.node = Node()
        self.counters = dict.fromkeys(NAMES, 0)
        self.incarnation = dict.fromkeys(NAMES, 0)
        self.live: dict[str, Run] = {}
        self.started: dict[str, int] = {}

    def play(self, ticks: Sequence[Tick], *, with_restarts: bool) -> Node:
        """Play everything and end all runs."""
        for tick in ticks:
            self.tick(tick)
            if with_restarts and tick.has_restart:
                self.node.restart()
        self.node.tick()
        self.node.tell(flush=True)
        return self.node

    def tick(self, tick: Tick) -> None:
        """One tick; a device is held by one run at a time, as a scheduler has it."""
        at_ms = self.node.now_ms + tick.after_ms
        taken: set[int] = set()
        for index, name in enumerate(NAMES):
            if not tick.has_answer:
                continue
            if not tick.is_listed[index]:
                if self.live.pop(name, None):
                    self.incarnation[name] += 1
                continue
            held = tick.device[index]
            devices = [] if held == 2 or held in taken else [gpu(f"g{held}")]
            taken.add(held)
            full = f"{name}#{self.incarnation[name]}"
            started = self.started.setdefault(full, at_ms)
            self.live[name] = job(
                full, cpu_m=tick.cpu_m[index], devices=devices, started_at_ms=started
            )
        readings: dict[MeterKey, Reading] = {}
        for index, name in enumerate(NAMES):
            self.counters[name] += tick.cpu_used[index]
            if name in self.live and tick.is_read[index]:
                run = self.live[name]
                readings[MeterKey(run.key, CPU, None)] = counter(self.counters[name])
                readings[MeterKey(run.key, MEM, None)] = level(tick.cpu_used[index] % 5_000)
        provider = "files" if tick.has_answer else None
        after_ms = tick.after_ms
        self.node.tick(*self.live.values(), after_ms=after_ms, readings=readings, provider=provider)
        if tick.is_flushed:
            self.node.tell(flush=True)


def by_item(node: Node) -> dict[tuple[str, str, str, int], tuple[int, ...]]:
    """Sums of all columns per (run, type, device, start of the meter)."""
    sums: dict[tuple[str, str, str, int], tuple[int, ...]] = {}
    for record in node.told.records:
        meter = node.told.meters[record.meter]
        key = (node.told.runs[meter.run].key, meter.type, meter.device, meter.started_at_ms)
        columns = (record.length_ms, *record[3:])
        sums[key] = tuple(map(sum, zip(sums.get(key, (0,) * 5), columns, strict=True)))
    return sums


@given(TICKS)
def test_restarts_change_nothing(ticks: list[Tick]) -> None:
    """Killed after any ticks or never: the same batches to the byte."""
    whole = History().play(ticks, with_restarts=False)
    killed = History().play(ticks, with_restarts=True)
    assert killed.told.batches == whole.told.batches


@given(TICKS)
def test_flushing_changes_no_total(ticks: list[Tick]) -> None:
    """Closing windows early, anywhere, moves nothing between items."""
    whole = History().play([replace(tick, is_flushed=False) for tick in ticks], with_restarts=False)
    flushed = History().play(ticks, with_restarts=False)
    assert by_item(flushed) == by_item(whole)


@given(TICKS)
def test_no_device_is_billed_twice_in_any_minute(ticks: list[Tick]) -> None:
    """The sum over all runs never exceeds one device; no window crosses a minute."""
    node = History().play(ticks, with_restarts=True)
    per_minute: dict[tuple[str, int], int] = defaultdict(int)
    for record in node.told.of(GPU):
        device = node.told.meters[record.meter].device
        per_minute[device, record.start_ms // MINUTE_MS] += record.allocated
    assert all(value <= 126_000 * MINUTE_MS for value in per_minute.values())
    assert all(is_billable(record) for record in node.told.records)


def is_billable(record: UsageRecord) -> bool:
    end_ms = record.start_ms + record.length_ms - 1
    return (
        record.length_ms > 0
        and record.start_ms // MINUTE_MS == end_ms // MINUTE_MS
        and min(record.allocated, record.used, record.effective, record.observed_ms) >= 0
        and record.observed_ms <= record.length_ms
        and record.effective >= max(record.allocated, record.used)
    )


@given(TICKS)
def test_every_run_is_billed_from_its_start_to_its_end(ticks: list[Tick]) -> None:
    """Per run and type the windows tile its life, over all quotas, and it ends once."""
    history = History()
    node = history.play(ticks, with_restarts=True)
    assert len(node.told.ends) == len(node.told.runs)
    for number, run in node.told.runs.items():
        for type_ in (CPU, MEM):
            meters = {
                meter.number
                for meter in node.told.meters.values()
                if meter.run == number and meter.type == type_
            }
            at_ms = run.started_at_ms
            windows = [record for record in node.told.records if record.meter in meters]
            for record in sorted(windows, key=lambda record: record.start_ms):
                assert record.start_ms == at_ms
                at_ms += record.length_ms
            assert at_ms == node.told.ends[number] >= START_MS
