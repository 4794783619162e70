"""What the agent knows of its node: live runs, their meters, and who has ended.

Each tick goes through it in this order: `reconcile` with every provider's answer,
`observe` the readings, `conclude` what the answers changed, `settle` what stays silent;
then `agent.state.draft` takes out what can be told. Nothing here does I/O or reads a
clock; the same calls give the same state.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from agent import integrate
from agent.model import MeterKey, Reading, ResourceType, Run, RunKey
from agent.state.closing import change_quotas, close_run
from agent.state.ends import Moment, end_of
from agent.state.finished import Finished, FinishedRuns, adds_to, finished_of, metered_before
from agent.state.meters import Meters
from agent.state.runs import LiveMeter, LiveRun, define_run, present_groups, wanted_groups

YOUNG_MS = 10_000
"""So long after its start a run is looked at every second: a short one has few readings."""


class NodeState:
    """See the module."""

    def __init__(self, meters: Meters) -> None:
        """Know of no run; number what comes as `meters` says."""
        self.meters = meters
        self.live: dict[RunKey, LiveRun] = {}
        self.ended: list[LiveRun] = []  # all their meters are closing
        self.finished = FinishedRuns()
        self._changed: list[LiveRun] = []
        self._ending: list[tuple[LiveRun, int]] = []

    # Answers ---------------------------------------------------------------------------

    def reconcile(self, provider: str, runs: Sequence[Run], moment: Moment) -> list[RunKey]:
        """Take a provider's complete answer: runs it names live, its others have ended.

        Returns:
            Ended runs that it names although their end was taken before.
        """
        listed = {run.key: run for run in runs}
        known = [key for key, run in listed.items() if not self._take(run, moment)]
        gone = [
            live
            for key, live in self.live.items()
            if key not in listed and live.provider == provider
        ]
        for live in gone:
            self._note_end(live, live.alive_at_ms)
        self.finished.forget(provider, listed, moment.now_ms)
        return known

    def retire_others(self, providers: Iterable[str]) -> None:
        """End the runs of providers that are not asked any more."""
        for live in list(self.live.values()):
            if live.provider not in providers:
                self._note_end(live, live.alive_at_ms)

    def note_alive(self, runs: Iterable[RunKey], now_ms: int) -> None:
        """Know that these runs live: they were named, or their readings could be taken."""
        for key in runs:
            if live := self.live.get(key):
                live.alive_at_ms = max(live.alive_at_ms, now_ms)

    def _take(self, run: Run, moment: Moment) -> bool:
        """Take what a provider says of one run; False = its end was taken before."""
        live = self.live.get(run.key)
        if live is None:
            before, run = metered_before(run, self.finished.get(run.key), moment)
            if before and run.ended_at_ms is not None:
                return self._prolong(run, run.ended_at_ms, before, moment)
            live = self._start(run, moment, before)
        elif live.is_stale and run.ended_at_ms is None:
            live = self._restart(live, run, moment)
        is_same, live.run = run is live.run, run
        self._note_devices(run)
        if not is_same:
            self.meters.note_source(live)
        if run.ended_at_ms is not None:
            self._note_end(live, end_of(live, run.ended_at_ms, moment))
            return True
        live.alive_at_ms = max(live.alive_at_ms, moment.now_ms)
        if not is_same and wanted_groups(run) != present_groups(live):
            self._changed.append(live)
        return True

    def _prolong(self, run: Run, ended_at_ms: int, before: Finished, moment: Moment) -> bool:
        """Meter what a later word on its end adds to a run; False = nothing.

        CPU time alone needs no time of its own, and no quota: the last instant has it.
        """
        if not adds_to(run, before, moment):
            self.finished.setdefault(run.key, before)  # as long as it is named
            return False
        end_ms = max(before.ended_at_ms, min(ended_at_ms + moment.lead_ms, moment.latest_ms))
        run = replace(run, ended_at_ms=max(ended_at_ms, before.told_ms or 0))
        if end_ms == before.ended_at_ms:
            run = replace(run, quotas={ResourceType.CPU: 0}, devices=(), storage_paths=())
            before = replace(before, ended_at_ms=end_ms - 1)
        self._note_end(self._start(run, moment, before), end_ms)
        return True

    def _note_end(self, live: LiveRun, ended_at_ms: int) -> None:
        """End a run; `conclude` closes its meters, after the last readings."""
        del self.live[live.key]
        for opened in live.meters():
            self.meters.open.pop(opened.key, None)
        self._ending.append((live, ended_at_ms))

    # Starts ----------------------------------------------------------------------------

    def _start(self, run: Run, moment: Moment, before: Finished | None) -> LiveRun:
        """Meter a run from its start; one that was thought to have ended, from there."""
        number = self.meters.number()
        start_ms = min(run.started_at_ms + moment.lead_ms, moment.latest_ms)
        wire_key: str = run.key
        self.finished.pop(run.key, None)
        if before:
            # Of the run and its instant alone: who tells it again calls it the same.
            start_ms, wire_key = before.ended_at_ms, f"{run.key}~{before.ended_at_ms}"
        self._note_devices(run)
        live = LiveRun(
            key=run.key,
            definition=define_run(run, number, wire_key, start_ms),
            shift_ms=moment.lead_ms,
            alive_at_ms=start_ms,
            run=run,
        )
        for key, shares in wanted_groups(run).items():
            self.meters.open_group(live, key, shares, start_ms)
        self.meters.note_source(live)
        if before:
            _go_on(live.meters(), before)
        self.live[run.key] = live
        return live

    def _restart(self, live: LiveRun, run: Run, moment: Moment) -> LiveRun:
        """A run of before a reboot lives: it ended with the machine and is a new one now."""
        self._note_end(live, live.alive_at_ms)
        before = replace(finished_of(live, live.meters(), moment.now_ms), cpu_value=0, advanced=0)
        return self._start(run, moment, before)

    def _note_devices(self, run: Run) -> None:
        for share in run.devices:
            self.meters.physical[share.id] = share.physical or share.id

    # Readings --------------------------------------------------------------------------

    def affected(self) -> list[Run]:
        """Runs whose readings `conclude` wants: those with another quota, and the ended."""
        changed = [live.run for live in self._changed if live.run]
        return [*changed, *(live.run for live, _ in self._ending if live.run)]

    def young(self, now_ms: int) -> list[Run]:
        """Those not `affected` that have just started: what they hold changes, and ends soon."""
        since_ms, changed = now_ms - YOUNG_MS, self._changed
        return [
            live.run
            for live in self.live.values()
            if live.run and live.definition.started_at_ms > since_ms and live not in changed
        ]

    def all_runs(self) -> list[Run]:
        """Every run that can be sampled: those that live, and the ended among `affected`."""
        runs = [live.run for live in self.live.values() if live.run]
        return [*runs, *(live.run for live, _ in self._ending if live.run)]

    def observe(self, now_ms: int, readings: Mapping[MeterKey, Reading], blind_ms: int = 0) -> None:
        """Account for readings taken at `now_ms`; see `integrate.observe`."""
        meters, hold_ms = self.meters.open, self.meters.hold_ms
        for key, reading in readings.items():
            if meter := meters.get(key):
                integrate.observe(meter, now_ms, reading, hold_ms, blind_ms)

    def conclude(
        self, now_ms: int, readings: Mapping[MeterKey, Reading], blind_ms: int = 0
    ) -> None:
        """Close what ended with this tick's answers, and open what takes its place."""
        for live in self._changed:
            change_quotas(self.meters, live, now_ms)
        self.finished.note_sleep(blind_ms)
        for live, ended_at_ms in self._ending:
            self._end(live, ended_at_ms, readings, blind_ms)
        self._changed, self._ending = [], []

    def settle(self, now_ms: int) -> None:
        """Account for time whose readings will not come any more, as allocated."""
        hold_ms = self.meters.hold_ms
        for live in self.live.values():
            until_ms = min(now_ms, live.alive_at_ms) - hold_ms
            for group in live.groups.values():
                for opened in group:
                    if opened.meter.position_ms < until_ms:
                        integrate.settle(opened.meter, until_ms, hold_ms)

    def settle_all(self, now_ms: int) -> None:
        """Account for everything up to now, as far as the runs are known to live."""
        for live in self.live.values():
            until_ms = min(now_ms, live.alive_at_ms)
            for opened in live.meters():
                if opened.meter.position_ms < until_ms:
                    integrate.settle(opened.meter, until_ms, self.meters.hold_ms)

    def _end(
        self,
        live: LiveRun,
        ended_at_ms: int,
        readings: Mapping[MeterKey, Reading],
        blind_ms: int,
    ) -> None:
        """Close all meters of a run, the last readings first."""
        has_restarted = live.key in self.live  # then the readings are of the new one
        last: Mapping[MeterKey, Reading] = {} if has_restarted else readings
        finished = close_run(self.meters, live, ended_at_ms, last, blind_ms)
        if not has_restarted:
            self.finished[live.key] = finished
        self.ended.append(live)

    # The clock -------------------------------------------------------------------------

    def shift(self, by_ms: int) -> None:
        """Move all instants with the clock, after every window was closed.

        Backward, the meters of live runs make way for new ones: the windows of one meter
        never overlap.
        """
        if self.meters.accounts:
            self.meters.accounts.shift(by_ms)
        for live in self.live.values():
            live.shift_ms += by_ms
            live.alive_at_ms += by_ms
            if by_ms < 0:
                self.meters.renew(live, by_ms)
            else:
                for opened in live.meters():
                    integrate.shift(opened.meter, by_ms)
        self.finished.shift(by_ms)
        if self.meters.floor_ms is not None:
            self.meters.floor_ms += by_ms

    def reboot(self) -> None:
        """The state is of an earlier boot: no run has provably lived since."""
        for live in self.live.values():
            live.is_stale = True

    def forfeit(self, floor_ms: int) -> None:
        """Record nothing from before `floor_ms`: it may have been delivered already."""
        self.meters.floor_ms = floor_ms
        if self.meters.accounts:
            self.meters.accounts.forfeit(floor_ms)
        for live in [*self.live.values(), *self.ended]:
            for opened in [*live.meters(), *live.closing]:
                integrate.forfeit(opened.meter, floor_ms)

    def disown(self, number: int, floor_ms: int) -> None:
        """Know nothing any more of runs numbered below `number`, nor tell what was before.

        They are not ended: they may go on with whom they belong to.
        """
        for live in [one for one in self.live.values() if one.definition.number < number]:
            del self.live[live.key]
            for opened in live.meters():
                self.meters.discard(opened, floor_ms)
        self.ended = [live for live in self.ended if live.definition.number >= number]
        self._ending = [one for one in self._ending if one[0].definition.number >= number]
        self._changed = [live for live in self._changed if live.key in self.live]
        self.forfeit(max(floor_ms, self.meters.floor_ms or 0))

    def redefine(self) -> None:
        """Tell all definitions anew: who reads the next draft knows none."""
        self.meters.fresh = [opened for live in self.live.values() for opened in live.meters()]


def _go_on(meters: Iterable[LiveMeter], before: Finished) -> None:
    """Begin where a run has ended that did not end, or not there."""
    for opened in meters:
        opened.meter.asleep_ms = before.asleep_ms
        if opened.key.type is ResourceType.CPU:
            opened.meter.value, opened.meter.advanced = before.cpu_value, before.advanced
