"""Reconciliation: whether what was measured, charged and billed agrees, hour by hour.

Four checks: conservation (all that a node has became something), usage (the ledger is the raw
usage, while that is kept), bills (an item is the sum of its bookings), days (both rollups are).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final, Literal, TypeAlias

from aggregator.billing.database import Connection, Database, rows_of
from aggregator.billing.periods import instant
from aggregator.errors import DatabaseError
from aggregator.model import Period, ResourceType
from aggregator.rating import money
from aggregator.store.queries import query
from aggregator.units import UNITS

Check: TypeAlias = Literal["conservation", "usage", "bills", "days"]

CHECKS: Final[tuple[Check, ...]] = ("conservation", "usage", "bills", "days")
MAX_ROWS: Final = 100
TOLERANCE: Final = Decimal("0.01")
"""Of a node's cpu or memory: counters and levels are read one after the other."""

_STATEMENTS = {check: query(f"reconcile_{check}") for check in CHECKS}
_GET_SETTLED_HOUR = query("get_settled_hour")
_GET_BEGINNING = query("get_beginning")


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
    """What a check found over a range; the first mismatches only.

    `unknown`: how many things nobody can judge, since their node did not account for them yet.
    """

    check: Check
    period: Period
    checked: int
    failed: int
    unknown: int
    mismatches: Sequence[Mismatch]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciled:
    """What all checks found. `began_at`: when there was first anything; None: never yet."""

    findings: Sequence[Finding]
    began_at: datetime | None
    settled_until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    checked: int
    failed: int
    unknown: int
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
) -> Reconciled:
    """Look at the whole hours of a range, as far as they are settled."""
    async with database.reading() as connection:
        settled = await settled_hour(connection)
        end = min(period.end, settled)
        start = min(period.start.replace(minute=0, second=0, microsecond=0), end)
        whole = Period(start=start, end=end)
        raw = Period(start=min(max(start, kept_since(settled, usage_days)), end), end=end)
        findings = [
            await _find(connection, check, raw if check == "usage" else whole, limit)
            for check in CHECKS
        ]
        began_at = await instant(connection, _GET_BEGINNING)
    return Reconciled(findings=findings, began_at=began_at, settled_until=settled)


async def settled_hour(connection: Connection) -> datetime:
    """The end of the last hour of which all nodes have accounted."""
    found = await instant(connection, _GET_SETTLED_HOUR)
    if found is None:
        raise DatabaseError("the database does not tell the time")
    return found.astimezone(UTC)


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
        unknown=rows[0].unknown,
        mismatches=[found for row in rows if (found := row.mismatch())],
    )
