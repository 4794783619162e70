"""What of a period has no price yet, in the words of whoever can still give it one."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from aggregator.billing.database import Connection, rows_of
from aggregator.billing.periods import bounds
from aggregator.model import Period, ResourceType
from aggregator.rating import money
from aggregator.rating.month import month_name
from aggregator.rating.ratio import RatioKey
from aggregator.store.queries import query
from aggregator.units import UNITS

_LIST_UNPRICED_USAGE = query("list_unpriced_usage")

MAX_KEYS: Final = 10
"""That are named one by one."""

_HOUR: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnpricedUsage:
    """Usage of a type, and of devices of a model, that no ratio prices.

    It lies in the hours from `first_hour` to `last_hour`; `billed` is in base unit x ms.
    """

    type: str
    model: str | None
    items: int
    billed: Decimal
    first_hour: datetime
    last_hour: datetime

    @property
    def key(self) -> str:
        """The key of a ratio that would price all of it."""
        return str(RatioKey(type=ResourceType(self.type), model=self.model))

    def __str__(self) -> str:
        unit = UNITS[self.type]
        hours = money.usage(int(self.billed), unit)
        name = "device" if self.type in {"gpu", "npu"} else unit.name
        plural = "" if self.items == 1 else "s"
        return (
            f"{self.key}: {hours:.10g} {name}-hours of {self.items} item{plural}, "
            f"from {self.first_hour:%Y-%m-%dT%H:%MZ} to {self.last_hour + _HOUR:%Y-%m-%dT%H:%MZ}"
        )

    def remedy(self) -> Sequence[str]:
        """The commands that price it."""
        key = shlex.quote(self.key)
        start, end = f"{self.first_hour:%Y-%m-%dT%H:%MZ}", self.last_hour + _HOUR
        return (
            f"nodemeter ratios set {key} PRICE --from {start} --retroactive",
            f"nodemeter rerate --from {start} --to {end:%Y-%m-%dT%H:%MZ} --key {key} --reason WHY",
        )


async def list_unpriced(connection: Connection, period: Period) -> Sequence[UnpricedUsage]:
    """What counts in a period, was used in it, and has no price; by key."""
    return await rows_of(connection, _LIST_UNPRICED_USAGE, bounds(period), UnpricedUsage)


def lines_about(period: Period, found: Sequence[UnpricedUsage]) -> Sequence[str]:
    """How much of which keys there is, and what would price it; or how to go on without. Pure."""
    shown = found[:MAX_KEYS]
    more = [f"and {len(found) - MAX_KEYS} more keys"] if len(found) > MAX_KEYS else []
    return (
        f"{month_name(period)} has usage without a price; if priced later, it counts elsewhere:",
        *(f"  {each}" for each in shown),
        *(f"  {each}" for each in more),
        "Price it, rate it again, and close then:",
        *(f"  {line}" for each in shown for line in each.remedy()),
        "or close it as it is, with --with-unpriced (withUnpriced in a request).",
    )
