"""Takes out of the state what one frame will tell the aggregator.

A draft holds whole windows, ended runs and new definitions, of a bounded number: an
agent that was down for a week tells it in many frames, each consistent with the
checkpoint that is taken after it.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from agent.accounts.node import Told
from agent.integrate import UsageRecord, close_window, cut
from agent.model import RunKey
from agent.state.node import NodeState
from agent.state.runs import LiveMeter, LiveRun
from proto.metering.v1 import metering_pb2 as pb

MAX_RECORDS = 10_000
MAX_FRESH = 5_000
MAX_DEFINITION_BYTES = 768 << 10
"""Each for what is new, for what is recorded and for what has ended: with the records less
than the 4 MiB that every aggregator takes in one message."""
_HORIZON_MS = (1 << 32) - 60_000
"""Offsets of 32 bits reach so far from a batch's base."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedRun:
    """A run whose last record is in this draft or in one before it."""

    key: RunKey
    provider: str
    definition: pb.Run
    ended_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """Records and ends, with a definition for every run and meter that they name."""

    runs: Sequence[pb.Run]
    meters: Sequence[pb.Meter]
    records: Sequence[UsageRecord]
    ended: Sequence[EndedRun]

    def to_batch(self, sequence: int) -> bytes:
        """Serialize it as the Batch that the spool keeps; the digest is over these bytes."""
        ends = [
            pb.RunEnd(run=run.definition.number, ended_at_ms=run.ended_at_ms) for run in self.ended
        ]
        batch = pb.Batch(sequence=sequence, runs=self.runs, meters=self.meters, run_ends=ends)
        if self.records:
            batch.records.CopyFrom(_columns(self.records))
        return batch.SerializeToString(deterministic=True)


def take_draft(state: NodeState, *, flush: bool = False) -> Draft | None:
    """Take out what can be told now; None = nothing. Call again until then.

    `flush`: close the open windows too, up to where readings are accounted for.
    """
    meters = [*_closing(state), *_with_windows(state, flush=flush)]
    fresh = _fitting(state.meters.fresh[:MAX_FRESH])
    accounts = state.meters.accounts
    if not meters and not fresh and not state.ended and not (accounts and accounts.amounts):
        return None
    records = _take_records(meters, flush=flush)
    _attribute(state, meters, records)
    for live in [*state.live.values(), *state.ended]:
        live.closing = [closing for closing in live.closing if not _is_recorded(closing)]
    ready = [live for live in state.ended if not live.closing][:MAX_FRESH]
    ready = ready[: _count_fitting(live.definition.ByteSize() for live in ready)]
    ended = [_ended(live) for live in ready]
    state.ended = [live for live in state.ended if live not in ready]
    del state.meters.fresh[: len(fresh)]
    told = _take_accounts(state, records)
    if not records and not fresh and not ended and not told.records:
        return None
    recorded = {record.meter for record in records}
    named = [opened for opened in meters if opened.definition.number in recorded]
    return _define(named, fresh, records, ended, told)


def _closing(state: NodeState) -> Iterator[LiveMeter]:
    for live in [*state.live.values(), *state.ended]:
        yield from live.closing


def _with_windows(state: NodeState, *, flush: bool) -> Iterator[LiveMeter]:
    for live in state.live.values():
        for group in live.groups.values():
            for opened in group:
                if opened.meter.spans or flush:
                    yield opened


def _take_records(meters: Sequence[LiveMeter], *, flush: bool) -> list[UsageRecord]:
    records: list[UsageRecord] = []
    starts = [opened.meter.window_start_ms for opened in meters]
    horizon_ms = min(starts, default=0) + _HORIZON_MS
    room = MAX_DEFINITION_BYTES
    for opened in meters:
        meter, before = opened.meter, len(records)
        cut(meter, records, limit=MAX_RECORDS, horizon_ms=horizon_ms)
        is_last = flush or opened.is_closing
        if len(records) >= MAX_RECORDS:
            break
        if is_last and not meter.spans and meter.window_start_ms < horizon_ms:
            close_window(meter, records)
        if len(records) > before:
            room -= _definition_bytes(opened)
            if room <= 0:
                break
    return records


def _fitting(meters: Sequence[LiveMeter]) -> Sequence[LiveMeter]:
    return meters[: _count_fitting(_definition_bytes(opened) for opened in meters)]


def _definition_bytes(opened: LiveMeter) -> int:
    """What a meter adds to a frame at most: its run is often there already."""
    return opened.definition.ByteSize() + opened.run_definition.ByteSize()


def _count_fitting(sizes: Iterable[int]) -> int:
    """How many of the definitions fit, one at least."""
    room, count = MAX_DEFINITION_BYTES, 0
    for size in sizes:
        if room <= 0:
            break
        room, count = room - size, count + 1
    return count


def _attribute(
    state: NodeState, meters: Sequence[LiveMeter], records: Sequence[UsageRecord]
) -> None:
    """Let the node's accounts know what of it the jobs used."""
    accounts = state.meters.accounts
    if accounts is None:
        return
    types = {opened.definition.number: opened.key.type for opened in meters}
    for record in records:
        accounts.attribute(types[record.meter], record)


def _take_accounts(state: NodeState, records: Sequence[UsageRecord]) -> Told:
    """Fill the frame up with what the accounts have to tell."""
    accounts = state.meters.accounts
    if accounts is None or len(records) >= MAX_RECORDS:
        return Told((), (), ())
    return accounts.take(MAX_RECORDS - len(records), state.meters.number, records)


def _is_recorded(opened: LiveMeter) -> bool:
    return not opened.meter.spans and opened.meter.cut_ms == opened.meter.window_start_ms


def _ended(live: LiveRun) -> EndedRun:
    assert live.ended_at_ms is not None
    return EndedRun(
        key=live.key,
        provider=live.provider,
        definition=live.definition,
        ended_at_ms=max(live.ended_at_ms, live.definition.started_at_ms),
    )


def _define(
    named: Sequence[LiveMeter],
    fresh: Sequence[LiveMeter],
    records: Sequence[UsageRecord],
    ended: Sequence[EndedRun],
    told: Told,
) -> Draft:
    """Add the definitions that make it readable by itself, each once."""
    meters = {opened.definition.number: opened for opened in [*fresh, *named]}
    runs = {opened.run_definition.number: opened.run_definition for opened in meters.values()}
    runs |= {run.definition.number: run.definition for run in ended}
    return Draft(
        runs=[*(runs[number] for number in sorted(runs)), *told.runs],
        meters=[*(meters[number].definition for number in sorted(meters)), *told.meters],
        records=[*records, *told.records],
        ended=ended,
    )


def _columns(records: Sequence[UsageRecord]) -> pb.Records:
    """Lay the records out in columns, instants as offsets from the earliest."""
    meter, start, length, allocated, used, effective, observed = zip(*records, strict=True)
    base_ms = min(start)
    return pb.Records(
        base_ms=base_ms,
        meter=meter,
        start_ms=[start_ms - base_ms for start_ms in start],
        length_ms=length,
        allocated=allocated,
        used=used,
        effective=effective,
        observed_ms=observed,
    )
