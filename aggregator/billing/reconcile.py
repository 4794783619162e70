"""Reconciliation: whether what was measured, charged and billed agrees, hour by hour.

Three checks: conservation (all that a node has became something), usage (the ledger is the
raw usage, while that is kept), bills (an item is the sum of its bookings).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final, Literal, TypeAlias

from aggregator.billing.database import Connection, Database, rows_of
from aggregator.errors import DatabaseError
from aggregator.model import Period, ResourceType
from aggregator.rating import money
from aggregator.store.queries import query
from aggregator.units import UNITS

Check: TypeAlias = Literal["conservation", "usage", "bills"]

CHECKS: Final[tuple[Check, ...]] = ("conservation", "usage", "bills")
MAX_ROWS: Final = 100
TOLERANCE: Final = Decimal("0.01")
"""Of a node's cpu or memory: counters and levels are read one after the other."""

_STATEMENTS = {check: query(f"reconcile_{check}") for check in CHECKS}
_GET_SETTLED_HOUR = query("get_settled_hour")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """Something that does not hold: what there should be (None: unknown), and what there is.

    Quantities are in base unit x ms, an `amount` is that times a price.
    """

    hour: datetime
    type: str | None
    node: str | None
    subject: str | None
    quantity: str
    expected: Decimal | None
    found: Decimal | None

    def shown(self, value: Decimal | None) -> float | None:
        """One of both in unit-hours, or in money."""
        if value is None or self.type is None:
            return None
        return money.fee(value, UNITS[ResourceType(self.type)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a check found over a range; the first mismatches only."""

    check: Check
    period: Period
    checked: int
    failed: int
    mismatches: Sequence[Mismatch]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    checked: int
    failed: int
    hour: datetime | None
    type: str | None
    node: str | None
    subject: str | None
    quantity: str | None
    expected: Decimal | None
    found: Decimal | None

    def mismatch(self) -> Mismatch | None:
        if self.hour is None or self.quantity is None:
            return None
        return Mismatch(
            hour=self.hour,
            type=self.type,
            node=self.node,
            subject=self.subject,
            quantity=self.quantity,
            expected=self.expected,
            found=self.found,
        )


async def reconcile(
    database: Database, period: Period, *, usage_days: int, limit: int = MAX_ROWS
) -> Sequence[Finding]:
    """Look at the whole hours of a range, as far as they are settled."""
    async with database.reading() as connection:
        settled = await settled_hour(connection)
        end = min(period.end, settled)
        start = min(period.start.replace(minute=0, second=0, microsecond=0), end)
        whole = Period(start=start, end=end)
        raw = Period(start=min(max(start, kept_since(settled, usage_days)), end), end=end)
        return [
            await _find(connection, check, raw if check == "usage" else whole, limit)
            for check in CHECKS
        ]


async def settled_hour(connection: Connection) -> datetime:
    """The end of the last hour of which all nodes have accounted."""
    row = await (await connection.execute(_GET_SETTLED_HOUR)).fetchone()
    if row is None or not isinstance(row[0], datetime):
        raise DatabaseError("the database does not tell the time")
    return row[0].astimezone(UTC)


def kept_since(now: datetime, usage_days: int) -> datetime:
    """From when on no raw usage has been dropped."""
    oldest = now - timedelta(days=usage_days - 1)
    return oldest.replace(hour=0, minute=0, second=0, microsecond=0)


async def _find(connection: Connection, check: Check, period: Period, limit: int) -> Finding:
    asked = {
        "starts_at": period.start,
        "ends_at": period.end,
        "tolerance": TOLERANCE,
        "limit": limit,
    }
    rows = await rows_of(connection, _STATEMENTS[check], asked, _Row)
    return Finding(
        check=check,
        period=period,
        checked=rows[0].checked,
        failed=rows[0].failed,
        mismatches=[found for row in rows if (found := row.mismatch())],
    )
