"""Times as administrators say them: whole minutes, and whole days."""

import re
from datetime import UTC, date, datetime

_MINUTE = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(?::00)?(?:Z|[+-][0-9]{2}:[0-9]{2})"
)


class TimeWordsError(ValueError):
    """A time that cannot be meant; the text says what is expected."""


def minute(text: str) -> datetime:
    """A whole minute with its offset, in UTC."""
    try:
        if _MINUTE.fullmatch(text):
            return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise TimeWordsError(f"{text!r} is no whole minute like 2026-12-01T00:00:00Z")


def wire_text(instant: datetime) -> str:
    """A whole minute as the API takes it."""
    return f"{instant.astimezone(UTC):%Y-%m-%dT%H:%M:00Z}"


def sent(text: str | None) -> str | None:
    """A whole minute as the API takes it; what is none as it is: the API says what is wrong."""
    try:
        return wire_text(minute(text)) if text else text
    except TimeWordsError:
        return text


def day(text: str) -> date:
    """A day."""
    try:
        if len(text) == 10:
            return date.fromisoformat(text)
    except ValueError:
        pass
    raise TimeWordsError(f"{text!r} is no day like 2026-12-01")
