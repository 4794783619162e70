"""Claims about what a price may be and about the units in which people say one."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.model import ResourceType
from aggregator.rating.money import plain
from aggregator.rating.price import PER, PriceError, checked, unit_of

PRICES = st.decimals(0, 10**12, allow_nan=False, allow_infinity=False)


@pytest.mark.parametrize(
    ("unit", "price", "value"),
    [
        ("core-hour", "0.03", "0.00003"),
        ("GiB-hour", "0.005", "0.0000048828125"),
        ("device-hour", "2.5", "2.5"),
    ],
)
def test_a_price_per_said_unit_is_converted_exactly(unit: str, price: str, value: str) -> None:
    """1 core = 1000 m, 1 GiB = 1024 Mi, and no digit is rounded."""
    assert plain(PER[unit].to_value(Decimal(price))) == value


@given(PRICES, st.sampled_from(sorted(PER)))
def test_setting_and_listing_a_price_are_inverse(price: Decimal, unit: str) -> None:
    """What was set per core-hour is listed per core-hour."""
    assert PER[unit].from_value(PER[unit].to_value(price)) == price


def test_every_type_has_exactly_one_said_unit() -> None:
    """So that a key tells how its price is said."""
    said = [kind for per in PER.values() for kind in per.types]
    assert sorted(said) == sorted(ResourceType)
    assert unit_of("mem@vc1") == "GiB-hour"
    assert unit_of("tokens") is None


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("NaN", "finite"),
        ("sNaN", "finite"),
        ("Infinity", "finite"),
        ("-Infinity", "finite"),
        ("-1", "0 or more"),
        ("-1e-300", "0 or more"),
        ("1e15", "less than"),
        ("1e999999", "less than"),
        ("1e-401", "decimal places"),
        ("1." + "1" * 100_001, "decimal places"),
    ],
)
def test_a_value_that_no_ratio_may_have_is_refused(value: str, reason: str) -> None:
    """Each with the rule that it breaks."""
    with pytest.raises(PriceError, match=reason):
        checked(Decimal(value))


@pytest.mark.parametrize(
    "value", ["0", "0e99999", "0e-99999", "999999999999999.9", "5e-324", "0.10", "-0"]
)
def test_every_other_value_is_kept_exactly(value: str) -> None:
    """Whatever its spelling; zero is a price."""
    assert checked(Decimal(value)) == Decimal(value)
    assert len(str(checked(Decimal(value)))) < 30


@given(st.floats(0, 1e15, exclude_max=True))
def test_every_double_in_range_is_a_price(value: float) -> None:
    """A client that sends its double, written out, is never told that it is too fine."""
    assert float(checked(Decimal(repr(value)))) == value
