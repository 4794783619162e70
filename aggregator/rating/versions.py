"""How a declaration changes the versions of one key: decided here, done by SQL.

A key is a ratio's, a method's type, or whatever else has one value at any time. Validity is
half-open and lies on whole minutes. A change takes effect at the next whole minute; a key
with nothing in force takes effect at the beginning of the current one, so that set-then-run
is priced. An equal value makes no version. A version that is replaced before it took effect
keeps its row with `starts_at = ends_at`. Pure.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Generic, TypeVar

Value = TypeVar("Value")

_MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Version(Generic[Value]):
    """A value in force over [starts_at, ends_at); None: until something changes it.

    `version_id` is the row's; below zero: it has none yet.
    """

    version_id: int
    value: Value
    starts_at: datetime
    ends_at: datetime | None

    def holds(self, at: datetime) -> bool:
        """Whether it is in force at an instant."""
        return self.starts_at <= at and self.ends_after(at)

    def ends_after(self, at: datetime) -> bool:
        """Whether it is in force at some instant after this one."""
        return self.ends_at is None or at < self.ends_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration(Generic[Value]):
    """A value to put in force over [start, end).

    `start` None: as soon as may be. `end` None: until the next version that is declared
    already; else the value of before comes back at `end`. `is_retroactive`: it may begin in
    the past, on a whole hour.
    """

    value: Value
    start: datetime | None = None
    end: datetime | None = None
    is_retroactive: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening(Generic[Value]):
    """A version to insert."""

    value: Value
    starts_at: datetime
    ends_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change(Generic[Value]):
    """New ends of versions that exist, to be written before the new versions."""

    closes: tuple[tuple[int, datetime], ...] = ()
    opens: tuple[Opening[Value], ...] = ()


class StartError(ValueError):
    """A start that no new version may have; the text says why."""


class EndError(ValueError):
    """An end that no new version may have; the text says why."""


class OverlapError(EndError):
    """Another version begins within the range that was asked for."""


def next_minute(now: datetime) -> datetime:
    """The first whole minute after an instant: when a change takes effect."""
    return now.replace(second=0, microsecond=0) + _MINUTE


def held_at(versions: Iterable[Version[Value]], at: datetime) -> Version[Value] | None:
    """The version in force at an instant; None: there is none."""
    return next((version for version in versions if version.holds(at)), None)


def declared(versions: Sequence[Version[Value]], now: datetime) -> Version[Value] | None:
    """What was declared last, scheduled changes aside: in force at the next minute."""
    return held_at(versions, next_minute(now))


def effect_of(wanted: Declaration[Value], now: datetime) -> datetime:
    """The instant from which a declaration decides what is in force."""
    return next_minute(now) if wanted.start is None else wanted.start


def declare(
    versions: Sequence[Version[Value]], wanted: Declaration[Value], now: datetime
) -> Change[Value] | None:
    """The change that puts a value in force as it was declared.

    `versions` are those of the key that hold at `now`, or at an earlier start, or later, by
    start. None: the value is in force then already. Raises StartError and EndError.
    """
    effect = effect_of(wanted, now)
    _check(wanted, now)
    held = held_at(versions, effect)
    at = effect
    if wanted.start is None and not held_at(versions, now):
        at = effect - _MINUTE
    follower = next((each for each in versions if effect < each.starts_at != each.ends_at), None)
    end = _end(wanted, effect, held, follower)
    if held and held.value == wanted.value and held.holds(at) and _reaches(held, end):
        return None
    opens = [Opening(value=wanted.value, starts_at=at, ends_at=end)]
    if held and wanted.end and held.ends_after(wanted.end):
        opens.append(Opening(value=held.value, starts_at=wanted.end, ends_at=held.ends_at))
    return Change(closes=((held.version_id, effect),) if held else (), opens=tuple(opens))


def applied(versions: Sequence[Version[Value]], change: Change[Value]) -> Sequence[Version[Value]]:
    """The versions after a change, by start; those that it opens have ids below zero."""
    ends = dict(change.closes)
    free = min((0, *(version.version_id for version in versions))) - 1
    kept = [replace(each, ends_at=ends.get(each.version_id, each.ends_at)) for each in versions]
    new = [
        Version(
            version_id=free - number,
            value=opening.value,
            starts_at=opening.starts_at,
            ends_at=opening.ends_at,
        )
        for number, opening in enumerate(change.opens)
    ]
    return sorted([*kept, *new], key=lambda each: each.starts_at)


def net_change(
    before: Sequence[Version[Value]], after: Sequence[Version[Value]]
) -> Change[Value] | None:
    """The one change that leads from one to the other; None: they are the same."""
    known = {version.version_id: version.ends_at for version in before}
    closes = tuple(
        (each.version_id, each.ends_at)
        for each in after
        if each.version_id in known and each.ends_at and each.ends_at != known[each.version_id]
    )
    opens = tuple(
        Opening(value=each.value, starts_at=each.starts_at, ends_at=each.ends_at)
        for each in after
        if each.version_id not in known and each.starts_at != each.ends_at
    )
    return Change(closes=closes, opens=opens) if closes or opens else None


def withdraw(versions: Sequence[Version[Value]], now: datetime) -> Change[Value] | None:
    """The change that leaves the key without a value, scheduled ones included.

    None: there is nothing to withdraw.
    """
    at = next_minute(now)
    closes = tuple(
        (version.version_id, max(version.starts_at, at))
        for version in versions
        if version.ends_after(at) and version.starts_at != version.ends_at
    )
    return Change(closes=closes) if closes else None


def _check(wanted: Declaration[Value], now: datetime) -> None:
    start, end = wanted.start, wanted.end
    if start is not None and _is_off_minute(start):
        raise StartError("must be a whole minute")
    if end is not None and _is_off_minute(end):
        raise EndError("must be a whole minute")
    if start is not None and start <= now:
        _check_past(start, is_retroactive=wanted.is_retroactive)
    if end is not None and end <= (start or now):
        raise EndError("must be after the start")
    if end is not None and end <= now and end.minute:
        raise EndError("must be a whole hour, since it lies in the past")


def _check_past(start: datetime, *, is_retroactive: bool) -> None:
    if not is_retroactive:
        raise StartError(
            "must be in the future: what has been used keeps its price, unless the change is "
            "retroactive and the usage is rated again"
        )
    if start.minute:
        raise StartError("must be a whole hour, since it lies in the past")


def _is_off_minute(instant: datetime) -> bool:
    return bool(instant.second or instant.microsecond)


def _end(
    wanted: Declaration[Value],
    effect: datetime,
    held: Version[Value] | None,
    follower: Version[Value] | None,
) -> datetime | None:
    """Where the new version ends; OverlapError if another one begins before."""
    if wanted.end is None:
        return held.ends_at if held else follower.starts_at if follower else None
    if wanted.end <= effect:
        raise EndError("must be after the change takes effect")
    if follower and follower.starts_at < wanted.end:
        raise OverlapError(
            f"overlaps the value {follower.value} that is declared from "
            f"{follower.starts_at:%Y-%m-%dT%H:%MZ} on"
        )
    return wanted.end


def _reaches(held: Version[Value], end: datetime | None) -> bool:
    """Whether the version holds until `end` by itself."""
    return held.ends_at is None or (end is not None and held.ends_at >= end)
