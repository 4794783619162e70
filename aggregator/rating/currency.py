"""Money of the base currency in another one, by the rate of the day of the charge. Pure.

A rate says how much of a currency one unit of the base currency is. It holds from a whole
UTC day on until the next one; a day that has begun keeps the rate that it has, so what was
shown once is shown again. Nothing is rounded here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from aggregator.rating.price import EXACT

CURRENCIES = (
    "AUD", "CAD", "CHF", "CNY", "DKK", "EUR", "GBP", "HKD",
    "IDR", "INR", "JPY", "RUB", "SGD", "THB", "USD",
)  # fmt: skip


class NoRateError(LookupError):
    """There is no rate for a day; the text says which, and what to do."""

    def __init__(self, base: str, currency: str, day: date) -> None:
        """Name the command that helps."""
        super().__init__(
            f"there is no rate from {base} to {currency} for {day}: set one with "
            f"`nodemeter currencies set {currency} RATE --from {day}`"
        )


class RateError(ValueError):
    """A rate that cannot hold as it was declared; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """One unit of the base currency is `rate` of `currency` over [starts_on, ends_on)."""

    rate_id: int
    currency: str
    rate: Decimal
    starts_on: date
    ends_on: date | None

    def holds(self, day: date) -> bool:
        """Whether it is the rate of a day."""
        return self.starts_on <= day and (self.ends_on is None or day < self.ends_on)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """All rates from one base currency."""

    base: str
    rates: Sequence[Rate]

    def rate(self, currency: str, day: date) -> Decimal:
        """The rate of a day; of the base currency itself 1. Raises NoRateError."""
        if currency == self.base:
            return Decimal(1)
        for each in self.rates:
            if each.currency == currency and each.holds(day):
                return each.rate
        raise NoRateError(self.base, currency, day)

    def convert(self, amount: Decimal, currency: str, day: date) -> Decimal:
        """An amount of the base currency that was charged on a day, exactly."""
        return EXACT.multiply(amount, self.rate(currency, day))


@dataclass(frozen=True, slots=True, kw_only=True)
class RateChange:
    """What puts a rate in force: the version to close where it starts, and its own end."""

    closes: int | None
    ends_on: date | None


def declare_rate(
    rates: Sequence[Rate], rate: Decimal, start: date, today: date
) -> RateChange | None:
    """The change that makes `rate` that of the days from `start` on, until a later one.

    `rates` are those of the currency. None: it is already. Raises RateError for a day that
    has begun and has another rate: today's rate is not for yesterday's charge.
    """
    held = next((each for each in rates if each.holds(start)), None)
    if held is None:
        later = [each.starts_on for each in rates if each.starts_on > start != each.ends_on]
        return RateChange(closes=None, ends_on=min(later, default=None))
    if held.rate == rate:
        return None
    if start <= today:
        raise RateError(
            f"{start} has a rate already, which was used since it began: a change starts on "
            f"a day to come"
        )
    return RateChange(closes=held.rate_id, ends_on=held.ends_on)
