"""How a declaration changes the versions of one ratio key: decided here, done by SQL.

Validity is half-open and lies on whole minutes. A change takes effect at the next whole
minute; a key with nothing in force takes effect at the beginning of the current one, so
that set-then-run is priced. An equal value makes no version. A version that is replaced
before it took effect keeps its row with `starts_at = ends_at`. Pure.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from aggregator.model import RatioId

_MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A value in force over [starts_at, ends_at); None: until something changes it."""

    ratio_id: RatioId
    value: Decimal
    starts_at: datetime
    ends_at: datetime | None

    def holds(self, at: datetime) -> bool:
        """Whether it is in force at an instant."""
        return self.starts_at <= at and self.ends_after(at)

    def ends_after(self, at: datetime) -> bool:
        """Whether it is in force at some instant after this one."""
        return self.ends_at is None or at < self.ends_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """A version to insert."""

    value: Decimal
    starts_at: datetime
    ends_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """New ends of versions that exist, to be written before the new version."""

    closes: tuple[tuple[RatioId, datetime], ...] = ()
    opens: Opening | None = None


class StartError(ValueError):
    """A start that no new version may have; the text says why."""


def next_minute(now: datetime) -> datetime:
    """The first whole minute after an instant: when a change takes effect."""
    return now.replace(second=0, microsecond=0) + _MINUTE


def declared(versions: Sequence[Version], now: datetime) -> Version | None:
    """What was declared last, scheduled changes aside: in force at the next minute."""
    at = next_minute(now)
    return next((version for version in versions if version.holds(at)), None)


def declare(
    versions: Sequence[Version], value: Decimal, now: datetime, start: datetime | None = None
) -> Change | None:
    """The change that puts `value` in force from `start` (None: as soon as may be).

    `versions` are those of the key that hold at `now` or later, by start. A version that
    is scheduled for after the new one stays. None: the value is in force then already.
    Raises StartError for a start off the minute or not in the future.
    """
    if start is None:
        effect = next_minute(now)
        at = effect if any(version.holds(now) for version in versions) else effect - _MINUTE
    else:
        effect = at = _checked(start, now)
    replaced = next((version for version in versions if version.holds(effect)), None)
    if replaced is None:
        later = (version.starts_at for version in versions if version.starts_at > effect)
        return Change(opens=Opening(value=value, starts_at=at, ends_at=min(later, default=None)))
    if replaced.value == value and replaced.holds(at):
        return None
    return Change(
        closes=((replaced.ratio_id, effect),),
        opens=Opening(value=value, starts_at=at, ends_at=replaced.ends_at),
    )


def withdraw(versions: Sequence[Version], now: datetime) -> Change | None:
    """The change that leaves the key without a price, scheduled ones included.

    None: there is nothing to withdraw.
    """
    at = next_minute(now)
    closes = tuple(
        (version.ratio_id, max(version.starts_at, at))
        for version in versions
        if version.ends_after(at)
    )
    return Change(closes=closes) if closes else None


def _checked(start: datetime, now: datetime) -> datetime:
    if start.second or start.microsecond:
        raise StartError("must be a whole minute")
    if start <= now:
        raise StartError("must be in the future: what has been used keeps its price")
    return start
