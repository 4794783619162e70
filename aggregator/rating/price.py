"""What a price may be, and the units in which people say one.

A ratio's value is a price per unit-hour of the API's unit (m, Mi, device). People say
prices per core-hour, GiB-hour or device-hour; the conversion is exact both ways, or an
error. Pure.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Context, Decimal, Inexact, InvalidOperation, Overflow
from types import MappingProxyType

from aggregator.model import ResourceType
from aggregator.rating.ratio import parse

EXACT = Context(prec=100_000, traps=[Inexact, InvalidOperation, Overflow])
"""Arithmetic that would rather fail than round."""

VALUE_LIMIT = 10**15
"""Values are below it: beyond, fees would leave the range in which doubles show cents."""

MAX_DECIMALS = 400
"""Every double that a client may send has fewer, written out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Per:
    """A unit in which a price is said: `1 / factor` of it is the price per API unit-hour."""

    types: frozenset[ResourceType]
    api_units: int

    def to_value(self, price: Decimal) -> Decimal:
        """The value of a ratio whose price is said in this unit."""
        share = EXACT.divide(Decimal(1), Decimal(self.api_units))
        return EXACT.multiply(price, share)

    def from_value(self, value: Decimal) -> Decimal:
        """The price in this unit of a ratio's value."""
        return EXACT.multiply(value, Decimal(self.api_units))


PER: Mapping[str, Per] = MappingProxyType(
    {
        "core-hour": Per(types=frozenset({ResourceType.CPU}), api_units=1000),
        "GiB-hour": Per(types=frozenset({ResourceType.MEM, ResourceType.STORAGE}), api_units=1024),
        "device-hour": Per(types=frozenset({ResourceType.GPU, ResourceType.NPU}), api_units=1),
    }
)
"""1 core = 1000 m, 1 GiB = 1024 Mi; 1/1000 and 1/1024 are finite decimals."""


class PriceError(ValueError):
    """A value that no ratio may have; the text says which rule it breaks."""


def checked(value: Decimal) -> Decimal:
    """The value, without idle digits, if a ratio may have it; else PriceError."""
    if not value.is_finite():
        raise PriceError("must be a finite number")
    if value < 0:
        raise PriceError("must be 0 or more")
    if value >= VALUE_LIMIT:
        raise PriceError(f"must be less than {VALUE_LIMIT}")
    try:
        value = EXACT.normalize(value)
    except Inexact as error:
        raise PriceError(_TOO_FINE) from error
    exponent = value.as_tuple().exponent
    if not isinstance(exponent, int) or -exponent > MAX_DECIMALS:
        raise PriceError(_TOO_FINE)
    return value or Decimal(0)


def unit_of(key: str) -> str | None:
    """The unit in which people say the price of this key's usage; None: it has none."""
    parsed = parse(key)
    if parsed is None:
        return None
    return next(name for name, per in PER.items() if parsed.type in per.types)


_TOO_FINE = f"must have at most {MAX_DECIMALS} decimal places"
