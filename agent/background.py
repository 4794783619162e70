"""Asks a slow question in a thread of its own, so that no look waits for the answer.

For what may take its time or never come back: a kubelet, a container engine, a driver, a
walk through a directory tree. The owner takes the last complete answer, and knows how old
it is and what has failed since.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from agent.errors import AgentError

_T = TypeVar("_T")
_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer(Generic[_T]):
    """The last complete answer, and how the newest attempt fared.

    `value` None = none yet, asked for at `answered_at_ms` (by the clock given). `failure`
    None = the newest attempt succeeded.
    """

    value: _T | None
    answered_at_ms: int | None
    failure: str | None


class Background(Generic[_T]):
    """Asks every `every_seconds`, and soon after `request`; from `start` to `close`.

    `ask` runs in the thread and says by an AgentError or OSError that it has no answer.
    `told` is called there after each attempt, and must be quick.
    """

    def __init__(
        self,
        name: str,
        ask: Callable[[], _T],
        *,
        every_seconds: float,
        now_ms: Callable[[], int],
        told: Callable[[], None],
    ) -> None:
        """Do nothing yet."""
        self._ask = ask
        self._every_seconds = every_seconds
        self._now_ms = now_ms
        self._told = told
        self._asked = threading.Event()
        self._attempted = threading.Event()
        self._is_closing = False
        self._answer: Answer[_T] = Answer(value=None, answered_at_ms=None, failure=None)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def answer(self) -> Answer[_T]:
        """The last one; never waits."""
        return self._answer

    def start(self, wait_seconds: float = 0.0) -> None:
        """Ask for the first time, and wait a little for it; later calls do nothing."""
        if not self._thread.is_alive() and not self._is_closing:
            self._thread.start()
        self._attempted.wait(wait_seconds)

    def request(self) -> None:
        """Ask again now, or when the attempt that is under way has ended."""
        self._asked.set()

    def close(self) -> None:
        """Ask no more; an attempt that hangs is left behind."""
        self._is_closing = True
        self._asked.set()

    def _run(self) -> None:
        while not self._is_closing:
            self._asked.clear()
            self._attempt()
            self._attempted.set()
            if not self._is_closing:
                self._told()
            self._asked.wait(self._every_seconds)

    def _attempt(self) -> None:
        last = self._answer
        try:
            value = self._ask()
        except (AgentError, OSError) as error:
            self._fail(last, str(error))
        except Exception as error:  # a parser that met what nobody foresaw must not go silent
            _LOGGER.exception("an unforeseen failure", extra={"action": "fail"})
            self._fail(last, f"{type(error).__name__}: {error}")
        else:
            self._answer = Answer(value=value, answered_at_ms=self._now_ms(), failure=None)

    def _fail(self, last: Answer[_T], reason: str) -> None:
        self._answer = Answer(
            value=last.value, answered_at_ms=last.answered_at_ms, failure=reason or "no reason"
        )
