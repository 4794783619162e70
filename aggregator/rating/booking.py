"""Closed periods and re-rating as a pure model: charges in, lines and bills out.

A line is what counts in an hour: a charge, or an adjustment that changes one which may not
be edited (RATING 7-9). The rater does this in SQL over sets; here the same rules stand one
line at a time, in integers and Decimal, to be read and held against it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Literal

from aggregator.model import UNPRICED, BillId, MeterId, Period, RatioId
from aggregator.rating.price import EXACT
from aggregator.rating.rate import Bill, Charge, Meter, RatioVersion, add, price_in_force, total
from aggregator.rating.ratio import RatioKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A charge that counts in `hour`, or one that is added or (signed) taken back there.

    `charge.hour` is the hour of the usage: another one only where that is closed.
    """

    hour: datetime
    kind: Literal["charge", "late", "reversal", "rerated"]
    charge: Charge


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """What is closed: all before `closed_until`. What comes too late counts in `now_hour`.

    Before `sealed_until` no charge changes any more: what comes later is a line beside it.
    """

    closed_until: datetime | None
    now_hour: datetime
    sealed_until: datetime | None = None

    def is_closed(self, hour: datetime) -> bool:
        """Whether nothing may be added to an hour."""
        return self.closed_until is not None and hour < self.closed_until

    def is_sealed(self, hour: datetime) -> bool:
        """Whether its charges stay as they are; a closed hour is sealed in any case."""
        is_past = self.sealed_until is not None and hour < self.sealed_until
        return is_past or self.is_closed(hour)

    def hour_of(self, hour: datetime) -> datetime:
        """Where a line for usage of an hour counts."""
        return self.now_hour if self.is_closed(hour) else hour


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Which hours to rate again; `key`: only the usage that it covers, None: all."""

    hours: Period
    key: RatioKey | None = None

    def covers(self, charge: Charge, meter: Meter) -> bool:
        """Whether a charge is to be rated again."""
        key = self.key
        return self.hours.start <= charge.hour < self.hours.end and (
            key is None or key.covers(type_=meter.type, model=meter.model, vc=meter.vc)
        )


def book(charges: Iterable[Charge], books: Books) -> list[Line]:
    """The lines that rated usage makes: charges, or adjustments where its hour is sealed."""
    return [
        Line(
            hour=books.hour_of(charge.hour),
            kind="late" if books.is_sealed(charge.hour) else "charge",
            charge=charge,
        )
        for charge in charges
    ]


def left(lines: Iterable[Line]) -> list[Charge]:
    """What is left of each charge after all that was booked for it, by hour, meter and ratio."""
    sums: dict[tuple[datetime, MeterId, RatioId], Charge] = {}
    for line in lines:
        key = (line.charge.hour, line.charge.meter_id, line.charge.ratio_id)
        sums[key] = add(sums[key], line.charge) if key in sums else line.charge
    return [sums[key] for key in sorted(sums) if sums[key].length_ms > 0]


def rerate(
    lines: Iterable[Line],
    meters: Mapping[MeterId, Meter],
    ratios: Sequence[RatioVersion],
    order: Order,
    books: Books,
) -> list[Line]:
    """The lines to append so that each hour has the prices that are in force now.

    A charge is rated whole, at the price in force when its usage began; prices of the past
    change on whole hours only.
    """
    appended: list[Line] = []
    for charge in left(lines):
        meter = meters[charge.meter_id]
        if not order.covers(charge, meter):
            continue
        new = price_in_force(ratios, meter, charge.started_at)
        if _is_another(charge, new):
            hour = books.hour_of(charge.hour)
            appended += [
                Line(hour=hour, kind="reversal", charge=_taken_back(charge)),
                Line(hour=hour, kind="rerated", charge=_priced(charge, new)),
            ]
    return appended


def total_of(lines: Iterable[Line], meters: Iterable[Meter]) -> dict[BillId, Bill]:
    """The bill of every meter's item: of what is left of its charges."""
    return total(left(lines), meters)


def _is_another(charge: Charge, new: RatioVersion | None) -> bool:
    """Whether it is another price, or comes to another amount."""
    if new is None or charge.ratio_id == UNPRICED:
        return (new is None) != (charge.ratio_id == UNPRICED)
    return charge.amount != EXACT.multiply(Decimal(charge.billed), new.value)


def _priced(charge: Charge, new: RatioVersion | None) -> Charge:
    if new is None:
        return replace(charge, ratio_id=UNPRICED, amount=Decimal(0))
    amount = EXACT.multiply(Decimal(charge.billed), new.value)
    return replace(charge, ratio_id=new.ratio_id, amount=amount)


def _taken_back(charge: Charge) -> Charge:
    return replace(
        charge,
        allocated=-charge.allocated,
        used=-charge.used,
        effective=-charge.effective,
        billed=-charge.billed,
        length_ms=-charge.length_ms,
        observed_ms=-charge.observed_ms,
        amount=EXACT.minus(charge.amount),
    )
