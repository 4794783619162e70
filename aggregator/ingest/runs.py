"""Gives the runs that a group defines their rows, and says what their streams may tell of them.

A run is looked up first; what is missing is inserted in the order of its key and looked up
again. A repeated definition writes nothing, and one that another aggregator is inserting
is waited for, not doubled.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from aggregator.clock import from_ms
from aggregator.ingest.accounts import Cursor
from aggregator.ingest.definition import AccountRef, KnownRun, RunDefinition, RunRef
from aggregator.ingest.ownership import (
    Claims,
    account_subject,
    resolve_claims,
    run_subject,
)
from aggregator.ingest.session import Identity
from aggregator.ingest.settle import BatchItem
from aggregator.model import NO_USER, NodeId, RunId, Subject
from aggregator.store.queries import query

_LIST_RUNS = query("list_runs")
_INSERT_RUNS = query("insert_runs")
_UPSERT_USERS = query("upsert_users")

RunKey = tuple[NodeId, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Takeover:
    """What went on in another stream of its node with a transaction."""

    identity: Identity
    """Who tells it from now on."""
    runs: Sequence[str]
    """Their keys."""
    has_accounts: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedRuns:
    """What the items of a group define or use, in their order, by the node's numbers."""

    of_items: Sequence[Mapping[int, KnownRun]]
    takeover: Takeover | None


async def resolve_runs(cursor: Cursor, items: Sequence[BatchItem]) -> ResolvedRuns:
    """Find or make the rows of all runs, and whose they are. Raises `ContestedError`."""
    runs = {
        (item.session.identity.node_id, run.key): (item.session.identity, run)
        for item in items
        for run in item.decoded.runs.values()
        if run.account is None
    }
    run_ids = await _resolve_rows(cursor, runs)
    claims = await resolve_claims(
        cursor,
        [asked for item in items for asked in _subjects(item, run_ids)],
        {item.session.identity.stream_id for item in items},
    )
    return ResolvedRuns(
        of_items=[_refs(item, run_ids, claims) for item in items],
        takeover=_takeover(items, run_ids, claims),
    )


def _subjects(
    item: BatchItem, run_ids: Mapping[RunKey, RunId]
) -> Iterable[tuple[Subject, Identity]]:
    identity = item.session.identity
    for run in item.decoded.runs.values():
        if run.account is None:
            yield run_subject(run_ids[identity.node_id, run.key]), identity
        else:
            yield account_subject(identity.node_id), identity


def _refs(
    item: BatchItem, run_ids: Mapping[RunKey, RunId], claims: Claims
) -> Mapping[int, KnownRun]:
    """Refer to every run that the batch defines or uses."""
    node_id = item.session.identity.node_id
    refs = dict(item.decoded.known_runs)
    for number, run in item.decoded.runs.items():
        if run.account:
            claim = claims.of(account_subject(node_id))
            refs[number] = AccountRef(account=run.account, claim=claim)
        else:
            run_id = run_ids[node_id, run.key]
            claim = claims.of(run_subject(run_id))
            refs[number] = RunRef(run_id=run_id, key=run.key, vc=run.vc, claim=claim)
    return refs


def _takeover(
    items: Sequence[BatchItem], run_ids: Mapping[RunKey, RunId], claims: Claims
) -> Takeover | None:
    if not claims.taken_over:
        return None
    keys = [key for (_, key), run_id in run_ids.items() if run_subject(run_id) in claims.taken_over]
    return Takeover(
        identity=items[0].session.identity,
        runs=sorted(keys),
        has_accounts=len(keys) < len(claims.taken_over),
    )


async def _resolve_rows(
    cursor: Cursor, runs: Mapping[RunKey, tuple[Identity, RunDefinition]]
) -> Mapping[RunKey, RunId]:
    found = await _list_runs(cursor, runs)
    missing = {key: run for key, run in runs.items() if key not in found}
    if missing:
        await _upsert_users(cursor, missing.values())
        await _insert_runs(cursor, missing)
        found |= await _list_runs(cursor, missing)
    return found


async def _list_runs(cursor: Cursor, keys: Iterable[RunKey]) -> dict[RunKey, RunId]:
    asked = list(keys)
    if not asked:
        return {}
    await cursor.execute(
        _LIST_RUNS,
        {"node_ids": [node_id for node_id, _ in asked], "run_keys": [key for _, key in asked]},
    )
    return {(node_id, key): run_id for node_id, key, run_id in await cursor.fetchall()}


async def _upsert_users(cursor: Cursor, runs: Iterable[tuple[Identity, RunDefinition]]) -> None:
    users = {
        run.user_id: (run.username, identity.cluster)
        for identity, run in runs
        if run.user_id != NO_USER
    }
    await cursor.execute(
        _UPSERT_USERS,
        {
            "user_ids": list(users),
            "usernames": [username for username, _ in users.values()],
            "clusters": [cluster for _, cluster in users.values()],
        },
    )


async def _insert_runs(
    cursor: Cursor, missing: Mapping[RunKey, tuple[Identity, RunDefinition]]
) -> None:
    runs = [run for _, run in missing.values()]
    await cursor.execute(
        _INSERT_RUNS,
        {
            "node_ids": [node_id for node_id, _ in missing],
            "run_keys": [key for _, key in missing],
            "providers": [run.provider for run in runs],
            "clusters": [identity.cluster for identity, _ in missing.values()],
            "job_ids": [run.job_id for run in runs],
            "job_names": [run.job_name for run in runs],
            "user_ids": [run.user_id for run in runs],
            "usernames": [run.username for run in runs],
            "vcs": [run.vc for run in runs],
            "projects": [run.project for run in runs],
            "namespaces": [run.namespace for run in runs],
            "kinds": [run.kind for run in runs],
            "started_ats": [from_ms(run.started_at_ms) for run in runs],
        },
    )
