"""What became of all that a node has, hour by hour: its accounts beside what jobs had.

Nothing vanishes (RATING 10): for each node, type, device and hour, of `used` for cpu and
memory and of `allocated` for devices, jobs + idle + unattributed + down - excess is the
capacity: exactly for devices, within the measuring error otherwise.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final

from aggregator.billing.database import Connection, Database, Listing, listing_of
from aggregator.model import NodeId, Period, ResourceType
from aggregator.rating import money
from aggregator.store.queries import query
from aggregator.units import UNITS, Unit

_GET_ACCOUNTING_NODE = query("get_accounting_node")
_LIST_CONSERVATION = query("list_conservation")

_DAY: Final = timedelta(days=1)
_FIRST: Final = datetime.min.replace(tzinfo=UTC)


class UnknownNodeError(LookupError):
    """No node of this name ever spoke."""


class BackwardsError(ValueError):
    """The range ends before it starts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConservedHour:
    """What became of one device of a node, or of all of a type, in base unit x ms.

    `device` None: all that the node has of the type. `model` None: unknown, or several.
    `capacity` None: the node did not account for the hour.
    """

    hour: datetime
    type: str
    device: str | None
    model: str | None
    capacity: Decimal | None
    jobs: Decimal
    idle: Decimal
    unattributed: Decimal
    down: Decimal
    excess: Decimal

    @property
    def unit(self) -> Unit:
        """The unit in which it is shown."""
        return UNITS[ResourceType(self.type)]

    @property
    def difference(self) -> Decimal | None:
        """The capacity without what is said to have become of it; None: unknown."""
        if self.capacity is None:
            return None
        return (
            self.capacity + self.excess - sum((self.jobs, self.idle, self.unattributed, self.down))
        )

    def hours(self, quantity: Decimal) -> float:
        """Unit-hours of one of the quantities, rounded once."""
        return money.usage(int(quantity), self.unit)


@asynccontextmanager
async def list_conservation(
    database: Database, node: str, start: datetime | None = None, end: datetime | None = None
) -> AsyncGenerator[Listing[ConservedHour]]:
    """Open the list of a node's hours: by hour, type and device, the whole node first.

    Hours are whole: one that the range touches is shown. By default the range ends with the
    last hour that is settled and is a day long; the differences of later hours are not final.

    Raises:
        UnknownNodeError: there is no such node.
        BackwardsError: `end` is not after `start`.
    """
    async with database.reading() as connection:
        node_id, settled_until = await _node(connection, node)
        period = whole_hours(start, end, settled_until)
        parameters = {"node_id": node_id, "starts_at": period.start, "ends_at": period.end}
        async with listing_of(connection, _LIST_CONSERVATION, parameters, ConservedHour) as rows:
            yield rows


def whole_hours(start: datetime | None, end: datetime | None, settled_until: datetime) -> Period:
    """The range that was asked for, from a whole hour on; pure.

    Raises:
        BackwardsError: as `list_conservation`.
    """
    if start is not None and end is not None and end <= start:
        raise BackwardsError("must be before the end of the range")
    until = end or max(settled_until, start or settled_until)
    since = start or until - min(_DAY, until - _FIRST)
    return Period(start=since.replace(minute=0, second=0, microsecond=0), end=until)


async def _node(connection: Connection, name: str) -> tuple[NodeId, datetime]:
    cursor = await connection.execute(_GET_ACCOUNTING_NODE, {"name": name})
    row = await cursor.fetchone()
    if row is None:
        raise UnknownNodeError(name)
    return NodeId(row[0]), row[1]
