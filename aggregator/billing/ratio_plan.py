"""What a declaration of ratios does to their versions, and how that is told. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import pairwise
from typing import Literal, TypeAlias

from aggregator.billing.audit import Entry, Subject
from aggregator.rating.money import plain
from aggregator.rating.versions import (
    Change,
    Declaration,
    EndError,
    StartError,
    Version,
    applied,
    declare,
    declared,
    effect_of,
    held_at,
    net_change,
    withdraw,
)

Versions: TypeAlias = Sequence[Version[Decimal]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """A value to declare for a key, over [start, end); see `Declaration`."""

    key: str
    value: Decimal
    start: datetime | None = None
    end: datetime | None = None
    is_retroactive: bool = False

    def declaration(self) -> Declaration[Decimal]:
        """The same without its key."""
        return Declaration(
            value=self.value, start=self.start, end=self.end, is_retroactive=self.is_retroactive
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What a change does to one key: from `old` (None: nothing declared) to `new`.

    `effective_at`: when it takes effect; None where nothing changes. `effective_until`:
    when it ends; None: when something changes it.
    """

    key: str
    action: Literal["add", "change", "delete", "keep"]
    old: Decimal | None
    new: Decimal | None
    effective_at: datetime | None
    effective_until: datetime | None = None


class RangeError(ValueError):
    """A ratio cannot hold over the range that was asked for; the text says why."""

    def __init__(self, ratio: Ratio, bound: Literal["start", "end"], reason: str) -> None:
        """Keep which ratio and which end of its range."""
        super().__init__(reason)
        self.ratio = ratio
        self.bound: Literal["start", "end"] = bound


def plan(
    versions: Versions, ratios: Sequence[Ratio], now: datetime
) -> tuple[Change[Decimal] | None, Sequence[Difference]]:
    """The one change that declares ratios of one key in turn, and what each of them does.

    Those without a start come first, the others by start. Raises RangeError.
    """
    _check_apart(ratios)
    after, differences = versions, list[Difference]()
    for ratio in ratios:
        change = _declare(after, ratio, now)
        differences.append(_difference(after, ratio, change, now))
        after = applied(after, change) if change else after
    return net_change(versions, after), differences


def plan_deletion(
    key: str, versions: Versions, now: datetime
) -> tuple[Change[Decimal] | None, Difference | None]:
    """The change that leaves a key without a price; None twice if it has none."""
    change = withdraw(versions, now)
    if change is None:
        return None, None
    before = declared(versions, now)
    return change, Difference(
        key=key,
        action="delete",
        old=before.value if before else None,
        new=None,
        effective_at=change.closes[0][1],
    )


def check_open(ratio: Ratio, difference: Difference, closed_until: datetime | None) -> None:
    """Raise RangeError for a change of what was in force in a closed period.

    Where nothing was, a price may be given later: what it comes to is booked where it is open.
    """
    is_closed = closed_until and ratio.start and ratio.start < closed_until
    if is_closed and difference.old is not None:
        raise RangeError(
            ratio,
            "start",
            "lies in a closed period, of which no price changes, and this key had one:"
            f" {closed_until:%Y-%m-%dT%H:%MZ} is the earliest start",
        )


def _check_apart(ratios: Sequence[Ratio]) -> None:
    """Raise RangeError for one that begins where another of the list has not ended."""
    for one, other in pairwise(ratios):
        if one.start == other.start:
            raise RangeError(other, "start", "another price of the list starts there, too")
        if one.end and other.start and other.start < one.end:
            raise RangeError(
                other, "start", f"overlaps a price of the list that ends {one.end:%Y-%m-%dT%H:%MZ}"
            )


def _declare(
    versions: Sequence[Version[Decimal]], ratio: Ratio, now: datetime
) -> Change[Decimal] | None:
    try:
        return declare(versions, ratio.declaration(), now)
    except StartError as error:
        raise RangeError(ratio, "start", str(error)) from error
    except EndError as error:
        raise RangeError(ratio, "end", str(error)) from error


def _difference(
    versions: Sequence[Version[Decimal]],
    ratio: Ratio,
    change: Change[Decimal] | None,
    now: datetime,
) -> Difference:
    before = held_at(versions, effect_of(ratio.declaration(), now))
    opening = change.opens[0] if change else None
    return Difference(
        key=ratio.key,
        action="keep" if change is None else "change" if before else "add",
        old=before.value if before else None,
        new=ratio.value,
        effective_at=opening.starts_at if opening else None,
        effective_until=opening.ends_at if opening else None,
    )


def audit_entry(difference: Difference) -> Entry:
    """The change as the audit keeps it."""
    return Entry(
        subject=Subject.RATIO,
        key=difference.key,
        action=difference.action,
        old_value=None if difference.old is None else plain(difference.old),
        new_value=None if difference.new is None else plain(difference.new),
        effective_at=difference.effective_at,
        effective_until=difference.effective_until,
    )
