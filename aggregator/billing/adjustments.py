"""Adjustments: what was booked for usage whose charges could not be edited."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal
from uuid import UUID

from aggregator.billing.database import Database, Listing, listing_of
from aggregator.model import Period, ResourceType
from aggregator.rating import money
from aggregator.rating.month import month_at, month_name
from aggregator.store.queries import query
from aggregator.units import UNITS, Unit

_LIST_ADJUSTMENTS = query("list_adjustments")


@dataclass(frozen=True, slots=True, kw_only=True)
class AdjustmentFilter:
    """Which adjustments; None is any. `booked` and `used` are by the hour."""

    booked: Period | None = None
    used: Period | None = None
    rerate_id: int | None = None
    bill_id: UUID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Adjustment:
    """A line: `billed` in base unit x ms and `amount`, both signed, at `price`.

    It counts in `hour`, for usage of `used_hour`; `price` None: there was no ratio.
    """

    adjustment_id: int
    hour: datetime
    used_hour: datetime
    kind: Literal["late", "reversal", "rerated"]
    rerate_id: int | None
    booked_at: datetime
    started_at: datetime
    ended_at: datetime
    bill_id: UUID
    cluster: str
    job_id: str
    job_name: str
    username: str | None
    vc: str
    type: str
    model: str | None
    billed: Decimal
    amount: Decimal
    key: str | None
    price: Decimal | None

    @property
    def unit(self) -> Unit:
        """The unit of its usage."""
        return UNITS[ResourceType(self.type)]

    @property
    def usage(self) -> float:
        """Unit-hours, signed."""
        return money.usage(int(self.billed), self.unit)

    @property
    def fee(self) -> float:
        """Money, signed."""
        return money.fee(self.amount, self.unit)

    @property
    def period(self) -> str:
        """The period in which it counts."""
        return month_name(month_at(self.hour))

    @property
    def used_period(self) -> str:
        """The period of the usage: another one if that was closed."""
        return month_name(month_at(self.used_hour))


@asynccontextmanager
async def list_adjustments(
    database: Database, which: AdjustmentFilter
) -> AsyncGenerator[Listing[Adjustment]]:
    """Open the list of adjustments that match, by when they were booked."""
    booked, used = which.booked, which.used
    parameters = {
        "booked_from": booked and booked.start,
        "booked_until": booked and booked.end,
        "used_from": used and used.start,
        "used_until": used and used.end,
        "rerate_id": which.rerate_id,
        "bill_id": which.bill_id,
    }
    async with (
        database.reading() as connection,
        listing_of(connection, _LIST_ADJUSTMENTS, parameters, Adjustment) as rows,
    ):
        yield rows
