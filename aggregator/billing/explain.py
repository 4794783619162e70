"""How a fee came about: all that an item is the sum of, with the version that priced each."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from aggregator.billing.database import (
    NODE_LOST_AFTER,
    Database,
    listing_made,
    pairs_of,
    rows_of,
)
from aggregator.billing.items import Item, Measured
from aggregator.billing.scope import Scope
from aggregator.store.queries import query

_GET_ITEM = query("get_item")
_LIST_SEGMENTS = query("list_segments")


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """What counts in one hour at one version: a charge, or an adjustment of it.

    Quantities in base unit x ms and `amount` are signed. `used_hour` differs from `hour`
    where the period of the usage was closed. `price` None: there was no ratio. `method` is
    that in force over the segment, several if it changed within.
    """

    hour: datetime
    used_hour: datetime
    kind: str
    ratio_id: int
    started_at: datetime
    ended_at: datetime
    allocated: Decimal
    used: Decimal
    effective: Decimal
    billed: Decimal
    length_ms: Decimal
    observed_ms: Decimal
    amount: Decimal
    key: str | None
    price: Decimal | None
    price_starts_at: datetime | None
    price_ends_at: datetime | None
    price_set_at: datetime | None
    price_set_by: str | None
    price_reason: str | None
    method: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """An item and its segments, of one snapshot."""

    item: Item
    measured: Measured
    segments: Sequence[Segment]


async def explain(database: Database, bill_id: UUID, scope: Scope) -> Explanation | None:
    """How the item's fee came about; None: there is no such item."""
    async with database.reading() as connection:
        asked = {"bill_id": bill_id, "lost_after": NODE_LOST_AFTER, **scope.parameters()}
        async with listing_made(connection, _GET_ITEM, asked, pairs_of(Item, Measured)) as rows:
            found = await rows.chunk()
        if not found:
            return None
        ((item, measured),) = found
        asked = {"bill_id": bill_id, "type": item.type}
        segments = await rows_of(connection, _LIST_SEGMENTS, asked, Segment)
    return Explanation(item=item, measured=measured, segments=segments)
