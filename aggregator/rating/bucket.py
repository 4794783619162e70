"""Buckets of time: hours, days, weeks from Monday on, months and years, all in UTC. Pure."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Final, Literal, TypeAlias, assert_never

Bucket: TypeAlias = Literal["hour", "day", "week", "month", "year"]

_LONGEST: Final[Mapping[Bucket, timedelta]] = MappingProxyType(
    {
        "hour": timedelta(hours=1),
        "day": timedelta(days=1),
        "week": timedelta(days=7),
        "month": timedelta(days=31),
        "year": timedelta(days=366),
    }
)


def floor(instant: datetime, bucket: Bucket) -> datetime:
    """The beginning of the bucket in which an instant lies."""
    hour = instant.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    day = hour.replace(hour=0)
    match bucket:
        case "hour":
            return hour
        case "day":
            return day
        case "week":
            return day - timedelta(days=day.weekday())
        case "month":
            return day.replace(day=1)
        case "year":
            return day.replace(month=1, day=1)
        case _:
            assert_never(bucket)


def ceiling(instant: datetime, bucket: Bucket) -> datetime:
    """The first beginning of a bucket that is not before an instant."""
    begin = floor(instant, bucket)
    return begin if begin == instant else floor(begin + _LONGEST[bucket], bucket)
