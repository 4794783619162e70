"""Gives the meters that a group defines their rows, and with them price classes.

Each kind is looked up first; what is missing is inserted in the order of its key and
looked up again. A repeated definition writes nothing, and one that another aggregator
is inserting is waited for, not doubled. Runs have their rows before (see `runs`). The
accounts of nodes have meters of their own (see `accounts`) and no run, user or price class.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from aggregator.clock import from_ms
from aggregator.ingest.accounts import Cursor, account_meter, resolve_accounts
from aggregator.ingest.definition import (
    AccountRef,
    KnownRun,
    MeterDefinition,
    RunRef,
)
from aggregator.ingest.session import Identity
from aggregator.ingest.settle import BatchItem
from aggregator.model import (
    IngestGroupId,
    MeterId,
    MeterUid,
    PriceClassId,
    bill_id,
    meter_uid,
)
from aggregator.store.queries import query

_LIST_PRICE_CLASSES = query("list_price_classes")
_INSERT_PRICE_CLASSES = query("insert_price_classes")
_LIST_METERS = query("list_meters")
_INSERT_METERS = query("insert_meters")

ClassKey = tuple[str, str | None, str]


@dataclass(slots=True, kw_only=True)
class Resolved:
    """The rows of one batch's definitions, by the node's numbers."""

    runs: Mapping[int, KnownRun]
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


async def resolve_meters(
    cursor: Cursor,
    items: Sequence[BatchItem],
    runs: Sequence[Mapping[int, KnownRun]],
    group_id: IngestGroupId,
) -> list[Resolved]:
    """Find or make the rows of each item's definitions, in the order of the items.

    `runs`: of each item (see `runs`). `group_id`: the ingest group that brings what is new.
    """
    resolved = [Resolved(runs=each) for each in runs]
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
