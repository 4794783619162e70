"""Gives the definitions of a group their rows: users, runs, price classes, meters.

Each kind is looked up first; what is missing is inserted in the order of its key and
looked up again. A repeated definition writes nothing, and one that another aggregator
is inserting is waited for, not doubled. The accounts of nodes have meters of their own
(see `accounts`) and no run, user or price class.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from aggregator.clock import from_ms
from aggregator.ingest.accounts import Cursor, account_meter, resolve_accounts
from aggregator.ingest.definition import (
    AccountRef,
    KnownRun,
    MeterDefinition,
    RunDefinition,
    RunRef,
)
from aggregator.ingest.session import Identity
from aggregator.ingest.settle import BatchItem
from aggregator.model import (
    NO_USER,
    IngestGroupId,
    MeterId,
    MeterUid,
    NodeId,
    PriceClassId,
    RunId,
    bill_id,
    meter_uid,
)
from aggregator.store.queries import query

_LIST_RUNS = query("list_runs")
_INSERT_RUNS = query("insert_runs")
_UPSERT_USERS = query("upsert_users")
_LIST_PRICE_CLASSES = query("list_price_classes")
_INSERT_PRICE_CLASSES = query("insert_price_classes")
_LIST_METERS = query("list_meters")
_INSERT_METERS = query("insert_meters")

RunKey = tuple[NodeId, str]
ClassKey = tuple[str, str | None, str]


@dataclass(slots=True, kw_only=True)
class Resolved:
    """The rows of one batch's definitions, by the node's numbers."""

    runs: dict[int, KnownRun] = field(default_factory=dict[int, KnownRun])
    meters: dict[int, MeterId] = field(default_factory=dict[int, MeterId])


@dataclass(frozen=True, slots=True, kw_only=True)
class _NewMeter:
    """A definition with what it needs of its run and its node."""

    definition: MeterDefinition
    run: RunRef
    identity: Identity

    @property
    def uid(self) -> MeterUid:
        meter = self.definition
        return meter_uid(
            node=self.identity.node,
            run_key=self.run.key,
            type_=meter.type,
            model=meter.model,
            device=meter.device,
            quota=meter.quota,
            group_quota=meter.group_quota,
            started_at_ms=meter.started_at_ms,
        )

    @property
    def class_key(self) -> ClassKey:
        return (self.definition.type.value, self.definition.model, self.run.vc)


async def resolve(
    cursor: Cursor, items: Sequence[BatchItem], group_id: IngestGroupId
) -> list[Resolved]:
    """Find or make the rows of each item's definitions, in the order of the items.

    `group_id`: the ingest group that brings those that are new.
    """
    run_ids = await _resolve_runs(
        cursor,
        {
            (item.session.identity.node_id, run.key): (item.session.identity, run)
            for item in items
            for run in item.decoded.runs.values()
            if run.account is None
        },
    )
    resolved = [Resolved(runs=_run_refs(item, run_ids)) for item in items]
    meters = [
        (result, number, new, new.uid)
        for item, result in zip(items, resolved, strict=True)
        for number, new in _new_meters(item, result)
    ]
    meter_ids = await _resolve_meters(cursor, {uid: new for _, _, new, uid in meters}, group_id)
    for result, number, _, uid in meters:
        result.meters[number] = meter_ids[uid]
    await _resolve_account_meters(cursor, items, resolved)
    return resolved


def _run_refs(item: BatchItem, run_ids: Mapping[RunKey, RunId]) -> dict[int, KnownRun]:
    """Refer to every run that the batch defines or uses."""
    node_id = item.session.identity.node_id
    defined = {
        number: AccountRef(account=run.account)
        if run.account
        else RunRef(run_id=run_ids[node_id, run.key], key=run.key, vc=run.vc)
        for number, run in item.decoded.runs.items()
    }
    return {**item.decoded.known_runs, **defined}


def _new_meters(item: BatchItem, resolved: Resolved) -> Iterable[tuple[int, _NewMeter]]:
    for number, meter in item.decoded.meters.items():
        run = resolved.runs[meter.run]
        if isinstance(run, RunRef):
            yield number, _NewMeter(definition=meter, run=run, identity=item.session.identity)


async def _resolve_account_meters(
    cursor: Cursor, items: Sequence[BatchItem], resolved: Sequence[Resolved]
) -> None:
    meters = [
        (result, number, account_meter(item.session.identity.node_id, run.account, meter))
        for item, result in zip(items, resolved, strict=True)
        for number, meter in item.decoded.meters.items()
        if isinstance(run := result.runs[meter.run], AccountRef)
    ]
    if meters:
        meter_ids = await resolve_accounts(cursor, {own for _, _, own in meters})
        for result, number, own in meters:
            result.meters[number] = meter_ids[own]


async def _resolve_runs(
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


async def _resolve_meters(
    cursor: Cursor, meters: Mapping[MeterUid, _NewMeter], group_id: IngestGroupId
) -> Mapping[MeterUid, MeterId]:
    found = await _list_meters(cursor, meters)
    missing = {uid: meter for uid, meter in meters.items() if uid not in found}
    if missing:
        classes = await _resolve_classes(cursor, {each.class_key for each in missing.values()})
        await _insert_meters(cursor, missing, classes, group_id)
        found |= await _list_meters(cursor, missing)
    return found


async def _list_meters(cursor: Cursor, uids: Iterable[MeterUid]) -> dict[MeterUid, MeterId]:
    asked = list(uids)
    if not asked:
        return {}
    await cursor.execute(_LIST_METERS, {"meter_uids": asked})
    return {MeterUid(uid): MeterId(meter_id) for uid, meter_id in await cursor.fetchall()}


async def _insert_meters(
    cursor: Cursor,
    missing: Mapping[MeterUid, _NewMeter],
    classes: Mapping[ClassKey, PriceClassId],
    group_id: IngestGroupId,
) -> None:
    meters = list(missing.values())
    await cursor.execute(
        _INSERT_METERS,
        {
            "meter_uids": list(missing),
            "bill_ids": [_bill_id(each) for each in meters],
            "run_ids": [each.run.run_id for each in meters],
            "price_class_ids": [classes[each.class_key] for each in meters],
            "node_addresses": [each.identity.address for each in meters],
            "devices": [each.definition.device for each in meters],
            "physicals": [each.definition.physical for each in meters],
            "quotas": [each.definition.quota for each in meters],
            "group_quotas": [each.definition.group_quota for each in meters],
            "started_ats": [from_ms(each.definition.started_at_ms) for each in meters],
            "ingest_group_id": group_id,
        },
    )


def _bill_id(meter: _NewMeter) -> object:
    definition = meter.definition
    return bill_id(
        node=meter.identity.node,
        run_key=meter.run.key,
        type_=definition.type,
        model=definition.model,
        group_quota=definition.group_quota,
        started_at_ms=definition.started_at_ms,
    )


async def _resolve_classes(
    cursor: Cursor, keys: Iterable[ClassKey]
) -> Mapping[ClassKey, PriceClassId]:
    asked = set(keys)
    found = await _list_classes(cursor, asked)
    missing = asked - found.keys()
    if missing:
        await cursor.execute(_INSERT_PRICE_CLASSES, _class_columns(missing))
        found |= await _list_classes(cursor, missing)
    return found


async def _list_classes(cursor: Cursor, keys: Iterable[ClassKey]) -> dict[ClassKey, PriceClassId]:
    await cursor.execute(_LIST_PRICE_CLASSES, _class_columns(keys))
    return {(type_, model, vc): found for type_, model, vc, found in await cursor.fetchall()}


def _class_columns(keys: Iterable[ClassKey]) -> dict[str, list[str] | list[str | None]]:
    columns = list(keys)
    return {
        "types": [type_ for type_, _, _ in columns],
        "models": [model for _, model, _ in columns],
        "vcs": [vc for _, _, vc in columns],
    }
