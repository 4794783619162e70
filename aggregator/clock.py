"""The only place that reads a clock; everything else is handed an instant or a `Clock`.

Instants are aware UTC, or milliseconds since 1970-01-01T00:00Z where they came so over
the wire. Durations come from `monotonic`.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

Clock: TypeAlias = Callable[[], datetime]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def utc_now() -> datetime:
    """Read the wall clock."""
    return datetime.now(UTC)  # noqa: TID251  this is the clock


def monotonic() -> float:
    """Seconds for measuring durations; never steps."""
    return time.monotonic()


def from_ms(ms: int) -> datetime:
    """Turn milliseconds since the epoch into an instant, exactly."""
    return EPOCH + timedelta(milliseconds=ms)


def to_ms(instant: datetime) -> int:
    """Turn an aware instant into whole milliseconds since the epoch, rounding down."""
    return (instant - EPOCH) // _MILLISECOND
