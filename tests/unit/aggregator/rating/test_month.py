"""Claims about billing periods and their names."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.rating.month import MonthError, month_at, month_name, parse_month

INSTANTS = st.datetimes(
    min_value=datetime(1, 1, 2),  # noqa: DTZ001  hypothesis adds the zone
    max_value=datetime(9998, 12, 31),  # noqa: DTZ001
    timezones=st.just(UTC),
)


@given(instant=INSTANTS)
def test_each_instant_lies_in_one_month_with_one_name(instant: datetime) -> None:
    """Half-open: its end lies in the next one."""
    month = month_at(instant)
    assert month.start <= instant < month.end
    assert parse_month(month_name(month)) == month
    assert month_at(month.end - timedelta(microseconds=1)) == month
    assert month_at(month.end).start == month.end


def test_months_are_those_of_utc() -> None:
    """Whatever the offset in which an instant is said; December ends with the year."""
    east = datetime(2026, 1, 1, 0, 30, tzinfo=timezone(timedelta(hours=1)))
    month = month_at(east)
    assert month_name(month) == "2025-12"
    assert month.end == datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "text", ["2026-13", "2026-0", "26-01", "2026-10-01", "0000-01", "9999-12", ""]
)
def test_what_is_no_month_is_told(text: str) -> None:
    """With an example of one."""
    with pytest.raises(MonthError, match="2026-10"):
        parse_month(text)
