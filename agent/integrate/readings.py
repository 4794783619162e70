"""What a meter's readings, and their absence, say of an interval. Pure."""

from agent.integrate.meter import UNKNOWN_VALUE, Meter
from agent.integrate.windows import account, uncut
from agent.model import Reading, ReadingKind

_AVERAGE = ReadingKind.AVERAGE
_COUNTER = ReadingKind.COUNTER  # a member's look-up costs as much as the arithmetic


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
        last = uncut(meter, meter.spans.pop())
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
    account(meter, at_ms, used, effective, observed_ms)
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
        account(meter, at_ms, used, max(used, meter.quota * length_ms), observed_ms)


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
        account(meter, meter.position_ms + length_ms, used, effective, length_ms)
    _account_unobserved(meter, until_ms)


def _account_unobserved(meter: Meter, until_ms: int) -> None:
    length_ms = until_ms - meter.position_ms
    if length_ms > 0:
        meter.asleep_ms = max(0, meter.asleep_ms - length_ms)
        account(meter, until_ms, 0, meter.quota * length_ms, 0)
