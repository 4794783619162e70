"""What a job of given size and length would cost: rated by the very rules of `rate`. Pure.

It is taken to use exactly what it asks for, so each method gives the same. A version that
begins while it runs prices its own part of the time.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from uuid import UUID

from aggregator.model import UNPRICED, BillId, MeterId, RatioId, ResourceType
from aggregator.rating import money
from aggregator.rating.price import EXACT
from aggregator.rating.rate import Charge, Meter, MethodVersion, RatioVersion, Record, rate
from aggregator.units import UNITS, Unit

_HOUR = timedelta(hours=1)
_MILLISECOND = timedelta(milliseconds=1)
_METER = MeterId(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A quantity of a resource, in base units."""

    type: ResourceType
    model: str | None
    vc: str
    quantity: int

    @property
    def unit(self) -> Unit:
        """The unit in which it is shown."""
        return UNITS[self.type]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotePart:
    """What is priced by one version; `version` None: nothing prices it. Amount undivided."""

    version: RatioVersion | None
    started_at: datetime
    ended_at: datetime
    billed: int
    amount: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class QuoteLine:
    """A resource with what it would cost."""

    wanted: Wanted
    parts: Sequence[QuotePart]

    @property
    def usage(self) -> float:
        """Unit-hours."""
        return money.usage(sum(part.billed for part in self.parts), self.wanted.unit)

    @property
    def exact(self) -> Fraction | None:
        """Money, exactly; None: a part of it has no price."""
        if any(part.version is None for part in self.parts):
            return None
        total = sum((Fraction(part.amount) for part in self.parts), Fraction(0))
        return total / self.wanted.unit.unit_hour

    @property
    def fee(self) -> float | None:
        """Money as the bill would print it; None: a part of it has no price."""
        exact = self.exact
        if exact is None:
            return None
        version = self.parts[0].version if len(self.parts) == 1 else None
        if version is not None:
            return money.fee_at(self.usage, version.value)
        return money.quotient(exact.numerator, exact.denominator)


def quote(
    wanted: Wanted,
    start: datetime,
    end: datetime,
    ratios: Iterable[RatioVersion],
    methods: Sequence[MethodVersion],
) -> QuoteLine:
    """What `wanted` would cost if it were held and used over [start, end)."""
    fitting = [
        ratio
        for ratio in ratios
        if ratio.key and ratio.key.covers(type_=wanted.type, model=wanted.model, vc=wanted.vc)
    ]
    cuts = _cuts(start, end, fitting, methods)
    records = [_record(wanted.quantity, one, other) for one, other in pairwise(cuts)]
    meter = Meter(
        meter_id=_METER,
        bill_id=BillId(UUID(int=0)),
        type=wanted.type,
        model=wanted.model,
        vc=wanted.vc,
        started_at=start,
    )
    charges = rate(records, {_METER: meter}, fitting, methods)
    by_id = {ratio.ratio_id: ratio for ratio in fitting}
    found: dict[RatioId, list[Charge]] = {}
    for charge in charges:
        found.setdefault(charge.ratio_id, []).append(charge)
    parts = [_part(by_id.get(ratio_id), group) for ratio_id, group in found.items()]
    return QuoteLine(wanted=wanted, parts=sorted(parts, key=lambda part: part.started_at))


def total(lines: Iterable[QuoteLine]) -> float | None:
    """The sum of all lines, rounded once; None: a part has no price."""
    exact = Fraction(0)
    for line in lines:
        if line.exact is None:
            return None
        exact += line.exact
    return money.quotient(exact.numerator, exact.denominator)


def _cuts(
    start: datetime,
    end: datetime,
    ratios: Iterable[RatioVersion],
    methods: Iterable[MethodVersion],
) -> list[datetime]:
    """Where records must be cut: whole hours, and whatever begins or ends in between."""
    cuts = {start, end}
    hour = start.replace(minute=0, second=0, microsecond=0) + _HOUR
    while hour < end:
        cuts.add(hour)
        hour += _HOUR
    changes = [at for version in ratios for at in (version.starts_at, version.ends_at)]
    changes += [at for version in methods for at in (version.starts_at, version.ends_at)]
    cuts.update(at for at in changes if at and start < at < end)
    return sorted(cuts)


def _record(quantity: int, start: datetime, end: datetime) -> Record:
    length = (end - start) // _MILLISECOND
    amount = quantity * length
    return Record(
        meter_id=_METER,
        started_at=start,
        ended_at=end,
        allocated=amount,
        used=amount,
        effective=amount,
        observed_ms=length,
    )


def _part(version: RatioVersion | None, charges: Sequence[Charge]) -> QuotePart:
    amount = Decimal(0)
    for charge in charges:
        amount = EXACT.add(amount, charge.amount)
    assert version is not None or all(charge.ratio_id == UNPRICED for charge in charges)
    return QuotePart(
        version=version,
        started_at=min(charge.started_at for charge in charges),
        ended_at=max(charge.ended_at for charge in charges),
        billed=sum(charge.billed for charge in charges),
        amount=amount,
    )
