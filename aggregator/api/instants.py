"""How instants, days and months look on the wire, each with the schema that the document shows."""

import re
from datetime import UTC, date, datetime
from typing import Annotated, TypeAlias

from pydantic import BeforeValidator, WithJsonSchema

from aggregator.model import Period
from aggregator.rating.month import parse_month

_UTC_OFFSET = "+00:00"

EARLIEST = datetime(2, 1, 1, tzinfo=UTC)
LATEST = datetime(9999, 1, 1, tzinfo=UTC)
"""Between them years, months and weeks can be reckoned with."""


def utc_text(instant: datetime) -> str:
    """`2026-02-06T04:00:00Z`, with fractional seconds only when they are not zero."""
    text = instant.isoformat()
    if not text.endswith(_UTC_OFFSET):  # never of what the database gives
        text = instant.astimezone(UTC).isoformat()
    text = text.removesuffix(_UTC_OFFSET)
    return (text.rstrip("0") if instant.microsecond else text) + "Z"


def stored_utc_text(text: str) -> str:
    """The same of an instant as the database writes it: `2026-02-06 04:00:00.5+00`."""
    if text.endswith("+00"):  # always, in our sessions
        return f"{text[:10]}T{text[11:-3]}Z"
    return utc_text(datetime.fromisoformat(text))


def optional_utc_text(instant: datetime | None) -> str | None:
    """The same of an instant that may not be."""
    return None if instant is None else utc_text(instant)


def _day(value: object) -> date:
    if isinstance(value, str) and _DAY.fullmatch(value):
        try:
            return date.fromisoformat(value)
        except ValueError:
            pass
    raise ValueError("must be a day like 2026-02-06")


def _minute(value: object) -> datetime:
    """An RFC 3339 instant at a whole minute."""
    try:
        instant = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        instant = None
    if instant is None or not _MINUTE.fullmatch(str(value)):
        raise ValueError("must be a whole minute like 2026-02-06T04:00:00Z")
    try:
        return instant.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("is out of range") from error


def _instant(value: object) -> datetime:
    """An RFC 3339 instant, far enough from the ends of time to reckon with."""
    if isinstance(value, str) and _RFC3339.fullmatch(value):
        try:
            return datetime.fromisoformat(value).astimezone(UTC)
        except ValueError:
            pass
    raise ValueError("must be an instant like 2026-02-06T04:00:00Z")


def between_ends(given: datetime) -> datetime:
    """The instant in UTC, or the end of time beyond which it lies: nothing is metered there."""
    if given.year < EARLIEST.year:
        return EARLIEST
    if given.year >= LATEST.year:
        return LATEST
    return min(max(given.astimezone(UTC), EARLIEST), LATEST)


def _bound(value: object) -> datetime:
    """An RFC 3339 instant of whatever year."""
    if isinstance(value, str) and _ANY_INSTANT.fullmatch(value):
        try:
            return between_ends(datetime.fromisoformat(value))
        except ValueError:
            pass
    raise ValueError("must be an instant like 2026-02-06T04:00:00Z")


def _month(value: object) -> Period:
    if not isinstance(value, str):
        raise ValueError("must be a month like 2026-10")  # noqa: TRY004 - as above
    return parse_month(value)


_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_MINUTE_PATTERN = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:00(Z|[+-][0-9]{2}:[0-9]{2})$"
_MINUTE = re.compile(_MINUTE_PATTERN)
_UTC = {"type": "string", "format": "date-time"}
_DATE_TIME = (
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?"
    r"(Z|[+-][0-9]{2}:[0-9]{2})$"
)
_INSTANT_PATTERN = rf"^(?!0000|0001|9999){_DATE_TIME}"
ANY_INSTANT_PATTERN = rf"^(?!0000){_DATE_TIME}"
"""Of an instant of any year that there is."""

_RFC3339 = re.compile(_INSTANT_PATTERN)
_ANY_INSTANT = re.compile(ANY_INSTANT_PATTERN)
_MONTH_PATTERN = r"^(?!0000|9999)[0-9]{4}-(0[1-9]|1[0-2])$"

UtcTime: TypeAlias = Annotated[str, WithJsonSchema(_UTC)]
"""Made by `utc_text`."""

Day: TypeAlias = Annotated[
    date, BeforeValidator(_day), WithJsonSchema({"type": "string", "format": "date"})
]
"""A UTC day that a client sends."""

Minute: TypeAlias = Annotated[
    datetime, BeforeValidator(_minute), WithJsonSchema(_UTC | {"pattern": _MINUTE_PATTERN})
]
"""A whole minute that a client sends; its offset is honoured."""

Month: TypeAlias = Annotated[
    Period,
    BeforeValidator(_month),
    WithJsonSchema({"type": "string", "pattern": _MONTH_PATTERN, "example": "2026-10"}),
]
"""A billing period that a client names."""

Instant: TypeAlias = Annotated[
    datetime, BeforeValidator(_instant), WithJsonSchema(_UTC | {"pattern": _INSTANT_PATTERN})
]
"""An instant that a client sends; its offset is honoured."""

Bound: TypeAlias = Annotated[
    datetime, BeforeValidator(_bound), WithJsonSchema(_UTC | {"pattern": ANY_INSTANT_PATTERN})
]
"""Where a range that a client asks for begins or ends; its offset is honoured."""
