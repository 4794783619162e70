"""Sends the spool to the aggregator, and tells the spool what is durable there.

A thread of its own holds one bidirectional stream (gRPC reads and writes it on threads of
its own as well; `_lock` keeps all of them apart). It never gives up: whatever ends a
connection, the next one begins after a pause, and the backlog waits in the spool.

Only the loss of the stream itself (a clone, a disk that was rolled back) needs somebody
else: the thread says so and waits until the daemon has started another stream.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from random import Random

from agent.backlog import Backlog
from agent.errors import SpoolError, UplinkError
from agent.model import Device
from agent.uplink.backoff import Backoff
from agent.uplink.channel import Conversation
from agent.uplink.identity import Identity
from agent.uplink.session import Session
from agent.uplink.target import check_target
from agent.uplink.terms import Outcome, Pace, UplinkCounters
from agent.uplink.tls import TlsFiles
from proto.metering.v1 import metering_pb2 as pb

_HANG_UP_SECONDS = 2.0
_REFUSED = "the aggregator refuses us; the backlog waits in the spool"
_UNREACHED = "the aggregator cannot be reached; the backlog waits in the spool"
_LOGGER = logging.getLogger(__name__)


class Uplink:
    """The connection to the aggregator, kept up."""

    def __init__(
        self,
        target: str,
        identity: Identity,
        backlog: Backlog,
        *,
        tls: TlsFiles | None = None,
        explain: Callable[[threading.Event], str | None] | None = None,
        pace: Pace | None = None,
        on_stream_lost: Callable[[], None] = lambda: None,
        random: Random | None = None,
    ) -> None:
        """Prepare to send `backlog` to `target`; nothing happens until `start`.

        `explain` says better than gRPC why no connection came about, if it can, and may take
        its time unless what it is given is set. `on_stream_lost` is called after `lost_stream`
        was set. Both are called on the uplink's thread.

        Raises:
            UplinkError: plain text must not be spoken to `target`.
        """
        check_target(target, has_tls=tls is not None)
        self.counters = UplinkCounters()
        self.on_stream_lost = on_stream_lost
        self._target = target
        self._tls = tls
        self._explain = explain
        self._identity = identity
        self._backlog = backlog
        self._pace = pace or Pace()
        pause = (self._pace.base_seconds, self._pace.cap_seconds)
        self._backoff = Backoff(*pause, random or Random())  # noqa: S311  no secret hangs on it
        self._lock = threading.Condition()
        self._session: Session | None = None
        self._conversation: Conversation | None = None
        self._lost_stream: str | None = None
        self._told: str | None = ""  # what the log said last; None = that we are connected
        self._is_one_by_one = False  # which message is not taken is to be found out
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="uplink", daemon=True)

    def set_devices(self, devices: Sequence[Device]) -> None:
        """Name these devices in the next Hello; from any thread."""
        self._identity = replace(self._identity, devices=tuple(devices))

    @property
    def lost_stream(self) -> str | None:
        """Why the stream must be given up; None = it need not."""
        return self._lost_stream

    @property
    def is_connected(self) -> bool:
        """Whether the aggregator welcomes us now."""
        session = self._session
        return session is not None and session.is_welcome

    def start(self) -> None:
        """Begin to connect."""
        self._thread.start()

    def wake(self) -> None:
        """There is something new in the spool."""
        with self._lock:
            self._lock.notify_all()

    def reconnect(self) -> None:
        """Hang up and connect at once, with what the files of TLS hold now."""
        with self._lock:
            if self._session:
                self._session.end(Outcome(reason="to connect anew", is_planned=True))
            self._lock.notify_all()

    def resume(self) -> None:
        """The spool has another stream now: go on with that one."""
        with self._lock:
            self._lost_stream = None
            self._lock.notify_all()

    def stop(self, drain_seconds: float = 0.0) -> bool:
        """Hang up, at once or when all is acked; what is not stays in the spool.

        Returns:
            Whether everything was acked.
        """
        deadline = time.monotonic() + drain_seconds
        with self._lock:
            while not self._is_drained() and self.is_connected:
                if not self._lock.wait(deadline - time.monotonic()):
                    break
            self._stopping.set()
            self._lock.notify_all()
        if self._thread.is_alive():
            self._thread.join(_HANG_UP_SECONDS)
            self._cancel()
            self._thread.join()
        return self._is_drained()

    def _is_drained(self) -> bool:
        return self._backlog.acked_through >= self._backlog.last_sequence

    # The uplink's thread ---------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopping.is_set():
            outcome = self._converse()
            if self._stopping.is_set():
                return
            if outcome.is_planned:
                continue
            self.counters.failures += 1
            self._tell(outcome.reason, is_refused=outcome.is_refused)
            if outcome.is_stream_lost:
                self._wait_for_another_stream(outcome.reason)
            else:
                self._pause(self._backoff.next_seconds(outcome.retry_after_seconds))

    def _converse(self) -> Outcome:
        """Hold one conversation to its end, and say why it ended."""
        now = time.monotonic()
        pace = replace(self._pace, window_batches=1) if self._is_one_by_one else self._pace
        session = Session(self._backlog, self._identity, pace, self.counters, now)
        self._session = session
        requests = self._requests(session)
        try:
            conversation = self._conversation = Conversation(self._target, requests, self._tls)
        except UplinkError as error:
            self._session = None
            return Outcome(reason=str(error))
        for message in conversation.answers():
            self._receive(session, message)
        reason = self._reason(session, conversation)
        with self._lock:
            if session.is_welcome and not session.outcome and conversation.has_refused_size():
                session.blame(conversation.ending())
            session.end(Outcome(reason=reason))
            self._session = self._conversation = None
            self._lock.notify_all()
        conversation.close()
        assert session.outcome is not None
        self._is_one_by_one = session.outcome.is_unclear
        return session.outcome

    def _reason(self, session: Session, conversation: Conversation) -> str:
        """Why a conversation is over, in the best words that there are."""
        ending = conversation.ending()
        is_known = session.outcome or "Connection refused" in ending
        if self._stopping.is_set() or is_known or not conversation.has_failed_to_connect:
            return ending
        words = self._explain(self._stopping) if self._explain else None
        return words or ending

    def _requests(self, session: Session) -> Iterator[bytes]:
        """What gRPC's writing thread asks for; it waits in here while there is nothing."""
        yield session.hello
        while (message := self._next(session)) is not None:
            yield message

    def _next(self, session: Session) -> bytes | None:
        with self._lock:
            while not session.outcome and not self._stopping.is_set():
                now = time.monotonic()
                session.check_patience(now)
                try:
                    message = session.next_message(now)
                except SpoolError as error:
                    session.end(Outcome(reason=str(error)))
                    break
                if message is not None:
                    return message
                self._lock.wait(session.next_look(now))
        if session.outcome:
            self._cancel()  # who waits for an answer would wait for ever
        return None

    def _receive(self, session: Session, message: pb.AggregatorMessage) -> None:
        with self._lock:
            was_welcome = session.is_welcome
            session.receive(message, time.monotonic())
            if session.is_welcome and not was_welcome:
                self.counters.connections += 1
                self._backoff.reset()
                self._tell(None)
            self._lock.notify_all()

    def _cancel(self) -> None:
        if conversation := self._conversation:
            conversation.cancel()

    def _wait_for_another_stream(self, reason: str) -> None:
        self.counters.lost_streams += 1
        self._lost_stream = reason
        self.on_stream_lost()
        with self._lock:
            self._lock.wait_for(lambda: self._stopping.is_set() or self._lost_stream is None)

    def _pause(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        with self._lock:
            while not self._stopping.is_set() and (left := deadline - time.monotonic()) > 0:
                self._lock.wait(left)

    def _tell(self, reason: str | None, *, is_refused: bool = False) -> None:
        """Log that the connection is lost or back, once each time and for each reason."""
        if reason == self._told:
            return
        self._told = reason
        if reason is None:
            _LOGGER.info("connected", extra={"action": "connect", "target": self._target})
        else:
            _LOGGER.warning(
                _REFUSED if is_refused else _UNREACHED,
                extra={"action": "reconnect", "target": self._target, "reason": reason},
            )
