"""Gives the meters of nodes' accounts their rows.

An account of a node, of a type and device, is one meter for ever, whatever runs and
meters an agent names over the years: nothing is priced by them, so a restart or another
quota begins nothing new.
"""

from collections.abc import Collection, Iterable
from typing import NamedTuple, TypeAlias

from psycopg import AsyncCursor
from psycopg.rows import TupleRow

from aggregator.ingest.definition import MeterDefinition
from aggregator.model import Account, MeterId, NodeId
from aggregator.store.queries import query

_LIST_NODE_METERS = query("list_node_meters")
_INSERT_NODE_METERS = query("insert_node_meters")

Cursor: TypeAlias = AsyncCursor[TupleRow]


class AccountMeter(NamedTuple):
    """All that defines the meter of an account."""

    node_id: NodeId
    account: str
    type: str
    device: str | None
    model: str | None


def account_meter(node_id: NodeId, account: Account, meter: MeterDefinition) -> AccountMeter:
    """The meter that a node's definition means."""
    return AccountMeter(node_id, account.value, meter.type.value, meter.device, meter.model)


async def resolve_accounts(
    cursor: Cursor, meters: Collection[AccountMeter]
) -> dict[AccountMeter, MeterId]:
    """Find or make the rows of all these meters."""
    found = await _list(cursor, meters)
    missing = {meter for meter in meters if meter not in found}
    if missing:
        await cursor.execute(_INSERT_NODE_METERS, _columns(missing))
        found |= await _list(cursor, missing)
    return found


async def _list(cursor: Cursor, meters: Iterable[AccountMeter]) -> dict[AccountMeter, MeterId]:
    await cursor.execute(_LIST_NODE_METERS, _columns(meters))
    return {AccountMeter(*key): MeterId(meter_id) for *key, meter_id in await cursor.fetchall()}


def _columns(meters: Iterable[AccountMeter]) -> dict[str, list[object]]:
    rows = list(meters)
    return {
        "node_ids": [row.node_id for row in rows],
        "accounts": [row.account for row in rows],
        "types": [row.type for row in rows],
        "devices": [row.device for row in rows],
        "models": [row.model for row in rows],
    }
