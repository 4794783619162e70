"""Billing periods: calendar months in UTC, named like 2026-10. Pure."""

import re
from datetime import MAXYEAR, UTC, datetime

from aggregator.model import Period

_NAME = re.compile(r"([0-9]{4})-(0[1-9]|1[0-2])")


class MonthError(ValueError):
    """A text that names no month."""


def parse_month(text: str) -> Period:
    """The period of a name. Raises MonthError."""
    found = _NAME.fullmatch(text)
    year = int(found[1]) if found else 0
    if found is None or not 1 <= year < MAXYEAR:
        raise MonthError("must be a month like 2026-10")
    return month_at(datetime(year, int(found[2]), 1, tzinfo=UTC))


def month_at(instant: datetime) -> Period:
    """The period in which an instant lies."""
    first = instant.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    carry, month = divmod(first.month, 12)
    return Period(start=first, end=first.replace(year=first.year + carry, month=month + 1))


def month_name(period: Period) -> str:
    """The name of a period; `parse_month` is the inverse."""
    return f"{period.start.year:04}-{period.start.month:02}"
