"""A thread for calls that may hang, so that nobody waits for them longer than he wants to.

Unlike `agent.background` its owner asks for an attempt of now and waits a little for it, and
the work itself says when it wants to be done again.
"""

import logging
import threading
from typing import Protocol

from agent.clock import TimeSource

_NS_PER_MS = 1_000_000
_LOGGER = logging.getLogger(__name__)


class Work(Protocol):
    """What a worker does; raises nothing."""

    def __call__(self, *, is_asked: bool) -> float:
        """Do it; returns in how many seconds it wants to be done again, asked or not."""
        ...


class Worker:
    """Does its work when asked to, and again when the work wants it."""

    def __init__(self, name: str, work: Work, time: TimeSource) -> None:
        """Do nothing yet."""
        self._work = work
        self._time = time
        self._changed = threading.Condition()
        self._asked = 0  # how often it was asked for, and how far that is done
        self._done = 0
        self._busy_since_ns: int | None = None
        self._is_closing = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def ask(self, wait_seconds: float) -> bool:
        """Have it done from now on anew, and wait for it; whether it was done in time.

        Who is busy for longer than that already is not waited for.
        """
        with self._changed:
            self._asked += 1
            mine = self._asked
            self._changed.notify_all()
            if self.busy_ms > wait_seconds * 1000:
                return False
            return self._changed.wait_for(lambda: self._done >= mine, wait_seconds)

    @property
    def busy_ms(self) -> int:
        """For how long it has been at the same attempt; 0 = it rests."""
        since_ns = self._busy_since_ns
        return 0 if since_ns is None else (self._time.boottime_ns() - since_ns) // _NS_PER_MS

    def close(self) -> None:
        """Do nothing any more; an attempt that hangs is left behind."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()

    def _run(self) -> None:
        pause_seconds: float | None = None  # the first time it waits until it is asked
        while True:
            with self._changed:
                self._changed.wait_for(self._is_wanted, pause_seconds)
                if self._is_closing:
                    return
                asked, is_asked = self._asked, self._asked > self._done
                self._busy_since_ns = self._time.boottime_ns()
            try:
                pause_seconds = self._work(is_asked=is_asked)
            except Exception:  # what nobody foresaw must not end the thread
                _LOGGER.exception("an unforeseen failure", extra={"action": "fail"})
                pause_seconds = 60.0
            with self._changed:
                self._busy_since_ns, self._done = None, asked
                self._changed.notify_all()

    def _is_wanted(self) -> bool:
        return self._is_closing or self._asked > self._done
