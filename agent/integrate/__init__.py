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
the reading of their cgroups. Only this package moves one.
"""

from agent.integrate.meter import (
    MINUTE_MS,
    UNKNOWN_VALUE,
    Meter,
    Span,
    UsageRecord,
    forfeit,
    inherit,
    next_minute,
    open_meter,
    shift,
)
from agent.integrate.readings import finish, observe, retract, settle
from agent.integrate.windows import close_window, cut

__all__ = [
    "MINUTE_MS",
    "UNKNOWN_VALUE",
    "Meter",
    "Span",
    "UsageRecord",
    "close_window",
    "cut",
    "finish",
    "forfeit",
    "inherit",
    "next_minute",
    "observe",
    "open_meter",
    "retract",
    "settle",
    "shift",
]
