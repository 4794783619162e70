"""The worker: one attempt at a time, anew for who asks, and nobody waits longer than he wants."""

import logging
import threading
from collections.abc import Callable, Iterator

import pytest

from agent.samplers.nvidia.worker import Work, Worker
from tests.unit.agent.conftest import wait_until
from tests.unit.agent.fakes import FakeTime

Make = Callable[[Work], Worker]


@pytest.fixture
def make() -> Iterator[Make]:
    """Starts workers."""
    workers: list[Worker] = []

    def go(work: Work) -> Worker:
        worker = Worker("test", work, FakeTime())
        worker.start()
        workers.append(worker)
        return worker

    yield go
    for worker in workers:
        worker.close()


def test_an_answer_is_of_after_the_question(make: Make) -> None:
    """An attempt that is under way does not count: it may have looked before."""
    goes_on = threading.Semaphore(0)
    done: list[int] = []

    def work(*, is_asked: bool) -> float:
        goes_on.acquire()
        done.append(1)
        return 1000

    worker = make(work)
    assert not worker.ask(0)
    wait_until(lambda: worker._busy_since_ns is not None)
    goes_on.release()
    late: list[bool] = []
    asker = threading.Thread(target=lambda: late.append(worker.ask(60)))
    asker.start()
    goes_on.release()
    asker.join()
    assert late == [True]
    assert len(done) == 2


def test_it_does_its_work_again_when_it_wants_to(make: Make) -> None:
    """Unasked, after the pause that it asked for."""
    asked: list[bool] = []

    def work(*, is_asked: bool) -> float:
        asked.append(is_asked)
        return 0 if len(asked) < 3 else 1000

    assert make(work).ask(60)
    wait_until(lambda: len(asked) == 3)
    assert asked == [True, False, False]


def test_what_nobody_foresaw_does_not_end_it(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged with its traceback, and done again when asked."""

    def work(*, is_asked: bool) -> float:
        raise ZeroDivisionError

    worker = make(work)
    with caplog.at_level(logging.ERROR):
        assert worker.ask(60)
        assert worker.ask(60)
    assert caplog.text.count("an unforeseen failure\nTraceback") == 2
    assert worker.busy_ms == 0
