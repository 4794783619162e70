"""Cuts intervals into windows, which never cross a whole minute. Pure.

Each window has the difference of two cumulative floors of its interval, so that the windows
add up to the intervals whatever the cuts.
"""

from agent.integrate.meter import Meter, Span, UsageRecord, next_minute


def account(meter: Meter, until_ms: int, used: int, effective: int, observed_ms: int) -> None:
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


def uncut(meter: Meter, span: Span) -> Span:
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
