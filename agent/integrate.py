"""Turns readings and allocations into usage records, one per meter and window. Pure.

A window is half-open and never crosses a whole minute. Between two readings lies an
interval; what it holds is fixed when its second reading comes, and only then cut into
windows, each by the difference of two cumulative floors. So the windows add up to the
intervals whatever the cuts, and every record keeps `effective >= max(allocated, used)`.

How a reading becomes usage:

- COUNTER: the delta is what was used since the last reading (since the run began for
  the first), however long that was. A counter that fell began again at zero; but one of
  a process tree only lost sight of something, and counts when it is past its height.
  The gain of a second one of the same instant belongs to the next interval; after the
  last one (`finish`) to the window that ends there.
- AVERAGE: a driver's mean since the last reading, for the `hold_ms` before it at most;
  the last one also holds forward like a level.
- LEVEL: the trapezoid between two readings at most `hold_ms` apart. Over a longer time
  the earlier one holds `hold_ms`, the rest is allocated and unobserved. The first one
  also holds back, the last one also forward to the end of the run, each `hold_ms`.

`effective` of an interval is max(allocated, used). Where a counter was silent for so long
that its time was already recorded as unobserved (`settle`), what has been billed as
allocated meanwhile is deducted when it speaks again: the total of `effective` is exact,
and the `used` that no longer fits under it stays unobserved.

A `Meter` is mutable, against the rule of frozen values: a node with 500 jobs moves a
thousand of them per sample, and building a thousand new values costs more CPU than all
the reading of their cgroups. Only this module moves one.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from agent.model import Reading, ReadingKind

MINUTE_MS = 60_000
UNKNOWN_VALUE = -1
"""Of a counter that went on from where another run left it: its next reading tells nothing yet."""

_AVERAGE = ReadingKind.AVERAGE
_COUNTER = ReadingKind.COUNTER  # a member's look-up costs as much as the arithmetic


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


def observe(meter: Meter, at_ms: int, reading: Reading, hold_ms: int, blind_ms: int = 0) -> None:
    """Account for everything up to a reading. One from before the position says nothing.

    `blind_ms`: so much of the time since the last reading the machine was suspended: it
    is allocated and not observed.
    """
    length_ms = at_ms - meter.position_ms
    if length_ms < 0:
        return
    kind, blind_ms = reading.kind, blind_ms + meter.asleep_ms
    if length_ms:
        meter.asleep_ms = 0
    if kind is not meter.kind:
        if meter.kind is not None:
            _begin_anew(meter, at_ms, reading)
            return
        meter.kind = kind
    if kind is _COUNTER:
        if length_ms:
            _observe_counter(meter, at_ms, reading.value, max(0, length_ms - blind_ms))
        return
    _observe_level(meter, at_ms, reading.value, hold_ms, blind_ms)
    meter.value = reading.value
    meter.read_at_ms = at_ms
    meter.advanced = 0


def finish(meter: Meter, at_ms: int, reading: Reading, hold_ms: int, blind_ms: int = 0) -> int:
    """Account for the last reading of all, where the meter ends.

    A counter may have gained while no time passed since the reading before. That goes into
    the window that ends there, as far as it is not recorded yet.

    Returns:
        What no window could take any more, base unit x ms.
    """
    observe(meter, at_ms, reading, hold_ms, blind_ms)
    gain = reading.value - meter.value if meter.kind is reading.kind is _COUNTER else 0
    if (
        gain <= 0
        or meter.value == UNKNOWN_VALUE
        or at_ms != meter.position_ms
        or meter.cut_ms > at_ms
    ):
        return 0
    if meter.spans:
        last = _uncut(meter, meter.spans.pop())
        used, effective = _fit(meter, gain, last.effective - last.used)
        last = last._replace(used=last.used + used, effective=last.effective + effective)
        meter.spans.append(last)
    elif at_ms > meter.window_start_ms:
        used, effective = _fit(meter, gain, meter.effective - meter.used)
        meter.used += used
        meter.effective += effective
    else:
        return gain
    meter.value = reading.value
    return 0


def retract(meter: Meter, until_ms: int) -> None:
    """Take back what was accounted for after `until_ms`, where the meter has ended, it turns out.

    What is recorded stays. A counter's gain, too: it was used before the end.
    """
    until_ms = max(until_ms, meter.window_start_ms)
    over_ms = meter.position_ms - until_ms
    if over_ms <= 0 or meter.cut_ms != meter.position_ms:
        return
    length_ms, over = until_ms - meter.window_start_ms, meter.quota * over_ms
    if meter.kind is not _COUNTER:
        meter.used = max(0, meter.used - meter.value * over_ms)
    allocated = meter.quota * length_ms
    meter.effective = max(meter.effective - over, meter.used, allocated)
    meter.observed_ms = min(meter.observed_ms, length_ms)
    meter.slack, meter.advanced = max(0, meter.slack - over), max(0, meter.advanced - over)
    meter.position_ms = meter.cut_ms = until_ms


def _observe_counter(meter: Meter, at_ms: int, value: int, observed_ms: int) -> None:
    if meter.value == UNKNOWN_VALUE:
        _account_unobserved(meter, at_ms)
        meter.value, meter.read_at_ms, meter.slack, meter.advanced = value, at_ms, 0, 0
        return
    if value < meter.value and not meter.can_reset:
        value = meter.value
    used = value - meter.value if value >= meter.value else value
    effective = meter.quota * (at_ms - meter.position_ms)
    if meter.advanced:
        effective = max(effective, used - meter.advanced)
        used = min(used, effective)
        meter.advanced = 0
    elif used > effective:
        effective = used
    _account(meter, at_ms, used, effective, observed_ms)
    meter.value = value
    meter.read_at_ms = at_ms
    meter.slack = effective - used


def _fit(meter: Meter, gain: int, room: int) -> tuple[int, int]:
    """Say by how much `used` and `effective` of the last interval grow."""
    room = min(room, meter.slack)
    effective = max(0, gain - max(room, meter.advanced))
    used = min(gain, room + effective)
    meter.advanced = max(0, meter.advanced - gain)
    meter.slack = room + effective - used
    return used, effective


def _uncut(meter: Meter, span: Span) -> Span:
    """The part of a span that is in no window yet."""
    if meter.cut_ms <= span.start_ms:
        return span
    length_ms, before_ms = span.end_ms - span.start_ms, meter.cut_ms - span.start_ms
    return Span(
        meter.cut_ms,
        span.end_ms,
        span.used - span.used * before_ms // length_ms,
        span.effective - span.effective * before_ms // length_ms,
        span.observed_ms - span.observed_ms * before_ms // length_ms,
    )


def _observe_level(meter: Meter, at_ms: int, value: int, hold_ms: int, blind_ms: int) -> None:
    read_at_ms = meter.read_at_ms
    if meter.kind is _AVERAGE or read_at_ms is None:  # holds back
        _account_unobserved(meter, at_ms - hold_ms)
        twice = 2 * value
    elif at_ms - read_at_ms <= hold_ms:
        twice = meter.value + value
    else:  # the last one held as long as it could
        _account_held(meter, at_ms, hold_ms)
        return
    length_ms = at_ms - meter.position_ms
    if length_ms:
        observed_ms = max(0, length_ms - blind_ms)
        used = twice * observed_ms // 2
        _account(meter, at_ms, used, max(used, meter.quota * length_ms), observed_ms)


def settle(meter: Meter, until_ms: int, hold_ms: int) -> None:
    """Account for time up to `until_ms` of which no reading will come.

    Either the meter ends there, or its readings have failed for so long that none could
    hold back to it.
    """
    if meter.kind is not None and meter.kind is not _COUNTER:
        _account_held(meter, until_ms, hold_ms)
    elif until_ms > meter.position_ms:
        meter.slack = meter.quota * (until_ms - meter.position_ms)
        meter.advanced += meter.slack
        _account_unobserved(meter, until_ms)


def forfeit(meter: Meter, until_ms: int) -> None:
    """Record nothing from before `until_ms` any more; measuring goes on as it was."""
    if until_ms > meter.cut_ms:
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


def cut(meter: Meter, records: list[UsageRecord], *, limit: int, horizon_ms: int) -> None:
    """Append its whole windows to `records`, as long as there are fewer than `limit`.

    Windows that start at or after `horizon_ms` wait for another call.
    """
    while meter.spans and len(records) < limit and meter.window_start_ms < horizon_ms:
        span = meter.spans[0]
        end_ms = min(span.end_ms, meter.window_end_ms)
        _add_part(meter, span, end_ms)
        if end_ms == span.end_ms:
            del meter.spans[0]
        if end_ms == meter.window_end_ms:
            close_window(meter, records)


def close_window(meter: Meter, records: list[UsageRecord]) -> None:
    """Append what the open window holds and begin the next one there."""
    start_ms, length_ms = meter.window_start_ms, meter.cut_ms - meter.window_start_ms
    if length_ms:
        allocated = meter.quota * length_ms
        sums = (meter.used, meter.effective, meter.observed_ms)
        records.append(UsageRecord(meter.number, start_ms, length_ms, allocated, *sums))
        meter.used = meter.effective = meter.observed_ms = 0
        meter.window_start_ms = meter.cut_ms
        meter.window_end_ms = next_minute(meter.cut_ms)


def _begin_anew(meter: Meter, at_ms: int, reading: Reading) -> None:
    """Drop what readings of another kind said: they are in another unit."""
    _account_unobserved(meter, at_ms)
    meter.kind, meter.value, meter.read_at_ms = reading.kind, reading.value, at_ms
    meter.advanced = 0


def _account_held(meter: Meter, until_ms: int, hold_ms: int) -> None:
    """Let the last level hold as long as it may; after that nothing is known."""
    read_at_ms = meter.read_at_ms
    held_until_ms = meter.position_ms if read_at_ms is None else read_at_ms + hold_ms
    length_ms = min(held_until_ms, until_ms) - meter.position_ms
    if length_ms > 0:
        used = meter.value * length_ms
        effective = max(used, meter.quota * length_ms)
        _account(meter, meter.position_ms + length_ms, used, effective, length_ms)
    _account_unobserved(meter, until_ms)


def _account_unobserved(meter: Meter, until_ms: int) -> None:
    length_ms = until_ms - meter.position_ms
    if length_ms > 0:
        meter.asleep_ms = max(0, meter.asleep_ms - length_ms)
        _account(meter, until_ms, 0, meter.quota * length_ms, 0)


def _account(meter: Meter, until_ms: int, used: int, effective: int, observed_ms: int) -> None:
    """Add an interval: to the open window if it ends inside it, else to what is to be cut."""
    start_ms = meter.position_ms
    meter.position_ms = until_ms
    if start_ms == meter.cut_ms and until_ms < meter.window_end_ms:
        meter.used += used
        meter.effective += effective
        meter.observed_ms += observed_ms
        meter.cut_ms = until_ms
    elif until_ms > meter.cut_ms:
        meter.spans.append(Span(start_ms, until_ms, used, effective, observed_ms))


def _add_part(meter: Meter, span: Span, end_ms: int) -> None:
    """Add the part [cut_ms, end_ms) of a span to the open window."""
    length_ms = span.end_ms - span.start_ms
    before_ms, through_ms = meter.cut_ms - span.start_ms, end_ms - span.start_ms
    meter.used += span.used * through_ms // length_ms - span.used * before_ms // length_ms
    meter.effective += (
        span.effective * through_ms // length_ms - span.effective * before_ms // length_ms
    )
    meter.observed_ms += (
        span.observed_ms * through_ms // length_ms - span.observed_ms * before_ms // length_ms
    )
    meter.cut_ms = end_ms
