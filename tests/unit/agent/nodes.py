"""Helpers of the state's tests: runs, readings, and a node that is played tick by tick."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from agent.clock import Anchor
from agent.integrate import UsageRecord
from agent.model import (
    DeviceShare,
    MeterKey,
    Reading,
    ReadingKind,
    ResourceType,
    Run,
    RunKey,
)
from agent.state import Draft, Meters, Moment, NodeState, dump, load, take_draft
from proto.metering.v1 import metering_pb2 as pb

CPU, MEM, GPU = ResourceType.CPU, ResourceType.MEM, ResourceType.GPU
START_MS = 1_700_000_040_000  # a whole minute
HOLD_MS = 60_000
TEN_S = 10_000
ANCHOR = Anchor(boot_id="boot-1", offset_ns=7)


def job(
    name: str = "burn",
    *,
    cpu_m: int = 500,
    mem_kib: int = 1_024,
    devices: Iterable[DeviceShare] = (),
    started_at_ms: int = START_MS,
    ended_at_ms: int | None = None,
    cpu_usec: int | None = None,
    provider: str = "files",
    cgroup: str | None = "/nodemeter/burn",
) -> Run:
    """A run as the `files` provider describes it."""
    final = {} if cpu_usec is None else {CPU: counter(cpu_usec)}
    return Run(
        key=RunKey(f"{provider}:{name}"),
        provider=provider,
        job_id=name,
        job_name=name,
        username="alice",
        started_at_ms=started_at_ms,
        ended_at_ms=ended_at_ms,
        quotas={CPU: cpu_m, MEM: mem_kib},
        devices=tuple(devices),
        final=final,
        cgroup=cgroup,
    )


def gpu(device: str, model: str = "H200", share: int = 126_000) -> DeviceShare:
    return DeviceShare(type=GPU, id=device, model=model, share=share)


def counter(value: int) -> Reading:
    return Reading(kind=ReadingKind.COUNTER, value=value)


def level(value: int) -> Reading:
    return Reading(kind=ReadingKind.LEVEL, value=value)


def cpu_of(run: Run, value: int) -> Mapping[MeterKey, Reading]:
    return {MeterKey(run.key, CPU, None): counter(value)}


def mem_of(run: Run, value: int) -> Mapping[MeterKey, Reading]:
    return {MeterKey(run.key, MEM, None): level(value)}


@dataclass
class Told:
    """What the aggregator was told: records by meter, definitions and ends by number."""

    runs: dict[int, pb.Run] = field(default_factory=dict[int, pb.Run])
    meters: dict[int, pb.Meter] = field(default_factory=dict[int, pb.Meter])
    records: list[UsageRecord] = field(default_factory=list[UsageRecord])
    ends: dict[int, int] = field(default_factory=dict[int, int])
    batches: list[pb.Batch] = field(default_factory=list[pb.Batch])

    def hear(self, draft: Draft) -> None:
        """Take a draft the way the aggregator does: from its bytes alone."""
        batch = pb.Batch.FromString(draft.to_batch(len(self.batches) + 1))
        self.batches.append(batch)
        runs = {run.number: run for run in batch.runs}
        meters = {meter.number: meter for meter in batch.meters}
        assert {meter.run for meter in batch.meters} <= runs.keys()
        assert set(batch.records.meter) <= meters.keys()
        assert {end.run for end in batch.run_ends} <= runs.keys()
        for known, new in ((self.runs, runs), (self.meters, meters)):
            assert all(known.get(number, one) == one for number, one in new.items())
        self.runs |= runs
        self.meters |= meters
        self.ends |= {end.run: end.ended_at_ms for end in batch.run_ends}
        columns = batch.records
        for row in zip(
            columns.meter,
            columns.start_ms,
            columns.length_ms,
            columns.allocated,
            columns.used,
            columns.effective,
            columns.observed_ms,
            strict=True,
        ):
            meter, start_ms, *rest = row
            self.records.append(UsageRecord(meter, columns.base_ms + start_ms, *rest))

    def of(self, type_: ResourceType, job_name: str | None = None) -> list[UsageRecord]:
        """Records of one type, and of one job if it is named."""
        numbers = {
            meter.number
            for meter in self.meters.values()
            if meter.type == type_ and job_name in {None, self.runs[meter.run].job_name}
        }
        records = [record for record in self.records if record.meter in numbers]
        return sorted(records, key=lambda record: record.start_ms)

    def items(self, type_: ResourceType) -> list[tuple[int, int]]:
        """(quota of the item, allocated) of each meter of a type, in the order of starts."""
        meters = [meter for meter in self.meters.values() if meter.type == type_]
        return [
            (
                meter.group_quota,
                sum(record.allocated for record in self.records if record.meter == meter.number),
            )
            for meter in sorted(meters, key=lambda meter: (meter.started_at_ms, meter.number))
        ]


def total(records: Sequence[UsageRecord], column: str) -> int:
    """Sum one column."""
    return sum(getattr(record, column) for record in records)


def fresh_state() -> NodeState:
    return NodeState(Meters(hold_ms=HOLD_MS, cpu_model="EPYC"))


@dataclass
class Node:
    """A state, the instant, and what was told of it so far."""

    state: NodeState = field(default_factory=fresh_state)
    now_ms: int = START_MS
    told: Told = field(default_factory=Told)

    def tick(
        self,
        *runs: Run,
        after_ms: int = TEN_S,
        readings: Mapping[MeterKey, Reading] | None = None,
        blind_ms: int = 0,
        provider: str | None = "files",
        lead_ms: int = 0,
    ) -> list[RunKey]:
        """One whole tick; `provider` None = it did not answer."""
        self.now_ms += after_ms
        readings = readings or {}
        moment = Moment(now_ms=self.now_ms, latest_ms=self.now_ms + 5, lead_ms=lead_ms)
        known = self.state.reconcile(provider, runs, moment) if provider else []
        self.state.observe(self.now_ms, readings, blind_ms)
        self.state.conclude(self.now_ms, readings, blind_ms)
        self.state.settle(self.now_ms)
        self.tell()
        return known

    def tell(self, *, flush: bool = False) -> int:
        """Tell everything that can be told; returns the number of drafts."""
        drafts = 0
        while draft := take_draft(self.state, flush=flush):
            self.told.hear(draft)
            drafts += 1
        return drafts

    def restart(self) -> None:
        """Be killed, and go on from the checkpoint."""
        data = dump(self.state, ANCHOR, 0)
        self.state = load(data, hold_ms=HOLD_MS, cpu_model="EPYC").state
