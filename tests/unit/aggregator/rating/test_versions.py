"""Claims about how a declaration changes the versions of a ratio."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.model import RatioId
from aggregator.rating.versions import (
    Change,
    StartError,
    Version,
    declare,
    declared,
    next_minute,
    withdraw,
)


def at(text: str) -> datetime:
    """An instant of the day of the tests."""
    return datetime.fromisoformat(f"2026-02-06T{text}+00:00")


def version(value: int, start: str, end: str | None = None, number: int = 1) -> Version:
    """A version on the day of the tests."""
    ends_at = None if end is None else at(end)
    return Version(
        ratio_id=RatioId(number), value=Decimal(value), starts_at=at(start), ends_at=ends_at
    )


def apply(history: list[Version], change: Change | None) -> list[Version]:
    """All versions after a change, in order of start."""
    ends = dict(change.closes) if change else {}
    kept = [replace(v, ends_at=ends.get(v.ratio_id, v.ends_at)) for v in history]
    if change and change.opens:
        opened = change.opens
        number = RatioId(len(history) + 1)
        kept.append(
            Version(
                ratio_id=number,
                value=opened.value,
                starts_at=opened.starts_at,
                ends_at=opened.ends_at,
            )
        )
    return sorted(kept, key=lambda v: (v.starts_at, v.ratio_id))


def live(history: list[Version], now: datetime) -> list[Version]:
    """What the database hands to a decision: no empty version, none that is over."""
    return [v for v in history if v.starts_at != v.ends_at and v.ends_after(now)]


def test_the_first_value_starts_with_the_current_minute() -> None:
    """So that a job launched right after is priced from its first second."""
    change = declare([], Decimal(5), at("10:05:42"))
    assert change is not None
    assert not change.closes
    assert change.opens is not None
    assert (change.opens.starts_at, change.opens.ends_at) == (at("10:05:00"), None)


@pytest.mark.parametrize("now", ["10:05:00", "10:05:42", "10:05:59.999999"])
def test_a_change_takes_effect_at_the_next_whole_minute(now: str) -> None:
    """The old version is closed where the new one begins."""
    change = declare([version(5, "09:00")], Decimal(6), at(now))
    assert change is not None
    assert change.closes == ((1, at("10:06:00")),)
    assert change.opens is not None
    assert change.opens.starts_at == at("10:06:00")


def test_an_equal_value_makes_no_version() -> None:
    """5 and 5.00 are one price."""
    assert declare([version(5, "09:00")], Decimal("5.00"), at("10:05:42")) is None


def test_a_pending_version_that_is_replaced_becomes_empty() -> None:
    """Its row stays, with starts_at = ends_at."""
    versions = [version(5, "09:00", "10:06"), version(6, "10:06", number=2)]
    change = declare(versions, Decimal(7), at("10:05:50"))
    assert change is not None
    assert change.closes == ((2, at("10:06:00")),)
    assert change.opens is not None
    assert change.opens.starts_at == at("10:06:00")


def test_a_value_set_right_after_a_deletion_follows_without_a_gap() -> None:
    """The closed version still holds until the minute is over."""
    change = declare([version(5, "09:00", "10:06")], Decimal(5), at("10:05:50"))
    assert change is not None
    assert not change.closes
    assert change.opens is not None
    assert change.opens.starts_at == at("10:06:00")


def test_a_scheduled_version_stays_when_today_changes() -> None:
    """An increase for noon is not lost by a correction at ten."""
    versions = [version(5, "09:00", "12:00"), version(9, "12:00", number=2)]
    change = declare(versions, Decimal(6), at("10:05:42"))
    assert change is not None
    assert change.opens is not None
    assert change.opens.ends_at == at("12:00:00")
    first = declare(versions[1:], Decimal(6), at("10:05:42"))
    assert first is not None
    assert first.opens is not None
    assert (first.opens.starts_at, first.opens.ends_at) == (at("10:05:00"), at("12:00:00"))


def test_a_change_can_be_scheduled() -> None:
    """The version in force ends where the scheduled one begins."""
    change = declare([version(5, "09:00")], Decimal(6), at("10:05:42"), at("12:00"))
    assert change is not None
    assert change.closes == ((1, at("12:00")),)


@pytest.mark.parametrize(("start", "why"), [("12:00:30", "whole"), ("10:05:00", "future")])
def test_a_start_off_the_minute_or_in_the_past_is_refused(start: str, why: str) -> None:
    """The past is re-rated, never re-priced."""
    with pytest.raises(StartError, match=why):
        declare([], Decimal(6), at("10:05:42"), at(start))


def test_a_deletion_closes_what_is_in_force_and_what_is_to_come() -> None:
    """A deleted key does not come back by itself."""
    versions = [version(5, "09:00", "12:00"), version(9, "12:00", number=2)]
    change = withdraw(versions, at("10:05:42"))
    assert change is not None
    assert change.closes == ((1, at("10:06")), (2, at("12:00")))
    assert change.opens is None


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
    history: list[Version] = []
    now = datetime(2026, 2, 6, 10, tzinfo=UTC)
    for pause, value, minutes in actions:
        now += timedelta(seconds=pause)
        before = history
        if value is None:
            change = withdraw(live(history, now), now)
        else:
            start = minutes and next_minute(now) + timedelta(minutes=minutes)
            change = declare(live(history, now), Decimal(value), now, start or None)
        history = apply(history, change)
        _assert_disjoint(history)
        _assert_same_past(before, history, now)
        shown = declared(live(history, now), now)
        if minutes is None or value is None:
            assert (shown and shown.value) == (None if value is None else Decimal(value))


def _assert_disjoint(history: list[Version]) -> None:
    spans = [v for v in history if v.starts_at != v.ends_at]
    for one, other in pairwise(spans):
        assert one.ends_at is not None
        assert one.starts_at < one.ends_at <= other.starts_at


def _assert_same_past(before: list[Version], after: list[Version], now: datetime) -> None:
    """What was in force up to the end of the current minute is untouched where it was."""
    for version_before in before:
        (same,) = (v for v in after if v.ratio_id == version_before.ratio_id)
        if same.ends_at != version_before.ends_at:
            assert same.ends_at is not None
            assert same.ends_at >= min(next_minute(now), same.starts_at)
            assert same.ends_at > now or same.starts_at == same.ends_at
