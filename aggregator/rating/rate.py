"""The rater's rules as a pure model: records and prices in, charges, bills and accounts out.

The rater itself is SQL over sets; this module states the same rules (RATING 1-6) in
integers and Decimal, one record at a time, so that each can be read, tested, and held
against the other. Nothing here depends on the order of its input.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import assert_never

from aggregator.model import UNPRICED, BillId, MeterId, Method, RatioId, ResourceType
from aggregator.rating.price import EXACT
from aggregator.rating.ratio import RatioKey, most_specific


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    """What decides the price of a meter's records, and the item that they belong to."""

    meter_id: MeterId
    bill_id: BillId
    type: ResourceType
    model: str | None
    vc: str
    started_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What one meter accrued in one window, in base unit x ms; within one minute."""

    meter_id: MeterId
    started_at: datetime
    ended_at: datetime
    allocated: int
    used: int
    effective: int
    observed_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RatioVersion:
    """A price per unit-hour of what `key` covers, in force over [starts_at, ends_at).

    `key` is None where the text of the key matches no usage.
    """

    ratio_id: RatioId
    key: RatioKey | None
    value: Decimal
    starts_at: datetime
    ends_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodVersion:
    """The method in force for a type over [starts_at, ends_at); None is without end."""

    type: ResourceType
    method: Method
    starts_at: datetime | None = None
    ends_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """Rated usage of one meter, one hour, one ratio version; amount is undivided."""

    hour: datetime
    meter_id: MeterId
    ratio_id: RatioId
    bill_id: BillId
    started_at: datetime
    ended_at: datetime
    allocated: int
    used: int
    effective: int
    billed: int
    length_ms: int
    observed_ms: int
    amount: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountHour:
    """What one meter of a node's accounts holds in one hour: sums that nothing prices."""

    hour: datetime
    meter_id: MeterId
    allocated: int
    used: int
    effective: int
    length_ms: int
    observed_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """The totals of one item: the sum of its charges, and under how many prices."""

    bill_id: BillId
    started_at: datetime
    ended_at: datetime
    allocated: int
    used: int
    effective: int
    billed: int
    unpriced: int
    length_ms: int
    observed_ms: int
    amount: Decimal
    ratio_id: RatioId | None
    is_mixed: bool


def rate(
    records: Iterable[Record],
    meters: Mapping[MeterId, Meter],
    ratios: Sequence[RatioVersion],
    methods: Sequence[MethodVersion],
) -> list[Charge]:
    """The charges of the records, ordered by hour, meter and ratio."""
    charges: dict[tuple[datetime, MeterId, RatioId], Charge] = {}
    for record in records:
        charge = _charge(record, meters[record.meter_id], ratios, methods)
        key = (charge.hour, charge.meter_id, charge.ratio_id)
        charges[key] = add(charges[key], charge) if key in charges else charge
    return [charges[key] for key in sorted(charges)]


def total(charges: Iterable[Charge], meters: Iterable[Meter]) -> dict[BillId, Bill]:
    """The bill of every meter's item; an item without charges is there, at zero."""
    charged: dict[BillId, list[Charge]] = {}
    began: dict[BillId, datetime] = {}
    for meter in meters:
        charged[meter.bill_id] = []
        began[meter.bill_id] = min(began.get(meter.bill_id, meter.started_at), meter.started_at)
    for charge in charges:
        charged[charge.bill_id].append(charge)
    return {item: _bill(item, began[item], rows) for item, rows in charged.items()}


def account_hours(records: Iterable[Record]) -> list[AccountHour]:
    """The sums of the records of accounts, ordered by hour and meter."""
    hours: dict[tuple[datetime, MeterId], list[Record]] = {}
    for record in records:
        hours.setdefault((_hour(record), record.meter_id), []).append(record)
    return [
        AccountHour(
            hour=hour,
            meter_id=meter_id,
            allocated=sum(record.allocated for record in rows),
            used=sum(record.used for record in rows),
            effective=sum(record.effective for record in rows),
            length_ms=sum(_length_ms(record) for record in rows),
            observed_ms=sum(record.observed_ms for record in rows),
        )
        for (hour, meter_id), rows in sorted(hours.items())
    ]


def price_in_force(
    ratios: Iterable[RatioVersion], meter: Meter, at: datetime
) -> RatioVersion | None:
    """The version that prices the meter's usage at an instant; None: it is unpriced."""
    in_force = {
        ratio.key: ratio
        for ratio in ratios
        if ratio.key is not None
        and ratio.key.covers(type_=meter.type, model=meter.model, vc=meter.vc)
        and _holds(ratio.starts_at, ratio.ends_at, at)
    }
    best = most_specific(in_force)
    return None if best is None else in_force[best]


def method_in_force(methods: Iterable[MethodVersion], type_: ResourceType, at: datetime) -> Method:
    """The method of a type at an instant; each type has exactly one at any time."""
    (method,) = (
        version.method
        for version in methods
        if version.type is type_ and _holds(version.starts_at, version.ends_at, at)
    )
    return method


def _holds(starts_at: datetime | None, ends_at: datetime | None, at: datetime) -> bool:
    return (starts_at is None or starts_at <= at) and (ends_at is None or at < ends_at)


def _charge(
    record: Record,
    meter: Meter,
    ratios: Sequence[RatioVersion],
    methods: Sequence[MethodVersion],
) -> Charge:
    ratio = price_in_force(ratios, meter, record.started_at)
    billed = _billed(record, method_in_force(methods, meter.type, record.started_at))
    amount = Decimal(0) if ratio is None else EXACT.multiply(Decimal(billed), ratio.value)
    return Charge(
        hour=_hour(record),
        meter_id=meter.meter_id,
        ratio_id=UNPRICED if ratio is None else ratio.ratio_id,
        bill_id=meter.bill_id,
        started_at=record.started_at,
        ended_at=record.ended_at,
        allocated=record.allocated,
        used=record.used,
        effective=record.effective,
        billed=billed,
        length_ms=_length_ms(record),
        observed_ms=record.observed_ms,
        amount=amount,
    )


def _hour(record: Record) -> datetime:
    return record.started_at.replace(minute=0, second=0, microsecond=0)


def _length_ms(record: Record) -> int:
    return (record.ended_at - record.started_at) // timedelta(milliseconds=1)


def _billed(record: Record, method: Method) -> int:
    match method:
        case Method.EFFECTIVE:
            return record.effective
        case Method.REQUEST:
            return record.allocated
        case Method.USAGE:
            return record.used
        case _:
            assert_never(method)


def add(one: Charge, other: Charge) -> Charge:
    """Two charges of one key as one."""
    return Charge(
        hour=one.hour,
        meter_id=one.meter_id,
        ratio_id=one.ratio_id,
        bill_id=one.bill_id,
        started_at=min(one.started_at, other.started_at),
        ended_at=max(one.ended_at, other.ended_at),
        allocated=one.allocated + other.allocated,
        used=one.used + other.used,
        effective=one.effective + other.effective,
        billed=one.billed + other.billed,
        length_ms=one.length_ms + other.length_ms,
        observed_ms=one.observed_ms + other.observed_ms,
        amount=EXACT.add(one.amount, other.amount),
    )


def _bill(bill_id: BillId, began: datetime, charges: Sequence[Charge]) -> Bill:
    amount = Decimal(0)
    for charge in charges:
        amount = EXACT.add(amount, charge.amount)
    versions = {charge.ratio_id for charge in charges}
    return Bill(
        bill_id=bill_id,
        started_at=began,
        ended_at=max((charge.ended_at for charge in charges), default=began),
        allocated=sum(charge.allocated for charge in charges),
        used=sum(charge.used for charge in charges),
        effective=sum(charge.effective for charge in charges),
        billed=sum(charge.billed for charge in charges),
        unpriced=sum(charge.billed for charge in charges if charge.ratio_id == UNPRICED),
        length_ms=sum(charge.length_ms for charge in charges),
        observed_ms=sum(charge.observed_ms for charge in charges),
        amount=amount,
        ratio_id=min(versions) if len(versions) == 1 else None,
        is_mixed=len(versions) > 1,
    )
