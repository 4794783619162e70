"""Claims about how a declaration changes the versions of a ratio."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.rating.versions import (
    Change,
    Declaration,
    EndError,
    OverlapError,
    StartError,
    Version,
    applied,
    declare,
    declared,
    net_change,
    next_minute,
    withdraw,
)

Price = Version[Decimal]


def at(text: str) -> datetime:
    """An instant of the day of the tests."""
    return datetime.fromisoformat(f"2026-02-06T{text}+00:00")


def version(value: int, start: str, end: str | None = None, number: int = 1) -> Price:
    """A version on the day of the tests."""
    ends_at = None if end is None else at(end)
    return Version(version_id=number, value=Decimal(value), starts_at=at(start), ends_at=ends_at)


def wanted(
    value: str | int, start: str | None = None, end: str | None = None, *, late: bool = False
) -> Declaration[Decimal]:
    """A declaration on the day of the tests; `late`: it may begin in the past."""
    return Declaration(
        value=Decimal(value),
        start=None if start is None else at(start),
        end=None if end is None else at(end),
        is_retroactive=late,
    )


def apply(history: list[Price], change: Change[Decimal] | None) -> list[Price]:
    """All versions after a change, as the database numbers them."""
    after = applied(history, change) if change else history
    fresh = max((v.version_id for v in history), default=0) + 1
    return [v if v.version_id > 0 else replace(v, version_id=fresh - v.version_id) for v in after]


def live(history: list[Price], now: datetime) -> list[Price]:
    """What the database hands to a decision: no empty version, none that is over."""
    return [v for v in history if v.starts_at != v.ends_at and v.ends_after(now)]


def test_the_first_value_starts_with_the_current_minute() -> None:
    """So that a job launched right after is priced from its first second."""
    change = declare([], wanted(5), at("10:05:42"))
    assert change is not None
    assert not change.closes
    assert (change.opens[0].starts_at, change.opens[0].ends_at) == (at("10:05:00"), None)


@pytest.mark.parametrize("now", ["10:05:00", "10:05:42", "10:05:59.999999"])
def test_a_change_takes_effect_at_the_next_whole_minute(now: str) -> None:
    """The old version is closed where the new one begins."""
    change = declare([version(5, "09:00")], wanted(6), at(now))
    assert change is not None
    assert change.closes == ((1, at("10:06:00")),)
    assert change.opens[0].starts_at == at("10:06:00")


def test_an_equal_value_makes_no_version() -> None:
    """5 and 5.00 are one price."""
    assert declare([version(5, "09:00")], wanted("5.00"), at("10:05:42")) is None


def test_a_pending_version_that_is_replaced_becomes_empty() -> None:
    """Its row stays, with starts_at = ends_at."""
    versions = [version(5, "09:00", "10:06"), version(6, "10:06", number=2)]
    change = declare(versions, wanted(7), at("10:05:50"))
    assert change is not None
    assert change.closes == ((2, at("10:06:00")),)
    assert change.opens[0].starts_at == at("10:06:00")


def test_a_value_set_right_after_a_deletion_follows_without_a_gap() -> None:
    """The closed version still holds until the minute is over."""
    change = declare([version(5, "09:00", "10:06")], wanted(5), at("10:05:50"))
    assert change is not None
    assert not change.closes
    assert change.opens[0].starts_at == at("10:06:00")


def test_a_scheduled_version_stays_when_today_changes() -> None:
    """An increase for noon is not lost by a correction at ten."""
    versions = [version(5, "09:00", "12:00"), version(9, "12:00", number=2)]
    change = declare(versions, wanted(6), at("10:05:42"))
    assert change is not None
    assert change.opens[0].ends_at == at("12:00:00")
    first = declare(versions[1:], wanted(6), at("10:05:42"))
    assert first is not None
    assert (first.opens[0].starts_at, first.opens[0].ends_at) == (at("10:05:00"), at("12:00:00"))


def test_a_change_can_be_scheduled() -> None:
    """The version in force ends where the scheduled one begins."""
    change = declare([version(5, "09:00")], wanted(6, "12:00"), at("10:05:42"))
    assert change is not None
    assert change.closes == ((1, at("12:00")),)


@pytest.mark.parametrize(("start", "why"), [("12:00:30", "whole"), ("10:05:00", "future")])
def test_a_start_off_the_minute_or_in_the_past_is_refused(start: str, why: str) -> None:
    """The past is re-rated, never re-priced."""
    with pytest.raises(StartError, match=why):
        declare([], wanted(6, start), at("10:05:42"))


def test_a_deletion_closes_what_is_in_force_and_what_is_to_come() -> None:
    """A deleted key does not come back by itself."""
    versions = [version(5, "09:00", "12:00"), version(9, "12:00", number=2)]
    change = withdraw(versions, at("10:05:42"))
    assert change is not None
    assert change.closes == ((1, at("10:06")), (2, at("12:00")))
    assert not change.opens


def test_a_key_is_deleted_once() -> None:
    """What ends with this minute is gone already; what never was, too."""
    assert withdraw([version(5, "09:00", "10:06")], at("10:05:50")) is None
    assert withdraw([], at("10:05:50")) is None


def test_the_declared_value_is_read_back_at_once() -> None:
    """Before the minute is over, set and delete show already; a schedule does not."""
    now = at("10:05:50")
    changed = [version(5, "09:00", "10:06"), version(6, "10:06", number=2)]
    shown = declared(changed, now)
    assert shown is not None
    assert shown.value == 6
    assert declared([version(5, "09:00", "10:06")], now) is None
    assert declared([version(9, "12:00")], now) is None


def spans(history: list[Price]) -> list[tuple[int, str, str | None]]:
    """Values with their hours and minutes."""
    return [
        (int(v.value), f"{v.starts_at:%H:%M}", f"{v.ends_at:%H:%M}" if v.ends_at else None)
        for v in history
        if v.starts_at != v.ends_at
    ]


def test_a_price_for_a_while_gives_way_to_the_one_before() -> None:
    """A sale from noon to two; what was in force goes on after it."""
    versions = [version(5, "09:00")]
    change = declare(versions, wanted(4, "12:00", "14:00"), at("10:05"))
    assert spans(apply(versions, change)) == [
        (5, "09:00", "12:00"),
        (4, "12:00", "14:00"),
        (5, "14:00", None),
    ]
    alone = declare([], wanted(4, "12:00", "14:00"), at("10:05"))
    assert spans(apply([], alone)) == [(4, "12:00", "14:00")]


def test_a_price_for_a_while_must_not_overlap_another() -> None:
    """The one that begins within is named; one that begins at its end does no harm."""
    versions = [version(5, "09:00", "13:00"), version(9, "13:00", number=2)]
    with pytest.raises(OverlapError, match="value 9 that is declared from 2026-02-06T13:00Z"):
        declare(versions, wanted(4, "12:00", "13:01"), at("10:05"))
    change = declare(versions, wanted(4, "12:00", "13:00"), at("10:05"))
    assert spans(apply(versions, change)) == [
        (5, "09:00", "12:00"),
        (4, "12:00", "13:00"),
        (9, "13:00", None),
    ]


@pytest.mark.parametrize("end", ["10:05:59", "10:00", "10:05", "12:00", "12:00:01"])
def test_an_end_before_the_start_or_off_the_minute_is_refused(end: str) -> None:
    """Whether the start is said or not."""
    with pytest.raises(EndError):
        declare([], wanted(4, "12:00", end), at("10:05:42"))
    if end < "12":
        with pytest.raises(EndError):
            declare([], wanted(4, None, end), at("10:05:42"))


def test_a_price_may_begin_in_the_past_where_that_is_meant() -> None:
    """It holds until the next version; on whole hours, since charges are kept by the hour."""
    versions = [version(5, "09:20", "13:00"), version(9, "13:00", number=2)]
    early = declare(versions, wanted(4, "08:00", late=True), at("15:00:42"))
    assert spans(apply(versions, early))[:2] == [(4, "08:00", "09:20"), (5, "09:20", "13:00")]
    within = declare(versions, wanted(4, "11:00", late=True), at("15:00:42"))
    assert spans(apply(versions, within)) == [
        (5, "09:20", "11:00"),
        (4, "11:00", "13:00"),
        (9, "13:00", None),
    ]
    with pytest.raises(StartError, match="whole hour"):
        declare(versions, wanted(4, "08:30", late=True), at("15:00:42"))
    with pytest.raises(EndError, match="whole hour"):
        declare(versions, wanted(4, "08:00", "08:30", late=True), at("15:00:42"))


def test_what_holds_for_all_of_the_range_is_not_declared_again() -> None:
    """And what holds for a part of it is."""
    versions = [version(5, "09:00", "13:00"), version(9, "13:00", number=2)]
    for none in (wanted(5, "11:00"), wanted(5, "11:00", "13:00"), wanted(9, "14:00", "15:00")):
        assert declare(versions, none, at("10:05:42")) is None
    assert declare(versions[:1], wanted(5, "11:00", "14:00"), at("10:05:42")) is not None


def declared_in_turn(
    versions: Sequence[Price], listed: Sequence[Declaration[Decimal]]
) -> Sequence[Price]:
    """What there is after several declarations at five past ten."""
    for each in listed:
        change = declare(versions, each, at("10:05:42"))
        versions = applied(versions, change) if change else versions
    return versions


def test_several_declarations_are_one_change() -> None:
    """As a list with a schedule declares them; said again it changes nothing."""
    listed = [wanted(6), wanted(7, "12:00"), wanted(8, "13:00", "14:00")]
    versions = [version(5, "09:00")]
    change = net_change(versions, declared_in_turn(versions, listed))
    assert change is not None
    assert change.closes == ((1, at("10:06")),)
    after = apply(versions, change)
    assert spans(after) == [
        (5, "09:00", "10:06"),
        (6, "10:06", "12:00"),
        (7, "12:00", "13:00"),
        (8, "13:00", "14:00"),
        (7, "14:00", None),
    ]
    assert net_change(after, declared_in_turn(after, listed)) is None


ACTIONS = st.lists(
    st.tuples(
        st.integers(0, 200),  # seconds since the action before
        st.none() | st.integers(0, 3),  # a value, or a deletion
        st.none() | st.integers(1, 5),  # scheduled for the n-th minute from now
    ),
    max_size=12,
)


@given(ACTIONS)
def test_versions_never_overlap_and_the_past_never_changes(
    actions: list[tuple[int, int | None, int | None]],
) -> None:
    """Whatever is declared when, each instant has at most one value, and keeps it."""
    history: list[Price] = []
    now = datetime(2026, 2, 6, 10, tzinfo=UTC)
    for pause, value, minutes in actions:
        now += timedelta(seconds=pause)
        before = history
        if value is None:
            change = withdraw(live(history, now), now)
        else:
            start = minutes and next_minute(now) + timedelta(minutes=minutes)
            change = declare(
                live(history, now), Declaration(value=Decimal(value), start=start or None), now
            )
        history = apply(history, change)
        _assert_disjoint(history)
        _assert_same_past(before, history, now)
        shown = declared(live(history, now), now)
        if minutes is None or value is None:
            assert (shown and shown.value) == (None if value is None else Decimal(value))


def _assert_disjoint(history: list[Price]) -> None:
    spans = [v for v in history if v.starts_at != v.ends_at]
    for one, other in pairwise(spans):
        assert one.ends_at is not None
        assert one.starts_at < one.ends_at <= other.starts_at


def _assert_same_past(before: list[Price], after: list[Price], now: datetime) -> None:
    """What was in force up to the end of the current minute is untouched where it was."""
    for version_before in before:
        (same,) = (v for v in after if v.version_id == version_before.version_id)
        if same.ends_at != version_before.ends_at:
            assert same.ends_at is not None
            assert same.ends_at >= min(next_minute(now), same.starts_at)
            assert same.ends_at > now or same.starts_at == same.ends_at
