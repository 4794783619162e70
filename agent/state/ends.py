"""When a run ended, and what its last readings were. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from agent.integrate import UNKNOWN_VALUE
from agent.model import MeterKey, Reading, ReadingKind, ResourceType, Run
from agent.state.runs import LiveMeter, LiveRun

TOLERANCE_MS = 2_000
"""A provider's end may lie a little before its own last answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """The instants of one tick, agent time."""

    now_ms: int  # when the tick began: readings and answers count as taken then
    latest_ms: int  # when the providers had answered: nothing known is later
    lead_ms: int = 0  # how far agent time is ahead of the wall clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """An ended run that its provider may name again.

    `cpu_value` is where its CPU counter stood, in case it lives after all or more is told of
    its end; `advanced` is what the meter had ahead of it (see `integrate`). `asleep_ms` is how
    long the machine has slept since it ended, as far as a look was told: should the run go on
    from there, so much of it is unobserved.
    """

    provider: str
    ended_at_ms: int
    cpu_value: int
    is_open: bool  # nobody has told both its end and its CPU time
    told_ms: int | None = None  # its end in its provider's own time; None = it was concluded
    advanced: int = 0
    asleep_ms: int = 0


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


def finished_of(
    live: LiveRun, meters: Iterable[LiveMeter], ended_at_ms: int, asleep_ms: int = 0
) -> Finished:
    """What to remember of a run whose meters have had their last readings, and are settled."""
    cpus = [opened.meter for opened in meters if opened.key.type is ResourceType.CPU]
    told_ms = live.run.ended_at_ms if live.run else None
    has_final = live.run is not None and ResourceType.CPU in live.run.final
    return Finished(
        provider=live.provider,
        ended_at_ms=ended_at_ms,
        cpu_value=sum(meter.value for meter in cpus),
        is_open=told_ms is None or not has_final,
        told_ms=told_ms,
        advanced=sum(meter.advanced for meter in cpus),
        asleep_ms=asleep_ms,
    )


def metered_before(run: Run, known: Finished | None, moment: Moment) -> tuple[Finished | None, Run]:
    """What a run goes on from, and the run without what is told already; None = it is new.

    `known`: what is remembered of it.
    """
    if run.metered_until_ms is None:
        return known, run
    until_ms = run.metered_until_ms + moment.lead_ms
    if run.ended_at_ms is None:
        return _outlived(run, min(until_ms, moment.latest_ms)), run
    return _forgotten(run, until_ms) if known is None else (known, run)


def _forgotten(run: Run, ended_at_ms: int) -> tuple[Finished, Run]:
    """What is left to meter of a run whose first end only its provider remembers.

    How much of its CPU time is told already nobody knows any more: none is told now.
    """
    final = run.final.get(ResourceType.CPU)
    before = Finished(
        provider=run.provider,
        ended_at_ms=ended_at_ms,
        cpu_value=final.value if final else 0,
        is_open=True,
        told_ms=run.metered_until_ms,
    )
    return before, replace(run, final={})


def _outlived(run: Run, ended_at_ms: int) -> Finished:
    """What a run goes on from that was metered as a part of another one until then.

    What its CPU counter holds is billed there. How much that is its next reading tells: what
    it used until then is unobserved.
    """
    return Finished(
        provider=run.provider,
        ended_at_ms=ended_at_ms,
        cpu_value=UNKNOWN_VALUE,
        is_open=True,
        told_ms=run.metered_until_ms,
    )


def adds_to(run: Run, before: Finished, moment: Moment) -> bool:
    """Whether an ended run has a later end than was told before, or more CPU time.

    Ends are compared in the provider's own time, which no step of the clock moves.
    """
    ended_at_ms = run.ended_at_ms or 0
    told_ms = before.ended_at_ms - moment.lead_ms if before.told_ms is None else before.told_ms
    final = run.final.get(ResourceType.CPU)
    is_unknown = before.cpu_value == UNKNOWN_VALUE
    if final is None or final.kind is not ReadingKind.COUNTER or is_unknown:
        return ended_at_ms > told_ms
    return ended_at_ms > told_ms or final.value > before.cpu_value + before.advanced
