"""Talking to an engine: whatever it does, an answer of bounded size in bounded time."""

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.errors import ProviderError
from agent.jobs.docker import engine as module
from agent.jobs.docker.engine import EngineDownError, get, may_speak_of
from tests.unit.agent.jobs.docker.engines import Engine, engine_at, says

ID = "ab" * 32


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    yield from engine_at(tmp_path / "docker.sock")


def test_an_answer_has_its_status_its_body_and_who_listens(engine: Engine) -> None:
    """The account is the kernel's word."""
    engine.run(ID)
    answer = get(str(engine.path), f"/containers/{ID}/json")
    assert (answer.status, answer.uid) == (200, os.geteuid())
    assert json.loads(answer.body)["Id"] == ID
    assert get(str(engine.path), "/containers/none/json").status == 404


def test_nobody_there(tmp_path: Path) -> None:
    """No socket, a file instead of one, and one where nobody listens any more."""
    (tmp_path / "file").touch()
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(tmp_path / "stale"))
    for name in ("missing", "file", "stale", "x" * 200):
        with pytest.raises(EngineDownError, match=r"does not answer: \w"):
            get(str(tmp_path / name), "/")


@pytest.mark.parametrize("behaviour", ["hang", "drip"])
def test_slow_is_down_after_the_time_for_the_whole(engine: Engine, behaviour: str) -> None:
    """Silence, and a byte now and then: a timeout of each read alone would wait for ever."""
    engine.reply = getattr(engine, behaviour)
    began = time.monotonic()
    with pytest.raises(EngineDownError, match=r"does not answer: (timed out|it was not done)"):
        get(str(engine.path), "/", timeout_seconds=0.2)
    assert time.monotonic() - began < 10


def test_too_much_is_refused_while_it_comes(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not one container's fault that the engine were down; and not gigabytes of ours."""
    monkeypatch.setattr(module, "MAX_BYTES", 10_000)
    engine.reply = says(b"HTTP/1.0 200 OK\r\n\r\n" + b" " * 1_000_000)
    with pytest.raises(ProviderError, match=r"more than 10000 bytes") as caught:
        get(str(engine.path), "/")
    assert not isinstance(caught.value, EngineDownError)


@pytest.mark.parametrize(
    "data", [b"SSH-2.0\r\n\r\n", b"HTTP/1.0 200 OK\r\n", b"HTTP/2 200\r\n\r\n", b"\xff" * 99]
)
def test_what_is_no_http_is_refused(engine: Engine, data: bytes) -> None:
    """Also an answer that is cut off in its head."""
    engine.reply = says(data)
    with pytest.raises(ProviderError, match=r"does not speak HTTP"):
        get(str(engine.path), "/")


def test_a_connection_without_an_answer_is_an_engine_that_went(engine: Engine) -> None:
    """Its restart cuts off who waits; the next container would fare the same."""
    engine.reply = says(b"")
    with pytest.raises(EngineDownError, match=r"closed the connection"):
        get(str(engine.path), "/")


def test_a_busy_engine_answers_everybody(engine: Engine) -> None:
    """No state is shared between requests."""
    engine.run(ID)
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda: found.append(get(str(engine.path), "/x").status))
        for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [404] * 16


def test_a_users_engine_speaks_of_that_users_containers_only() -> None:
    """Root's speaks of all, and so does the agent's own account's."""
    assert may_speak_of(0, None)
    assert may_speak_of(0, 1000)
    assert may_speak_of(os.geteuid(), None)
    assert may_speak_of(4_000_000_001, 4_000_000_001)
    assert not may_speak_of(4_000_000_001, 4_000_000_002)
    assert not may_speak_of(4_000_000_001, None)
