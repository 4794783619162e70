"""Keeps looking into cgroups until it is known whose they are, in a thread of its own.

A job may be gone before the next look of the agent, and reading another process's
environment may block. So the first looks come 10 ms and a few tens of ms after the birth,
then ever more seldom. Whoever is known is looked at once a minute, whether it still lives.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from heapq import heappop, heappush

from agent.jobs.slurm.sighting import Sighting, Subject, is_populated

_DELAYS = (0.01, 0.02, 0.05, 0.1, 0.3, 0.5, 1.0, 3.0, 5.0, 10.0, 10.0)
_SELDOM_SECONDS = 60.0
_LOGGER = logging.getLogger(__name__)


@dataclass(slots=True)
class _Watched:
    """A cgroup that is looked into; `turn` numbers the looks."""

    subject: Subject
    sighting: Sighting | None = None
    turn: int = 0


class Lookout:
    """See the module. Without `is_live` it looks once, when it is told of a cgroup."""

    def __init__(
        self, look: Callable[[Subject], Sighting], *, told: Callable[[], None], is_live: bool
    ) -> None:
        """`told` is called in the thread when something was learned."""
        self._look = look
        self._told = told
        self._is_live = is_live
        self._watched: dict[str, _Watched] = {}
        self._due: list[tuple[float, str]] = []
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._is_closing = False

    def add(self, subject: Subject) -> None:
        """Look into this one from now on; quick, and harmless if it is known."""
        with self._changed:
            key = subject.found.key
            if key in self._watched:
                return
            watched = self._watched[key] = _Watched(subject)
            if not self._is_live:
                watched.sighting = self._look(subject)
                return
            is_new = subject.found.born_at_ms is not None
            heappush(self._due, (time.monotonic() + (_DELAYS[0] if is_new else 0), key))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="slurm looks", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def sighting(self, key: str) -> Sighting | None:
        """What is known of this one; None = it has not been looked into yet."""
        watched = self._watched.get(key)
        return watched.sighting if watched else None

    def wait_for_first(self, seconds: float) -> None:
        """Wait until everything known now has been looked into once, or so long."""
        with self._changed:
            self._changed.wait_for(
                lambda: all(each.sighting for each in self._watched.values()), timeout=seconds
            )

    def forget(self, keys: Iterable[str]) -> None:
        """Look into these no more."""
        with self._changed:
            for key in keys:
                self._watched.pop(key, None)

    def close(self) -> None:
        """Look no more; a look that hangs is left behind."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                watched = self._next()
            if watched is None:
                return
            if watched.sighting is None or watched.sighting.environ is None:
                self._look_into(watched)
            else:
                self._look_whether_alive(watched)
            delay = _DELAYS[watched.turn] if watched.turn < len(_DELAYS) else _SELDOM_SECONDS
            with self._changed:
                self._changed.notify_all()
                heappush(self._due, (time.monotonic() + delay, watched.subject.found.key))

    def _next(self) -> _Watched | None:
        """Wait until a look is due, with the lock held; None = none will be."""
        while not self._is_closing:
            while self._due and self._due[0][1] not in self._watched:
                heappop(self._due)
            wait = self._due[0][0] - time.monotonic() if self._due else None
            if wait is not None and wait <= 0:
                return self._watched[heappop(self._due)[1]]
            self._changed.wait(wait)
        return None

    def _look_into(self, watched: _Watched) -> None:
        earlier = watched.sighting or Sighting()
        try:
            sighting = self._look(watched.subject).after(earlier)
        except Exception:  # a parser that met what nobody foresaw must not go silent
            _LOGGER.exception("an unforeseen failure", extra={"action": "fail"})
            sighting = earlier
        is_news = watched.sighting != sighting
        watched.sighting = sighting
        watched.turn = watched.turn + 1 if sighting.environ is None else len(_DELAYS)
        if is_news:
            self._told()

    def _look_whether_alive(self, watched: _Watched) -> None:
        assert watched.sighting is not None
        is_alive = is_populated(watched.subject.folder)
        if is_alive is not watched.sighting.is_populated:
            watched.sighting = replace(watched.sighting, is_populated=is_alive)
            self._told()
