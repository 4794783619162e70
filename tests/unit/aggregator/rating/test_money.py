"""Claims about the one place where amounts are divided and rounded."""

import json
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.model import ResourceType
from aggregator.rating import money
from aggregator.rating.price import EXACT
from aggregator.units import UNITS, Unit

CPU = UNITS[ResourceType.CPU]
UNIT_VALUES = st.sampled_from(list(UNITS.values()))
QUANTITIES = st.integers(0, 10**30)
PRICES = st.decimals(0, 10**6, places=12)


@pytest.mark.parametrize(
    ("hours", "price", "expected"),
    [
        (17.5, "100", "1750"),
        (20.666666666666668, "100", "2066.666666666667"),
        (0.6886363636363637, "10", "6.886363636363637"),
        (74.30468554247057, "50", "3715.234277123528"),
        (74.30468554247057, "0", "0"),
    ],
)
def test_the_published_fees_come_out_to_the_last_digit(
    hours: float, price: str, expected: str
) -> None:
    """The original's examples: fee is the double product of usage and ratio."""
    assert json.dumps(money.number(money.fee_at(hours, Decimal(price)))) == expected


def test_a_third_of_an_hour_is_the_nearest_double() -> None:
    """62/3 m-hours, kept as 62 * 1,200,000 m x ms, print as the published usage."""
    assert repr(money.usage(62 * 1_200_000, CPU)) == "20.666666666666668"


@given(QUANTITIES, UNIT_VALUES)
def test_usage_is_the_double_nearest_to_the_exact_quotient(quantity: int, unit: Unit) -> None:
    """Rounded once and correctly, also where the integers pass 2**53."""
    assert money.usage(quantity, unit) == float(Fraction(quantity, unit.unit_hour))


@given(QUANTITIES, PRICES, UNIT_VALUES)
def test_a_fee_is_the_double_nearest_to_the_exact_sum(
    quantity: int, price: Decimal, unit: Unit
) -> None:
    """No digit of an amount is lost before the one division."""
    amount = EXACT.multiply(Decimal(quantity), price)
    exact = Fraction(quantity) * Fraction(price) / unit.unit_hour
    assert money.fee(amount, unit) == float(exact)


def test_a_quota_is_shown_in_the_units_of_the_api() -> None:
    """1 GiB is 1024 Mi, half a device is 0.5."""
    assert money.quota(1_048_576, UNITS[ResourceType.MEM]) == 1024
    assert money.quota(63_000, UNITS[ResourceType.GPU]) == 0.5


def test_ten_times_a_tenth_is_one() -> None:
    """Prices are decimal, so ten tenths are a whole."""
    amount = sum((Decimal("0.1") * CPU.unit_hour for _ in range(10)), Decimal(0))
    assert money.fee(amount, CPU) == 1.0


def test_large_quantities_are_not_rounded() -> None:
    """12,345,678,901 unit-hours at 1 cost exactly that."""
    assert money.fee(Decimal(12_345_678_901) * CPU.unit_hour, CPU) == 12_345_678_901


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1750.0, "1750"),
        (0.0, "0"),
        (-0.0, "0"),
        (0.1, "0.1"),
        (9007199254740993.0, "9007199254740992"),
        (1e16, "1e+16"),
        (1e-7, "1e-07"),
    ],
)
def test_whole_numbers_print_without_a_fraction(value: float, text: str) -> None:
    """As the original's JSON: 1750, never 1750.0."""
    assert json.dumps(money.number(value)) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_printed_number_reads_back_as_the_same_double(value: float) -> None:
    """Shortest round-trip, whichever form is printed."""
    assert float(json.loads(json.dumps(money.number(value)))) == value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("10.00", "10"),
        ("0.0000300", "0.00003"),
        ("1E+3", "1000"),
        ("0E-9", "0"),
        ("-0", "0"),
        ("100", "100"),
        ("5E-7", "0.0000005"),
    ],
)
def test_an_exact_number_has_one_plain_text(value: str, text: str) -> None:
    """No exponent, no idle zeros: equal prices look equal."""
    assert money.plain(Decimal(value)) == text


def test_the_known_split_by_largest_remainder() -> None:
    """1000.00 by 8 : 6 : 4 is 444.45, 333.33 and 222.22."""
    assert money.split(100_000, [8, 6, 4]) == [44_445, 33_333, 22_222]


def test_equal_remainders_are_served_from_the_earliest() -> None:
    """Ties go to whoever comes first, so that a split is repeatable."""
    assert money.split(5, [1, 1, 1]) == [2, 2, 1]
    assert money.split(-5, [1, 1, 1]) == [-2, -2, -1]


@given(
    st.integers(-(10**20), 10**20),
    st.lists(st.integers(0, 10**9), min_size=1, max_size=20).filter(any),
)
def test_a_split_conserves_its_total(total: int, weights: list[int]) -> None:
    """The shares sum to the total and none is a whole unit off its exact part."""
    shares = money.split(total, weights)
    assert sum(shares) == total
    for share, weight in zip(shares, weights, strict=True):
        assert abs(share - Fraction(total * weight, sum(weights))) < 1


@pytest.mark.parametrize("weights", [[], [0, 0], [3, -1]])
def test_a_split_by_nothing_is_refused(weights: list[int]) -> None:
    """There is no share of a total for nobody."""
    with pytest.raises(ValueError, match="weights"):
        money.split(100, weights)
