"""Claims about what the Bill API writes of an item."""

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.api.bills.shapes import BILL_ITEMS, USAGE_ITEMS, bill_item, usage_item
from aggregator.api.instants import stored_utc_text, utc_text
from aggregator.billing.items import Item
from aggregator.units import MS_PER_HOUR, UNITS

INSTANTS = st.datetimes(datetime(1900, 1, 1), datetime(9999, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  as hypothesis has it
AMOUNTS = st.integers(0, 10**30).map(lambda digits: Decimal(digits) / 10**6)
ITEMS = st.builds(
    Item,
    bill_id=st.uuids().map(str),
    node=st.text(),
    job_id=st.text(),
    job_name=st.text(),
    user_id=st.uuids().map(str),
    username=st.none() | st.text(),
    vc=st.text(),
    type=st.sampled_from([str(type_) for type_ in UNITS]),
    model=st.none() | st.text(),
    quota=st.integers(0, 2**62),
    started_at=st.just("2026-02-06 04:00:00+00"),
    ended_at=st.just("2026-02-06 05:00:00.25+00"),
    hour=st.none() | INSTANTS,
    billed=st.integers(0, 10**24).map(Decimal),
    amount=AMOUNTS,
    price=st.none() | AMOUNTS,
    is_mixed=st.booleans(),
    is_running=st.booleans(),
)


def stored(instant: datetime) -> str:
    """An instant as a session in UTC writes it."""
    return (
        instant.isoformat(sep=" ").replace("+00:00", "").rstrip("0" * bool(instant.microsecond))
        + "+00"
    )


@given(INSTANTS)
def test_an_instant_is_shown_alike_however_it_comes(instant: datetime) -> None:
    """As the database's text or read from it."""
    assert stored_utc_text(stored(instant)) == utc_text(instant)


@given(INSTANTS)
def test_a_session_elsewhere_changes_no_instant(instant: datetime) -> None:
    """Where something between us and the database sets another zone."""
    there = instant.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert stored_utc_text(there.isoformat(sep=" ")) == utc_text(instant)


@pytest.mark.parametrize("text", ["infinity", "0044-03-15 00:00:00+00 BC", ""])
def test_what_is_no_instant_is_not_shown(text: str) -> None:
    """An error, rather than something that looks like one."""
    with pytest.raises(ValueError, match="isoformat"):
        stored_utc_text(text)


@given(ITEMS)
def test_numbers_are_the_doubles_nearest_to_the_exact_ones(item: Item) -> None:
    """Quota and usage; the fee the double product, or the exact sum rounded once."""
    (shown,) = json.loads(BILL_ITEMS.dump_json([bill_item(item)]))
    unit = UNITS[item.type].base_units
    usage = float(Fraction(item.billed) / (unit * MS_PER_HOUR))
    fee = 0.0 if item.price is None else usage * float(item.price)
    if item.is_mixed:
        fee = float(Fraction(item.amount) / (unit * MS_PER_HOUR))
    found = (shown["quota"], shown["usage"], shown["fee"])
    assert found == (float(Fraction(item.quota, unit)), usage, fee)


@given(ITEMS)
def test_a_usage_is_its_bill_without_the_fee(item: Item) -> None:
    """Name by name."""
    (bill,) = json.loads(BILL_ITEMS.dump_json([bill_item(item)]))
    (usage,) = json.loads(USAGE_ITEMS.dump_json([usage_item(item)]))
    assert usage == {name: value for name, value in bill.items() if name != "fee"}


@given(ITEMS)
def test_each_field_has_its_own_value(item: Item) -> None:
    """Which are given by their places: none is another's."""
    (shown,) = json.loads(BILL_ITEMS.dump_json([bill_item(item)]))
    named = {
        "id": item.item_id,
        "startTime": "2026-02-06T04:00:00Z",
        "endTime": "2026-02-06T05:00:00.25Z",
        "jobId": item.job_id,
        "jobName": item.job_name,
        "userId": item.user_id,
        "username": item.username,
        "vcName": item.vc,
        "type": item.type,
        "node": item.node,
        "device": item.model,
        "quota": item.quota_units,
        "usage": item.usage,
        "fee": item.fee,
        "isRunning": item.is_running,
    }
    assert shown == named
    assert list(shown) == list(named)
