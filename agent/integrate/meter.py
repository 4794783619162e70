"""A meter while it runs, and what it makes: intervals, and records of windows. Pure."""

from dataclasses import dataclass, field
from typing import NamedTuple

from agent.model import ReadingKind

MINUTE_MS = 60_000
UNKNOWN_VALUE = -1
"""Of a counter that went on from where another run left it: its next reading tells nothing yet."""


class UsageRecord(NamedTuple):
    """What one meter accrued in [start_ms, start_ms + length_ms), base unit x ms."""

    meter: int
    start_ms: int
    length_ms: int
    allocated: int
    used: int
    effective: int
    observed_ms: int


class Span(NamedTuple):
    """An interval whose totals are known and that is not all cut into windows yet."""

    start_ms: int
    end_ms: int
    used: int
    effective: int
    observed_ms: int


@dataclass(slots=True)
class Meter:
    """One meter while it runs. Instants are agent time in ms.

    Readings are accounted for through `position_ms`, and cut through `cut_ms`: in the
    open window [window_start_ms, cut_ms) lies what the sums hold, in [cut_ms, position_ms)
    what `spans` hold. A `cut_ms` ahead of the position forfeits: what comes before it is
    never recorded (see `open_meter`).
    """

    number: int
    quota: int  # base units
    position_ms: int
    cut_ms: int
    window_start_ms: int
    window_end_ms: int
    used: int = 0
    effective: int = 0
    observed_ms: int = 0
    kind: ReadingKind | None = None  # of the last reading
    value: int = 0  # of the last reading; a counter begins at 0
    read_at_ms: int | None = None
    advanced: int = 0  # effective already recorded for time that the counter has yet to cover
    slack: int = 0  # what the last interval has allocated and not used, as far as a counter tells
    can_reset: bool = True  # a counter that falls began again
    asleep_ms: int = 0  # so much of the time up to the next reading was slept, as is known before
    spans: list[Span] = field(default_factory=list[Span])


def open_meter(number: int, quota: int, start_ms: int, *, emit_from_ms: int | None = None) -> Meter:
    """Begin a meter at `start_ms`.

    `emit_from_ms`: what lies before it was, or may have been, recorded already; the
    meter measures from `start_ms` and records from there.
    """
    cut_ms = start_ms if emit_from_ms is None else max(start_ms, emit_from_ms)
    return Meter(number, quota, start_ms, cut_ms, cut_ms, next_minute(cut_ms))


def inherit(meter: Meter, ended: Meter) -> None:
    """Go on from the last reading of `ended`, where `meter` begins."""
    meter.kind, meter.value = ended.kind, ended.value
    meter.read_at_ms, meter.advanced = ended.read_at_ms, ended.advanced


def next_minute(instant_ms: int) -> int:
    """The first whole minute after an instant."""
    return instant_ms - instant_ms % MINUTE_MS + MINUTE_MS


def forfeit(meter: Meter, until_ms: int) -> None:
    """Record nothing from before `until_ms` any more; measuring goes on as it was."""
    if until_ms >= meter.cut_ms:
        meter.used = meter.effective = meter.observed_ms = 0
        meter.cut_ms = meter.window_start_ms = until_ms
        meter.window_end_ms = next_minute(until_ms)
        meter.spans = [span for span in meter.spans if span.end_ms > until_ms]


def shift(meter: Meter, by_ms: int) -> None:
    """Move all its instants after the clock was anchored anew; its windows must be closed."""
    meter.position_ms += by_ms
    meter.cut_ms += by_ms
    meter.window_start_ms = meter.cut_ms
    meter.window_end_ms = next_minute(meter.cut_ms)
    if meter.read_at_ms is not None:
        meter.read_at_ms += by_ms
