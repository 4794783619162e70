"""Takes out of the state what can be told, and has it recorded with the checkpoint after it."""

from agent.clock import AgentClock
from agent.daemon.observer import Observer
from agent.daemon.recorder import Entry, Recorder
from agent.state import Host, NodeState, dump, take_draft

_FRAMES_PER_LOOK = 20  # 200,000 records: the usage of a week is told in many looks


class Teller:
    """See the module. `has_more` = there is more to tell than a look had time for."""

    def __init__(
        self,
        *,
        state: NodeState,
        clock: AgentClock,
        observer: Observer,
        recorder: Recorder,
        host: Host,
    ) -> None:
        """Tell of `state`, whose checkpoints are `host`'s."""
        self.has_more = False
        self._state = state
        self._clock = clock
        self._observer = observer
        self._recorder = recorder
        self._host = host

    def tell(self, *, flush: bool = False) -> bool:
        """Make durable what can be told; False = not all of it.

        The disk is full, or there is so much to tell that a look must not wait for it.
        """
        self.has_more = True
        for _ in range(_FRAMES_PER_LOOK):
            draft = take_draft(self._state, flush=flush)
            if draft is None:
                self.has_more = False
                return True
            suspended_ms = self._observer.suspended_ms
            checkpoint = dump(self._state, self._clock.anchor, suspended_ms, self._host)
            entry = Entry(draft=draft, checkpoint=checkpoint, at_ms=self._clock.now_ms())
            if not self._recorder.record(entry):
                self.has_more = False
                return False
        return False

    def tell_all(self) -> bool:
        """Make everything up to now durable, open windows included; False = not all of it."""
        if not self.tell(flush=True):
            return False
        meters = self._state.meters
        if meters.accounts:  # they need what was recorded of the jobs
            meters.accounts.settle(self._clock.now_ms(), meters.hold_ms, flush=True)
        return self.tell(flush=True)
