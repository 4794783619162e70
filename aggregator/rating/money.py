"""Where an exact amount becomes a printed number: division and rounding happen here alone.

Inside, a quantity is an integer in base unit x millisecond and an amount is that times a
price, undivided. Everything here is exact up to the one division, whose result is the
nearest double (ties to even), as rating rule 5 asks. No prices in force, no I/O.
"""

from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction

from aggregator.units import Unit


def quotient(numerator: int, denominator: int) -> float:
    """The double nearest to the exact fraction: Python rounds int / int once, correctly."""
    return numerator / denominator


def usage(quantity: int, unit: Unit) -> float:
    """Unit-hours of a quantity in base unit x ms."""
    return quotient(quantity, unit.unit_hour)


def quota(quantity: int, unit: Unit) -> float:
    """API units of a quantity in base units."""
    return quotient(quantity, unit.base_units)


def fee(amount: Decimal, unit: Unit) -> float:
    """Money of an undivided amount (base unit x ms x price per unit-hour)."""
    numerator, denominator = amount.as_integer_ratio()
    return quotient(numerator, denominator * unit.unit_hour)


def exact_fee(amount: Decimal, unit: Unit) -> Fraction:
    """Money of an undivided amount, not rounded, to be added up with that of other units."""
    return Fraction(amount) / unit.unit_hour


def cents(exact: Fraction) -> float:
    """Hundredths of a currency's unit, rounded once."""
    return quotient(100 * exact.numerator, exact.denominator)


def fee_at(hours: float, price: Decimal) -> float:
    """Money under one price: the double product, so that a client who multiplies gets ours."""
    return hours * float(price)


def number(value: float) -> int | float:
    """What JSON shows: a whole number without `.0`, anything else as the shortest double."""
    return int(value) if value.is_integer() and -1e16 < value < 1e16 else value


def plain(value: Decimal) -> str:
    """The canonical text of an exact number: no exponent, no idle zeros, never `-0`."""
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def split(total: int, weights: Sequence[int]) -> list[int]:
    """`total` cut into shares in proportion to `weights`, by largest remainder.

    The shares are whole and their sum is `total`; among equal remainders the earliest is
    served first. A negative total is split like its opposite. Raises ValueError when no
    weight is positive or one is negative.
    """
    whole = sum(weights)
    if whole <= 0 or min(weights) < 0:
        raise ValueError("the weights of a split must be >= 0, and one of them > 0")
    sign = -1 if total < 0 else 1
    cuts = [divmod(abs(total) * weight, whole) for weight in weights]
    shares = [share for share, _ in cuts]
    left = abs(total) - sum(shares)
    by_remainder = sorted(range(len(cuts)), key=lambda index: -cuts[index][1])
    for index in by_remainder[:left]:
        shares[index] += 1
    return [sign * share for share in shares]
