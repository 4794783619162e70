"""Claims about money of other currencies, by the rate of the day of the charge."""

from datetime import date
from decimal import Decimal

import pytest

from aggregator.rating.currency import (
    Exchange,
    NoRateError,
    Rate,
    RateChange,
    RateError,
    declare_rate,
)

TODAY = date(2026, 2, 6)


def rate(value: str, start: int, end: int | None = None, number: int = 1) -> Rate:
    """A rate of days of February."""
    return Rate(
        rate_id=number,
        currency="EUR",
        rate=Decimal(value),
        starts_on=date(2026, 2, start),
        ends_on=None if end is None else date(2026, 2, end),
    )


RATES = [rate("0.9", 3, 7), rate("0.8", 7, number=2)]


def test_a_charge_is_converted_by_the_rate_of_its_day() -> None:
    """Exactly; never today's rate on yesterday's charge."""
    exchange = Exchange(base="USD", rates=RATES)
    amount = Decimal("1234567890123456789.123456789")
    assert exchange.convert(amount, "EUR", date(2026, 2, 6)) == Decimal(
        "1111111101111111110.2111111101"
    )
    assert exchange.convert(Decimal(1), "EUR", date(2026, 2, 7)) == Decimal("0.8")
    assert exchange.convert(amount, "USD", date(2020, 1, 1)) == amount


def test_a_day_without_a_rate_is_an_error_that_names_it() -> None:
    """With what to do; no rate is never 1, and never the nearest one."""
    exchange = Exchange(base="USD", rates=RATES)
    with pytest.raises(NoRateError, match="from USD to EUR for 2026-02-02: set one with"):
        exchange.convert(Decimal(1), "EUR", date(2026, 2, 2))
    with pytest.raises(NoRateError):
        exchange.rate("GBP", TODAY)


def test_a_rate_holds_until_the_next_one() -> None:
    """A past day without one may be given one; a day to come may get another."""
    assert declare_rate(RATES, Decimal(1), date(2026, 2, 1), TODAY) == RateChange(
        closes=None, ends_on=date(2026, 2, 3)
    )
    assert declare_rate(RATES, Decimal(1), date(2026, 2, 9), TODAY) == RateChange(
        closes=2, ends_on=None
    )
    assert declare_rate([], Decimal(1), TODAY, TODAY) == RateChange(closes=None, ends_on=None)
    assert declare_rate(RATES, Decimal("0.80"), date(2026, 2, 8), TODAY) is None


@pytest.mark.parametrize("day", [3, 6])
def test_a_day_that_began_keeps_its_rate(day: int) -> None:
    """What was shown once is shown again."""
    with pytest.raises(RateError, match="has a rate already"):
        declare_rate(RATES, Decimal(1), date(2026, 2, day), TODAY)
