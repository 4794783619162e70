"""Decides which stream tells a run, or keeps the accounts of a node.

Whoever defines it first has it. Another stream of the node, whose spool was deleted,
rolled back or copied, takes it over by defining it too, if its Hello is the later one:
what is durable then becomes the floor of what it may tell (see `floors`), and the
connections of the stream that had it learn that they know too much. Between two takeovers
nothing is asked but who has what, once per definition.

A takeover waits for the transactions of the stream that had the claim. For the same reason
it needs a transaction in which no other stream stores anything: `ContestedError` asks for
one.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from psycopg import AsyncCursor
from psycopg.rows import TupleRow

from aggregator.clock import to_ms
from aggregator.ingest.claim import OWN, Claim, FloorKey
from aggregator.ingest.session import Identity
from aggregator.model import NodeId, RunId, StreamId, Subject
from aggregator.store.queries import query

_LIST_CLAIMS = query("list_claims")
_INSERT_CLAIMS = query("insert_claims")
_LOCK_CLAIMS = query("lock_claims")
_LOCK_STREAMS = query("lock_streams")
_LIST_UNRATED_GROUPS = query("list_unrated_groups")
_RAISE_RUN_FLOORS = query("raise_run_floors")
_RAISE_ACCOUNT_FLOORS = query("raise_account_floors")
_MOVE_CLAIMS = query("move_claims")
_NOTE_SEIZURES = query("note_seizures")
_REOPEN_RUNS = query("reopen_runs")
_LIST_CLAIM_FLOORS = query("list_claim_floors")

Cursor: TypeAlias = AsyncCursor[TupleRow]


class ContestedError(Exception):
    """Something moves between these streams: store what they brought one by one."""

    def __init__(self, streams: Collection[StreamId]) -> None:
        """Name the streams."""
        super().__init__(f"{len(streams)} streams")
        self.streams = frozenset(streams)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What the streams of a transaction may tell."""

    by_subject: Mapping[Subject, Claim] = field(default_factory=dict[Subject, Claim])
    """Only of what was ever another stream's."""
    taken_over: Collection[Subject] = ()
    """What moved with this transaction."""

    def of(self, subject: Subject) -> Claim:
        """What may be told of a subject by who asked for it."""
        return self.by_subject.get(subject, OWN)


class _Row(NamedTuple):
    stream_id: StreamId
    is_moved: bool


def run_subject(run_id: RunId) -> Subject:
    """What a run is claimed as."""
    return Subject(run_id)


def account_subject(node_id: NodeId) -> Subject:
    """What the accounts of a node are claimed as."""
    return Subject(-node_id)


async def resolve_claims(
    cursor: Cursor, asked: Iterable[tuple[Subject, Identity]], streams: Collection[StreamId]
) -> Claims:
    """Give what each stream may tell of what it defines.

    `streams`: all that store something in this transaction. Raises `ContestedError`.
    """
    wanted = _one_each(asked)
    found = await _find(cursor, wanted)
    others = {
        subject: row for subject, row in found.items() if row.stream_id != wanted[subject].stream_id
    }
    taken_over: Sequence[Subject] = ()
    if others:
        if len(streams) > 1:
            owners = {row.stream_id for row in others.values()}
            raise ContestedError(owners | {wanted[subject].stream_id for subject in others})
        taken_over = await _take_over(cursor, others, wanted[next(iter(others))])
    foreign = others.keys() - set(taken_over)
    moved = {subject for subject, row in found.items() if row.is_moved}.union(taken_over)
    floors = await _list_floors(cursor, moved - foreign)
    claims = {subject: Claim(floors=of_subject) for subject, of_subject in floors.items()}
    claims |= dict.fromkeys(foreign, Claim(is_foreign=True))
    return Claims(by_subject=claims, taken_over=taken_over)


def _one_each(asked: Iterable[tuple[Subject, Identity]]) -> Mapping[Subject, Identity]:
    wanted: dict[Subject, Identity] = {}
    for subject, identity in asked:
        first = wanted.setdefault(subject, identity)
        if first.stream_id != identity.stream_id:
            raise ContestedError({first.stream_id, identity.stream_id})
    return wanted


async def _find(cursor: Cursor, wanted: Mapping[Subject, Identity]) -> Mapping[Subject, _Row]:
    """Give who has what, after those without an owner got theirs."""
    found = await _list(cursor, wanted)
    missing = {subject: who for subject, who in wanted.items() if subject not in found}
    if missing:
        await cursor.execute(
            _INSERT_CLAIMS,
            {
                "subjects": list(missing),
                "stream_ids": [identity.stream_id for identity in missing.values()],
            },
        )
        found |= await _list(cursor, missing)
    return found


async def _list(cursor: Cursor, subjects: Iterable[Subject]) -> dict[Subject, _Row]:
    asked = list(subjects)
    if not asked:
        return {}
    await cursor.execute(_LIST_CLAIMS, {"subjects": asked})
    return {
        Subject(subject): _Row(StreamId(stream_id), is_moved)
        for subject, stream_id, is_moved in await cursor.fetchall()
    }


async def _take_over(
    cursor: Cursor, subjects: Collection[Subject], identity: Identity
) -> Sequence[Subject]:
    """Move what other streams have to one whose Hello is later; give what moved."""
    await cursor.execute(_LOCK_CLAIMS, {"subjects": list(subjects)})
    owners = {Subject(subject): StreamId(owner) for subject, owner in await cursor.fetchall()}
    await cursor.execute(_LOCK_STREAMS, {"stream_ids": list({*owners.values()})})
    hellos = {StreamId(row[0]): int(row[3]) for row in await cursor.fetchall()}
    moving = [subject for subject, owner in owners.items() if hellos[owner] < identity.hello]
    if moving:
        await _raise_floors(cursor, moving, identity.node_id)
        await cursor.execute(_MOVE_CLAIMS, {"subjects": moving, "stream_id": identity.stream_id})
        losing = {owners[subject] for subject in moving}
        await cursor.execute(_NOTE_SEIZURES, {"stream_ids": list(losing)})
    return moving


async def _raise_floors(cursor: Cursor, subjects: Sequence[Subject], node_id: NodeId) -> None:
    await cursor.execute(_LIST_UNRATED_GROUPS, {"node_id": node_id})
    groups = await cursor.fetchall()
    unrated = {
        "ingest_group_ids": [group_id for group_id, _ in groups],
        "starts_at": min((starts_at for _, starts_at in groups), default=None),
    }
    run_ids = [subject for subject in subjects if subject > 0]
    if run_ids:
        await cursor.execute(_RAISE_RUN_FLOORS, {"run_ids": run_ids, **unrated})
        await cursor.execute(_REOPEN_RUNS, {"run_ids": run_ids})
    if len(run_ids) < len(subjects):
        await cursor.execute(_RAISE_ACCOUNT_FLOORS, {"node_id": node_id, **unrated})


async def _list_floors(
    cursor: Cursor, subjects: Collection[Subject]
) -> Mapping[Subject, Mapping[FloorKey, int]]:
    floors: dict[Subject, dict[FloorKey, int]] = {}
    if subjects:
        await cursor.execute(_LIST_CLAIM_FLOORS, {"subjects": list(subjects)})
        for subject, type_, device, floor_at in await cursor.fetchall():
            floors.setdefault(Subject(subject), {})[type_, device] = to_ms(floor_at)
    return floors
