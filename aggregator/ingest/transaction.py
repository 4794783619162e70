"""Stores one group of messages of many streams in one transaction.

Marks, digests, definitions, records, ends and what is set aside become durable together
or not at all. It decides nothing (see `settle`) and answers nobody (see `commit`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from aggregator.clock import from_ms
from aggregator.ingest.accounts import Cursor
from aggregator.ingest.barred import without_barred
from aggregator.ingest.columns import Int64s
from aggregator.ingest.copybuffer import CopyBuffer
from aggregator.ingest.definition import KnownRun, RunRef
from aggregator.ingest.resolve import Resolved, resolve_meters
from aggregator.ingest.runs import Takeover, resolve_runs
from aggregator.ingest.settle import (
    BatchItem,
    Item,
    Mark,
    RepeatItem,
    SequenceKey,
    Settlement,
    repeats,
    settle,
)
from aggregator.model import IngestGroupId, StreamId
from aggregator.store.queries import query

_LOCK_STREAMS = query("lock_streams")
_LIST_DIGESTS = query("list_digests")
_INSERT_INGEST_GROUP = query("insert_ingest_group")
_INSERT_BATCHES = query("insert_batches")
_INSERT_QUARANTINE = query("insert_quarantine")
_INSERT_GAPS = query("insert_gaps")
_COPY_USAGE = query("copy_usage")
_END_RUNS = query("end_runs")
_MOVE_MARKS = query("move_marks")
_TOUCH_NODES = query("touch_nodes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What became durable, for those who answer."""

    settlement: Settlement
    resolved: Sequence[Resolved]
    """For each item taken."""
    takeover: Takeover | None = None


async def store(
    connection: AsyncConnection[TupleRow], items: Sequence[Item], *, now_ms: int
) -> Stored:
    """Store the items; durable when this returns.

    Records that end after `now_ms` go into an ingest group of their own: the rater waits
    for its last record's end, and one node's fast clock must not keep the others waiting.
    Raises `ContestedError`: nothing is stored, and what its streams bring is to come alone.
    """
    async with connection.transaction(), connection.cursor() as cursor:
        marks = await _lock_streams(cursor, items)
        digests = await _list_digests(cursor, repeats(items))
        settlement = settle(items, marks, digests)
        runs = await resolve_runs(cursor, settlement.taken)
        settlement.taken = [
            without_barred(item, own)
            for item, own in zip(settlement.taken, runs.of_items, strict=True)
        ]
        resolved = await _store_batches(cursor, settlement.taken, runs.of_items, now_ms)
        await _insert_quarantine(cursor, [*settlement.taken, *settlement.conflicting])
        await _insert_gaps(cursor, settlement)
        await _move_marks(cursor, settlement)
        await _touch_nodes(cursor, items)
    return Stored(settlement=settlement, resolved=resolved, takeover=runs.takeover)


async def _lock_streams(cursor: Cursor, items: Iterable[Item]) -> Mapping[StreamId, Mark]:
    ids = {item.session.identity.stream_id for item in items}
    await cursor.execute(_LOCK_STREAMS, {"stream_ids": list(ids)})
    return {
        StreamId(stream_id): Mark(
            epoch=epoch,
            acked_through=acked_through,
            seizures=seizures,
            forgotten_through=forgotten_through,
        )
        for stream_id, epoch, acked_through, _, seizures, forgotten_through in (
            await cursor.fetchall()
        )
    }


async def _list_digests(
    cursor: Cursor, asked: Sequence[SequenceKey]
) -> Mapping[SequenceKey, bytes]:
    if not asked:
        return {}
    await cursor.execute(
        _LIST_DIGESTS,
        {
            "stream_ids": [stream_id for stream_id, _ in asked],
            "sequences": [sequence for _, sequence in asked],
        },
    )
    return {
        (StreamId(stream_id), sequence): bytes(digest)
        for stream_id, sequence, digest in await cursor.fetchall()
    }


async def _store_batches(
    cursor: Cursor,
    taken: Sequence[BatchItem],
    runs: Sequence[Mapping[int, KnownRun]],
    now_ms: int,
) -> Sequence[Resolved]:
    if not taken:
        return []
    groups, defining = await _insert_groups(cursor, taken, now_ms)
    resolved = await resolve_meters(cursor, taken, runs, defining)
    await _insert_batches(cursor, taken, groups)
    await _copy_usage(cursor, taken, groups, resolved)
    await _end_runs(cursor, taken, groups, resolved)
    return resolved


async def _insert_groups(
    cursor: Cursor, taken: Sequence[BatchItem], now_ms: int
) -> tuple[Sequence[IngestGroupId], IngestGroupId]:
    """Make the group of what is past and that of what is ahead.

    Gives each item's, and the one that is said to bring the definitions: that of the
    past wherever there are any, since items are to be seen at once.
    """
    is_ahead = [_end_ms(item) > now_ms for item in taken]
    kinds = set(is_ahead)
    if any(item.decoded.meters for item in taken):
        kinds |= {False}
    ids = {
        kind: await _insert_group(
            cursor, [item for item, own in zip(taken, is_ahead, strict=True) if own is kind]
        )
        for kind in sorted(kinds)
    }
    return [ids[kind] for kind in is_ahead], ids[min(kinds)]


async def _insert_group(cursor: Cursor, items: Sequence[BatchItem]) -> IngestGroupId:
    columns = [item.decoded.columns for item in items if item.decoded.columns is not None]
    first = min((int(each.started_at_ms.min()) for each in columns), default=None)
    last = max((int(each.ended_at_ms.max()) for each in columns), default=None)
    await cursor.execute(
        _INSERT_INGEST_GROUP,
        {
            "record_count": sum(len(each) for each in columns),
            "min_started_at": None if first is None else from_ms(first),
            "max_ended_at": None if last is None else from_ms(last),
        },
    )
    row = await cursor.fetchone()
    assert row is not None
    return IngestGroupId(row[0])


def _end_ms(item: BatchItem) -> int:
    columns = item.decoded.columns
    return 0 if columns is None else int(columns.ended_at_ms.max())


async def _insert_batches(
    cursor: Cursor, taken: Sequence[BatchItem], groups: Sequence[IngestGroupId]
) -> None:
    await cursor.execute(
        _INSERT_BATCHES,
        {
            "stream_ids": [item.session.identity.stream_id for item in taken],
            "sequences": [item.decoded.sequence for item in taken],
            "digests": [item.decoded.digest for item in taken],
            "record_counts": [item.decoded.record_count for item in taken],
            "ingest_group_ids": list(groups),
        },
    )


async def _copy_usage(
    cursor: Cursor,
    taken: Sequence[BatchItem],
    groups: Sequence[IngestGroupId],
    resolved: Sequence[Resolved],
) -> None:
    record_count = sum(item.decoded.record_count for item in taken)
    if not record_count:
        return
    buffer = CopyBuffer(record_count)
    for item, group_id, result in zip(taken, groups, resolved, strict=True):
        columns, known = item.decoded.columns, item.decoded.meter_ids
        if columns is not None and known is not None:
            buffer.put(columns, _complete(known, columns.numbers, result), group_id)
    async with cursor.copy(_COPY_USAGE) as copy:
        for piece in buffer.pieces():
            await copy.write(piece)


def _complete(known: Int64s, numbers: Sequence[int], result: Resolved) -> Int64s:
    """Fill in the meters that the batch itself defined."""
    if not result.meters:
        return known
    pairs = zip(numbers, known.tolist(), strict=True)
    return np.array([result.meters.get(number, own) for number, own in pairs], dtype=np.int64)


async def _end_runs(
    cursor: Cursor,
    taken: Sequence[BatchItem],
    groups: Sequence[IngestGroupId],
    resolved: Sequence[Resolved],
) -> None:
    ends = {
        run.run_id: (from_ms(max(ended_at_ms, run.claim.highest_ms)), group_id)
        for item, group_id, result in zip(taken, groups, resolved, strict=True)
        for number, ended_at_ms in item.decoded.run_ends.items()
        if isinstance(run := result.runs[number], RunRef)  # an account has no end
    }
    if ends:
        run_ids = sorted(ends)
        await cursor.execute(
            _END_RUNS,
            {
                "run_ids": run_ids,
                "ended_ats": [ends[run_id][0] for run_id in run_ids],
                "ingest_group_ids": [ends[run_id][1] for run_id in run_ids],
            },
        )


async def _insert_quarantine(cursor: Cursor, items: Iterable[BatchItem | RepeatItem]) -> None:
    parts = [(item, part) for item in items for part in item.decoded.set_aside]
    if parts:
        await cursor.execute(
            _INSERT_QUARANTINE,
            {
                "stream_ids": [item.session.identity.stream_id for item, _ in parts],
                "sequences": [item.decoded.sequence for item, _ in parts],
                "reasons": [part.reason.value for _, part in parts],
                "record_counts": [part.record_count for _, part in parts],
                "payloads": [part.payload for _, part in parts],
            },
        )


async def _insert_gaps(cursor: Cursor, settlement: Settlement) -> None:
    gaps = settlement.gaps
    if gaps:
        await cursor.execute(
            _INSERT_GAPS,
            {
                "stream_ids": [gap.session.identity.stream_id for gap in gaps],
                "firsts": [gap.first for gap in gaps],
                "lasts": [gap.last for gap in gaps],
                "reasons": [gap.reason for gap in gaps],
            },
        )


async def _move_marks(cursor: Cursor, settlement: Settlement) -> None:
    moved = list(settlement.moved)
    if moved:
        await cursor.execute(
            _MOVE_MARKS,
            {
                "stream_ids": moved,
                "acked_throughs": [settlement.acked_through[stream_id] for stream_id in moved],
            },
        )


async def _touch_nodes(cursor: Cursor, items: Iterable[Item]) -> None:
    nodes = {item.session.identity.node_id for item in items}
    await cursor.execute(_TOUCH_NODES, {"node_ids": list(nodes)})
