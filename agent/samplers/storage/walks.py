"""Walks the paths of all jobs, one job after the other, each when it is due."""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from agent.errors import SamplerError
from agent.model import RunKey
from agent.samplers.storage.walk import Limits, Walk

_BETWEEN_SECONDS = 0.01
"""A small tree takes a millisecond: hundreds of them are not walked in one go."""
_LOGGER = logging.getLogger(__name__)


class Held(NamedTuple):
    """What a job held when a walk was through, and how long that took."""

    kib: int
    at_ms: int
    took_ms: int


class Wanted(NamedTuple):
    """The paths of a job; `owner`: only what is this account's counts, None = everything."""

    paths: Sequence[str]
    owner: int | None = None


class _Attempt(NamedTuple):
    begun_ms: int
    failure: str | None


class Walks:
    """`note` and `forget` are the sampler's, `round` is the thread's; dicts hold what both see."""

    def __init__(self, limits: Limits, interval_ms: int, monotonic_ns: Callable[[], int]) -> None:
        """Know of no job."""
        self._limits = limits
        self._interval_ms = interval_ms
        self._monotonic_ns = monotonic_ns
        self._wanted: dict[RunKey, Wanted] = {}
        self._held: dict[RunKey, Held] = {}
        self._attempts: dict[RunKey, _Attempt] = {}
        self._closing = threading.Event()

    def note(self, run: RunKey, wanted: Wanted) -> bool:
        """Walk these from now on; whether that is new."""
        is_new = self._wanted.get(run) != wanted
        if is_new:
            self._wanted[run] = wanted
            self._held.pop(run, None)
            self._attempts.pop(run, None)
        return is_new

    def forget(self, run: RunKey) -> None:
        """Walk no more for it."""
        for known in (self._wanted, self._held, self._attempts):
            known.pop(run, None)

    def held(self, run: RunKey, now_ms: int) -> Held | None:
        """The last complete walk's answer while it still says something about now."""
        held = self._held.get(run)
        if held is None or now_ms - held.at_ms > 2 * self._interval_ms + held.took_ms:
            return None
        return held

    def failures(self) -> Mapping[RunKey, str]:
        """The jobs whose last walk was given up, and why."""
        attempts = list(self._attempts.items())
        return {run: attempt.failure for run, attempt in attempts if attempt.failure}

    def round(self) -> int:
        """Walk for every job that is due; the number of walks."""
        walked = 0
        for run, wanted in list(self._wanted.items()):
            attempt = self._attempts.get(run)
            now_ms = self._now_ms()
            is_due = attempt is None or now_ms - attempt.begun_ms >= self._interval_ms
            if is_due and not self._closing.is_set():
                self._walk(run, wanted, now_ms, attempt)
                self._closing.wait(_BETWEEN_SECONDS)
                walked += 1
        return walked

    def close(self) -> None:
        """Pause no more, and begin no further walk."""
        self._closing.set()

    def _walk(self, run: RunKey, wanted: Wanted, begun_ms: int, last: _Attempt | None) -> None:
        walk = Walk(self._limits, self._monotonic_ns, self._closing.wait, wanted.owner)
        failure = None
        try:
            kib = walk.bytes_below(wanted.paths) // 1024
        except SamplerError as error:
            failure = str(error)
        else:
            now_ms = self._now_ms()
            self._held[run] = Held(kib, now_ms, now_ms - begun_ms)
        self._attempts[run] = _Attempt(begun_ms, failure)
        if self._wanted.get(run) != wanted:  # forgotten meanwhile, or given other paths
            self._held.pop(run, None)
            self._attempts.pop(run, None)
        elif failure != (last.failure if last else None):
            _tell(run, failure)

    def _now_ms(self) -> int:
        return self._monotonic_ns() // 1_000_000


def _tell(run: RunKey, failure: str | None) -> None:
    if failure is None:
        _LOGGER.info("storage is metered again", extra={"action": "recover", "run": run})
    else:
        _LOGGER.warning(
            "storage is not metered",
            extra={"action": "fail", "source": "sampler storage", "run": run, "reason": failure},
        )
