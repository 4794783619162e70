"""Closes meters: those of another quota than before, and all of a run that has ended."""

from collections.abc import Iterable, Mapping

from agent import integrate
from agent.model import MeterKey, Reading
from agent.state.ends import TOLERANCE_MS, last_reading
from agent.state.finished import Finished, finished_of
from agent.state.meters import Meters
from agent.state.runs import LiveMeter, LiveRun, present_groups, wanted_groups


def change_quotas(meters: Meters, live: LiveRun, now_ms: int) -> None:
    """Close the groups that are different now, and go on from their last readings."""
    assert live.run is not None
    wanted, present = wanted_groups(live.run), present_groups(live)
    at_ms = max([now_ms, *(opened.meter.position_ms for opened in live.meters())])
    for key, shares in present.items():
        if wanted.get(key) != shares:
            meters.close_group(live, key, at_ms)
    for key, shares in wanted.items():
        if key not in live.groups:
            meters.open_group(live, key, shares, at_ms)
    meters.note_source(live)


def close_run(
    meters: Meters,
    live: LiveRun,
    ended_at_ms: int,
    readings: Mapping[MeterKey, Reading],
    blind_ms: int,
) -> Finished:
    """Close all meters of a run, the last readings first; give what to remember of it.

    Its end may lie a little before our last look, when it had not been told yet.
    """
    opened = live.meters()
    if live.run and live.run.ended_at_ms is not None:
        _retract(opened, ended_at_ms)
    end_ms = max([ended_at_ms, *(each.meter.position_ms for each in opened)])
    seen_ms = max((each.meter.position_ms for each in opened), default=end_ms)
    for each in opened:
        if reading := last_reading(live, each, readings):
            left = integrate.finish(each.meter, end_ms, reading, meters.hold_ms, blind_ms)
            if left and end_ms > live.definition.started_at_ms:
                meters.add_rest(live, each, left, end_ms)
    for key in list(live.groups):
        meters.close_group(live, key, end_ms)
    live.ended_at_ms = end_ms
    asleep_ms = max(0, blind_ms - (end_ms - seen_ms))  # it ended before, or in the middle
    return finished_of(live, opened, end_ms, asleep_ms)


def _retract(meters: Iterable[LiveMeter], ended_at_ms: int) -> None:
    """Take back what was accounted for after an end; long before our last look is none."""
    for opened in meters:
        if opened.meter.position_ms - ended_at_ms <= TOLERANCE_MS:
            integrate.retract(opened.meter, ended_at_ms)
