"""When a run ended, and what its last readings were. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from agent.model import MeterKey, Reading, ReadingKind
from agent.state.runs import LiveMeter, LiveRun

TOLERANCE_MS = 2_000
"""A provider's end may lie a little before its own last answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """The instants of one tick, agent time."""

    now_ms: int  # when the tick began: readings and answers count as taken then
    latest_ms: int  # when the providers had answered: nothing known is later
    lead_ms: int = 0  # how far agent time is ahead of the wall clock


def end_of(live: LiveRun, ended_at_ms: int, moment: Moment) -> int:
    """Put a provider's end into agent time; never later than now.

    A provider may learn of an end late (an epilog), so it may lie before its own last
    answer. After a step of the clock it is ambiguous: `exec` counts from its start, so
    its end has moved with the run; a scheduler reads the wall clock. Whichever fits what
    is known of the run is meant.
    """
    moved_ms, wall_ms = ended_at_ms + live.shift_ms, ended_at_ms + moment.lead_ms
    earliest_ms = live.alive_at_ms - TOLERANCE_MS
    for candidate_ms in (moved_ms, wall_ms):
        if earliest_ms <= candidate_ms <= moment.latest_ms:
            return candidate_ms
    return min(moved_ms, moment.latest_ms)


def last_reading(
    live: LiveRun, opened: LiveMeter, readings: Mapping[MeterKey, Reading]
) -> Reading | None:
    """The reading that counts at the end: the provider's own, else a counter read after it.

    So does the mean of a driver, which is that up to the end; a level is that of now, when
    what was used is free again.

    A final counter below the last reading was taken by somebody who saw less of the run,
    not after a reset.
    """
    final = live.run.final.get(opened.key.type) if live.run and not opened.key.device else None
    if final is None:
        late = readings.get(opened.key)
        return late if late and late.kind is not ReadingKind.LEVEL else None
    if final.kind is opened.meter.kind is ReadingKind.COUNTER:
        return Reading(kind=final.kind, value=max(final.value, opened.meter.value))
    return final
