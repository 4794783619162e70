"""The agent's main loop: look, integrate, record; one thread, one look after the other.

A look asks the providers who lives, the samplers what they use, lets the state account
for it, and records what can be told. It is full at each deadline of the schedule; an
event in a jobs directory causes one that only notices starts, ends and quotas. Nothing
is written unless something can be told, so an idle node writes nothing.

The checkpoint is in the frame of the records: wherever this process is killed, the next
one goes on from the last frame.
"""

import logging
import signal
import threading
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from types import FrameType

from agent.clock import AgentClock
from agent.daemon.counters import DaemonCounters
from agent.daemon.link import Link
from agent.daemon.observer import Observer
from agent.daemon.recorder import Recorder
from agent.daemon.resume import resume
from agent.daemon.retell import Origin
from agent.daemon.schedule import Look, Schedule
from agent.daemon.sources import Sources
from agent.daemon.succession import begin_stream
from agent.daemon.teller import Teller
from agent.daemon.textfile import Figures, Textfile
from agent.daemon.waker import Waker
from agent.errors import AgentError
from agent.jobs import JobProvider
from agent.model import RunKey
from agent.notify import Notifier, Watcher
from agent.procfs import ProcFs
from agent.samplers import Sampler
from agent.samplers.host import HostReader
from agent.settings import AgentSettings
from agent.spool import Spool
from agent.spool.errors import SpoolFullError
from agent.state import Host, Meters

_DRAIN_SECONDS = 3.0
_WATCHDOG_MS = 20_000  # the service manager waits for a minute
_LOGGER = logging.getLogger(__name__)


class Daemon:
    """Meters one node until it is stopped."""

    def __init__(
        self,
        *,
        settings: AgentSettings,
        clock: AgentClock,
        providers: Sequence[JobProvider],
        samplers: Sequence[Sampler],
        spool: Spool,
        uplink: Link,
        notifier: Notifier,
        watcher: Watcher,
        cpu_model: str | None,
        host: HostReader | None = None,
        procfs: ProcFs | None = None,
        machine_id: str = "",
    ) -> None:
        """Go on from the spool's checkpoint.

        Raises:
            CheckpointError: another version of the agent wrote it.
        """
        self.counters = DaemonCounters()
        self._clock = clock
        self._spool = spool
        self._uplink = uplink
        self._notifier = notifier
        hold_ms = settings.agent.max_hold_seconds * 1_000
        self._procfs = procfs or ProcFs()
        self._sources = Sources(
            providers, samplers, self.counters, now_ms=clock.now_ms, procfs=self._procfs
        )
        self._recorder = Recorder(spool, self.counters, self._on_durable)
        self._waker = Waker(watcher)
        whose = Host(node=settings.node.name, machine_id=machine_id)
        self._stopping = threading.Event()
        resumed = resume(
            spool=spool,
            clock=clock,
            meters=Meters(hold_ms, cpu_model),
            uptime_ms=self._procfs.uptime_ms,
            capacity=host.capacity if host else None,
            host=whose,
        )
        self.state, self._origin = resumed.state, resumed.origin
        self.state.retire_others([provider.name for provider in providers])
        self._observer = Observer(
            state=self.state,
            sources=self._sources,
            clock=clock,
            link=uplink,
            host=host,
            suspended_ms=resumed.suspended_ms,
        )
        self._teller = Teller(
            state=self.state,
            clock=clock,
            observer=self._observer,
            recorder=self._recorder,
            host=whose,
        )
        interval_ms = settings.agent.sample_interval_seconds * 1_000
        textfile = settings.metrics.textfile
        self._textfile = Textfile(textfile) if textfile else None
        self._schedule = Schedule(settings.node.name, interval_ms, clock.now_ms())

    def run(self) -> None:
        """Meter until `stop`, SIGTERM or SIGINT; then record everything and hang up.

        Raises:
            SpoolError: the disk failed. What was recorded before is safe, and the next
                start accounts for the rest.
            AgentError: a driver was replaced under us; only a new process can talk to it.
        """
        self._handle_signals()
        if self._sources.look_at_devices():
            self._observer.take_inventory(self._clock.now_ms())
        self._uplink.start()
        try:
            self._loop()
            self._notifier.stopping()
            self.finish()
            if reason := self._sources.must_restart:
                raise AgentError(f"{reason}; the agent must be started anew")
        finally:
            is_drained = self._uplink.stop(_DRAIN_SECONDS)
            self.close()
            _LOGGER.info("the agent ends", extra={"action": "stop", "is_drained": is_drained})

    def stop(self) -> None:
        """End `run` soon; from any thread, or a signal's handler."""
        self._stopping.set()
        self._waker.wake()

    def wake(self) -> None:
        """Look whether something is to be done now; from any thread."""
        self._waker.wake()

    def note_event(self) -> None:
        """A run may have started, changed or ended: look soon; from any thread."""
        self._waker.note()

    def look(self, look: Look) -> None:
        """Look once, and record what is to be told."""
        self.counters.looks += 1
        if self._uplink.lost_stream is not None:
            self._replace_stream(self._uplink.lost_stream)
        if self._unblock() and self._follow_clock():
            self._observer.look(look)
            self._teller.tell()
        if look is Look.FULL:
            self._spool.prune(self._clock.now_ms())
            self._show()

    def finish(self) -> None:
        """Record everything up to now, open windows included.

        What is too much for that waits in the checkpoint.
        """
        if self._unblock() and self._follow_clock():
            self._observer.look(Look.FULL)
            self._teller.tell()
            self._teller.tell_all()

    def close(self) -> None:
        """Give the spool and all else back; idempotent. `run` does it at its end."""
        self._spool.close()
        self._waker.close()

    # The loop ----------------------------------------------------------------------------

    def _loop(self) -> None:
        is_ready = False
        while not self._stopping.is_set() and not self._sources.must_restart:
            now_ms = self._clock.now_ms()
            look = self._schedule.due(now_ms)
            if look is None:
                self._notifier.watchdog()
                if self._waker.wait(min(self._schedule.wait_ms(now_ms), _WATCHDOG_MS)):
                    self._schedule.note_event(self._clock.now_ms())
                if self._uplink.lost_stream is None:
                    continue
                look = Look.EVENT
            if look is Look.FULL:
                self._watch()
            self.look(look)
            now_ms = self._clock.now_ms()
            self._schedule.looked(look, now_ms)
            if self._teller.has_more or self.state.young(now_ms):
                self._schedule.note_event(now_ms)
            if not is_ready:
                self._notifier.ready()
                is_ready = True

    def _watch(self) -> None:
        """Hear of what happens in the jobs directories, which may come and go."""
        for provider in self._sources.providers:
            self._waker.watch(provider.watch_paths())

    def _handle_signals(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self._on_signal)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.stop()

    # One look ----------------------------------------------------------------------------

    def _on_durable(self, ended: Mapping[str, Collection[RunKey]]) -> None:
        self._uplink.wake()
        self._notifier.watchdog()  # to tell the usage of a week takes many frames
        lasting = {
            provider: [key for key in keys if key not in self.state.live]
            for provider, keys in ended.items()
        }
        self._sources.settled(lasting)

    def _unblock(self) -> bool:
        """Whether there is room in the spool; while there is none, only note who lives."""
        was_blocked = self._recorder.is_blocked
        if self._recorder.retry():
            if was_blocked:
                self._observer.begin_anew()
            return True
        self._observer.look_for_life()
        return False

    def _show(self) -> None:
        """Put our own figures where somebody may read them."""
        if self._textfile is None:
            return
        runs = Counter(live.provider for live in self.state.live.values())
        figures = Figures(
            now_ms=self._clock.now_ms(),
            counters=self.counters,
            sources=self._sources.status,
            runs={provider.name: runs[provider.name] for provider in self._sources.providers},
            devices=self._sources.inventory.devices.values(),
            unacked_frames=self._spool.last_sequence - self._spool.acked_through,
            refused_frames=self._spool.counters.refused_frames,
            is_blocked=self._recorder.is_blocked,
        )
        self._textfile.write(figures)

    # What seldom happens -----------------------------------------------------------------

    def _follow_clock(self) -> bool:
        """Follow a step of the wall clock where all windows end; False = the disk is full."""
        if not self._clock.pending_step_ms():
            return True
        self.state.settle_all(self._clock.now_ms())
        if not self._teller.tell_all():
            return False
        step_ms = self._clock.follow()
        self.state.shift(step_ms)
        self.counters.clock_steps += 1
        _LOGGER.warning(
            "the wall clock was set; durations are not affected",
            extra={"action": "clock_step", "step_ms": step_ms},
        )
        return True

    def _replace_stream(self, reason: str) -> None:
        """Go on in a stream of our own; what may not have arrived in the old one is told again.

        On a full disk the old stream stays until there is room.
        """
        try:
            retold_frames = begin_stream(
                spool=self._spool,
                state=self.state,
                recorder=self._recorder,
                origin=self._origin,
                now_ms=self._clock.now_ms(),
                uptime_ms=self._procfs.uptime_ms,
            )
        except SpoolFullError:
            return
        self._origin = Origin()
        _LOGGER.error(
            "the stream is given up for a new one; its backlog is set aside",
            extra={"action": "new_stream", "reason": reason, "told_again": retold_frames},
        )
        self.counters.lost_streams += 1
        self.state.redefine()
        if self._recorder.retry():
            self._teller.tell()  # a stream without a checkpoint must not be left alone
        self._uplink.resume()
