"""Prices as people say them, per core-hour and the like, and the ratios that they mean."""

import re
from decimal import Decimal

from aggregator.admin.errors import UsageError
from aggregator.model import ResourceType
from aggregator.rating.money import plain
from aggregator.rating.price import PER, PriceError, checked, unit_of
from aggregator.rating.ratio import parse
from aggregator.units import UNITS

_NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,4})?")


class PriceWordsError(ValueError):
    """A price that cannot be meant; `column` is what it was said in: value or per."""

    def __init__(self, column: str, reason: str) -> None:
        """Keep both."""
        super().__init__(reason)
        self.column = column


def to_value(key: str, text: str, per: str | None) -> Decimal:
    """The ratio that a price means, exactly; PriceWordsError if it means none."""
    if not _NUMBER.fullmatch(text):
        raise PriceWordsError("value", f"{text!r} is no number like 0.25")
    try:
        price = checked(Decimal(text))
        return checked(PER[_fitting(key, per)].to_value(price)) if per else price
    except PriceError as error:
        raise PriceWordsError("value", str(error)) from error


def check_per(per: str | None) -> None:
    """Raise UsageError for a unit that there is not."""
    if per is not None and per not in PER:
        raise UsageError(f"--per {per!r} is none of {', '.join(PER)}")


def said(key: str, value: Decimal, per: str | None) -> tuple[str, str | None]:
    """A ratio's price and the unit-hour that it is for; None: the key matches no usage.

    In the unit `per` where the key's type is priced so, else in the API's own unit.
    """
    if per and unit_of(key) == per:
        return plain(PER[per].from_value(value)), per
    meaning = parse(key)
    return plain(value), None if meaning is None else api_unit_hour(meaning.type)


def api_unit_hour(type_: ResourceType) -> str:
    """What a ratio's value is for: `m-hour`, `Mi-hour` or `device-hour`."""
    name = UNITS[type_].name
    return f"{'device' if name == 'number' else name}-hour"


def _fitting(key: str, per: str) -> str:
    """The unit, if the key's usage is priced so."""
    if per not in PER:
        raise PriceWordsError("per", f"{per!r} is none of {', '.join(PER)}")
    unit = unit_of(key)
    if unit is None:
        raise PriceWordsError("per", f"{key!r} is the key of no usage type, so it has no {per}")
    if unit != per:
        raise PriceWordsError("per", f"{key!r} is priced per {unit}, not per {per}")
    return per
