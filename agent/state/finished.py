"""Runs that have ended, and that their providers may name again. Pure."""

from collections.abc import Container, Iterable
from dataclasses import dataclass, replace

from agent.integrate import UNKNOWN_VALUE
from agent.model import ReadingKind, ResourceType, Run, RunKey
from agent.state.ends import Moment
from agent.state.runs import LiveMeter, LiveRun

REMEMBERED_MS = 3_600_000
"""For so long a run that is named again, or whose end is told again, goes on where it ended."""
REMEMBERED_RUNS = 256
"""So many of each provider."""


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


class FinishedRuns(dict[RunKey, Finished]):
    """Those that are remembered, by run."""

    def forget(self, provider: str, listed: Container[RunKey], now_ms: int) -> None:
        """Drop whom nobody names any more: long ago, or too many; those that may go on last."""
        unnamed = {
            key: finished
            for key, finished in self.items()
            if finished.provider == provider and key not in listed
        }
        since_ms = now_ms - REMEMBERED_MS
        kept = [key for key, finished in unnamed.items() if finished.ended_at_ms >= since_ms]
        kept.sort(key=lambda key: unnamed[key].is_open)
        for key in unnamed.keys() - set(kept[-REMEMBERED_RUNS:]):
            del self[key]

    def note_sleep(self, blind_ms: int) -> None:
        """Let them know of it: what goes on from their end has slept, too."""
        if blind_ms:
            for key, finished in self.items():
                self[key] = replace(finished, asleep_ms=finished.asleep_ms + blind_ms)

    def shift(self, by_ms: int) -> None:
        """Move their ends with the clock."""
        for key, finished in self.items():
            self[key] = replace(finished, ended_at_ms=finished.ended_at_ms + by_ms)


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
