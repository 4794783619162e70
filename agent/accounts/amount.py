"""What one account of the node gained in one window, and intervals to reckon with. Pure."""

from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import NamedTuple

from agent.integrate import MINUTE_MS, next_minute
from agent.model import ResourceType


class Account(StrEnum):
    """Where the node's capacity is, besides in jobs.

    For each resource, device and window: jobs + idle + unattributed + down - excess =
    capacity, of `used` for cpu and memory and of `allocated` for devices.
    """

    CAPACITY = "capacity"
    IDLE = "idle"
    UNATTRIBUTED = "unattributed"  # used by nobody that is metered: the system, or too short
    DOWN = "down"  # not there to be used: the machine was off, or a driver had lost the device
    EXCESS = "excess"  # given to jobs beyond what there was, or than was known in time


class Amount(NamedTuple):
    """Base unit x ms that an account gained in [start_ms, end_ms), within one minute."""

    account: Account
    type: ResourceType
    device: str | None
    start_ms: int
    end_ms: int
    value: int
    observed_ms: int


class Interval(NamedTuple):
    """[start_ms, end_ms); an end of None is open."""

    start_ms: int
    end_ms: int | None


def windows(start_ms: int, end_ms: int) -> Iterator[tuple[int, int]]:
    """Cut an interval at whole minutes."""
    while start_ms < end_ms:
        until_ms = min(next_minute(start_ms), end_ms)
        yield start_ms, until_ms
        start_ms = until_ms


def overlap_ms(intervals: Iterable[Interval], start_ms: int, end_ms: int) -> int:
    """How much of [start_ms, end_ms) the intervals, which do not overlap, cover."""
    return sum(
        max(0, min(end_ms, end_ms if until is None else until) - max(start_ms, since))
        for since, until in intervals
    )


def minute_of(instant_ms: int) -> int:
    """The whole minute that an instant is in."""
    return instant_ms - instant_ms % MINUTE_MS
