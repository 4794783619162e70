"""A slow question keeps nobody waiting, and a failing one keeps its last answer."""

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager

from agent.background import Background
from agent.errors import ProviderError
from tests.unit.agent.conftest import wait_until


class Oracle:
    """Answers as it is told to."""

    def __init__(self) -> None:
        self.asked = 0
        self.told = 0
        self.error: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()

    def ask(self) -> int:
        self.gate.wait(30)
        self.asked += 1
        if self.error:
            raise self.error
        return self.asked

    def tell(self) -> None:
        self.told += 1


@contextmanager
def asking(oracle: Oracle, now_ms: Callable[[], int] = lambda: 7) -> Generator[Background[int]]:
    background = Background("test", oracle.ask, every_seconds=60, now_ms=now_ms, told=oracle.tell)
    background.start(wait_seconds=10)
    yield background
    oracle.gate.set()
    background.close()


def test_the_first_answer_can_be_waited_for() -> None:
    """It has the instant at which it came."""
    oracle = Oracle()
    with asking(oracle) as background:
        answer = background.answer
        assert (answer.value, answer.answered_at_ms, answer.failure) == (1, 7, None)
        wait_until(lambda: oracle.told == 1)


def test_a_request_asks_again_at_once() -> None:
    """Nobody has to wait for the next turn."""
    oracle = Oracle()
    with asking(oracle) as background:
        background.request()
        wait_until(lambda: background.answer.value == 2)


def test_a_failure_keeps_the_last_answer_and_says_why() -> None:
    """Until an attempt succeeds again."""
    oracle = Oracle()
    with asking(oracle) as background:
        oracle.error = ProviderError("the kubelet answers 500")
        background.request()
        wait_until(lambda: background.answer.failure)
        assert background.answer.value == 1
        assert background.answer.failure == "the kubelet answers 500"
        oracle.error = None
        background.request()
        wait_until(lambda: background.answer.failure is None)
        assert background.answer.value == 3


def test_what_nobody_foresaw_is_a_failure_like_any_other() -> None:
    """The thread lives on, and says what it met."""
    oracle = Oracle()
    with asking(oracle) as background:
        oracle.error = KeyError("metadata")
        background.request()
        wait_until(lambda: background.answer.failure)
        assert background.answer.failure == "KeyError: 'metadata'"
        oracle.error = None
        background.request()
        wait_until(lambda: background.answer.failure is None)


def test_a_question_that_hangs_keeps_nobody_waiting() -> None:
    """There is no answer yet, and closing does not wait for one."""
    oracle = Oracle()
    oracle.gate.clear()
    background = Background(
        "test", oracle.ask, every_seconds=60, now_ms=lambda: 7, told=oracle.tell
    )
    background.start(wait_seconds=0.01)
    assert background.answer.value is None
    background.close()
    oracle.gate.set()
    wait_until(lambda: oracle.asked == 1)
    assert oracle.told == 0
