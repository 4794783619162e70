"""Looks at the node once: asks who lives and what they use, and lets the state take it.

It records nothing; what it has learned is in the state, for whoever takes it out there.
"""

from collections.abc import Mapping, Sequence

from agent.clock import AgentClock
from agent.daemon.link import Link
from agent.daemon.schedule import Look
from agent.daemon.sources import Sources
from agent.model import MeterKey, Reading, Run
from agent.samplers.host import HostReader
from agent.state import Moment, NodeState

_JITTER_MS = 10  # less than this is no suspension but two clocks read one after the other


class Observer:
    """Looks through `sources`, for `state`; `suspended_ms` was slept when it last looked."""

    def __init__(
        self,
        *,
        state: NodeState,
        sources: Sources,
        clock: AgentClock,
        link: Link,
        host: HostReader | None,
        suspended_ms: int | None = None,
    ) -> None:
        """Begin to look now; `suspended_ms` None = nobody looked before in this boot."""
        self.suspended_ms = clock.suspended_ms() if suspended_ms is None else suspended_ms
        self._state = state
        self._sources = sources
        self._clock = clock
        self._link = link
        self._host = host
        self._hold_ms = state.meters.hold_ms
        self._inventory = sources.inventory
        self._since_ms = clock.now_ms()

    def look(self, look: Look) -> None:
        """Ask everybody, and let the state take what they say."""
        now_ms, suspended_ms, answers = self._ask()
        have_all_answered = self._reconcile(now_ms, answers)
        blind_ms = self._slept(suspended_ms)
        is_full = look is Look.FULL or blind_ms > 0  # no next reading bridges a sleep unknowing
        state = self._state
        runs = state.all_runs() if is_full else [*state.affected(), *state.young(now_ms)]
        readings: Mapping[MeterKey, Reading] = self._sources.readings(runs) if runs else {}
        if not have_all_answered:
            state.note_alive((key.run for key in readings), now_ms)
        state.observe(now_ms, readings, blind_ms)
        state.conclude(now_ms, readings, blind_ms)
        if is_full and now_ms - self._since_ms >= self._hold_ms:
            state.settle(now_ms)
        if is_full:
            self._account_for_node(now_ms, blind_ms)

    def look_for_life(self) -> None:
        """Only note who lives: nothing else can be told now."""
        now_ms = self._clock.now_ms()
        for runs in self._sources.runs(self._state.live).values():
            living = (run.key for run in runs or () if run.ended_at_ms is None)
            self._state.note_alive(living, now_ms)

    def begin_anew(self) -> None:
        """Nobody has looked for a while: the first readings bridge it before it is settled."""
        self._since_ms = self._clock.now_ms()

    def take_inventory(self, now_ms: int) -> None:
        """Let the books and the aggregator know which devices there are."""
        inventory = self._sources.inventory
        if inventory is not self._inventory:
            self._inventory = inventory
            self._link.set_devices([*inventory.devices.values()])
        if accounts := self._state.meters.accounts:
            accounts.set_devices(inventory.devices.values(), now_ms)

    def _ask(self) -> tuple[int, int, Mapping[str, Sequence[Run] | None]]:
        """The time, how long we have slept until then, and who lives; ask again after a sleep.

        An answer from after a sleep may end a run at an instant after it, while this look knows
        of no sleep: the run's last counter would bridge it as observed.
        """
        while True:
            suspended_ms = self._clock.suspended_ms()
            now_ms = self._clock.now_ms()
            answers = self._sources.runs(self._state.live)
            if self._clock.suspended_ms() - suspended_ms <= _JITTER_MS:
                return now_ms, suspended_ms, answers

    def _slept(self, suspended_ms: int) -> int:
        """How long we have slept since the last look, but not what is slept from now on."""
        blind_ms = suspended_ms - self.suspended_ms
        if blind_ms <= _JITTER_MS:
            return 0
        self.suspended_ms += blind_ms
        return blind_ms

    def _reconcile(self, now_ms: int, answers: Mapping[str, Sequence[Run] | None]) -> bool:
        """Take the answers of all providers; whether there were none missing."""
        self.take_inventory(now_ms)
        latest_ms = max(now_ms, self._clock.now_ms())
        moment = Moment(now_ms=now_ms, latest_ms=latest_ms, lead_ms=self._clock.lead_ms())
        for provider in self._sources.providers:
            runs = answers[provider.name]
            if runs is None:
                continue
            if known := self._state.reconcile(provider.name, runs, moment):
                provider.settled(known)
        return None not in answers.values()

    def _account_for_node(self, now_ms: int, blind_ms: int) -> None:
        """Account for what of the node no job has."""
        accounts = self._state.meters.accounts
        if self._host is not None and accounts is not None:
            accounts.observe(now_ms, self._host.read(), self._hold_ms, blind_ms)
            accounts.settle(now_ms, self._hold_ms)
