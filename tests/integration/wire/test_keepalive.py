"""What the agent's gRPC does to keep a connection alive, and what the aggregator's allows."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import grpc
import grpc.aio
import pytest

from agent.uplink import channel
from aggregator.ingest.server import server_options

SECONDS = 6.0  # gRPC pings once a second at most, and a fourth ping too many ends the call

Options = Sequence[tuple[str, int]]


def scaled(options: Options, name: str) -> Options:
    """The options with one interval a hundred times shorter: minutes pass in seconds."""
    assert name in dict(options)
    return [(each, value // 100 if each == name else value) for each, value in options]


@pytest.fixture
def hasty_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent's own options; but it pings as fast as gRPC lets it, also without any data."""
    hasty = scaled(channel.OPTIONS, "grpc.keepalive_time_ms")
    unthrottled = ("grpc.http2.max_pings_without_data", 0)
    monkeypatch.setattr(channel, "OPTIONS", [*hasty, unthrottled])


async def listen(requests: AsyncIterator[bytes], _context: object) -> bytes:
    """Say nothing; the agent hears of us by our answers to its pings alone."""
    return b"".join([each async for each in requests])


def say_nothing(is_over: threading.Event) -> Iterator[bytes]:
    """The agent's side of the call."""
    is_over.wait()
    yield from ()


async def test_the_aggregator_bears_the_pings_of_an_agent_without_jobs(hasty_agent: None) -> None:
    """Pings and no data in between: the call goes on until the agent ends it."""
    _, service, method = channel.METHOD.split("/")
    handler = grpc.stream_unary_rpc_method_handler(  # pyright: ignore[reportUnknownVariableType]
        listen, request_deserializer=bytes, response_serializer=bytes
    )
    server = grpc.aio.server(
        handlers=[grpc.method_handlers_generic_handler(service, {method: handler})],
        options=scaled(server_options(1 << 20), "grpc.http2.min_ping_interval_without_data_ms"),
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    ending = await asyncio.to_thread(talk, f"127.0.0.1:{port}")
    await server.stop(0)
    assert ending == ""


def talk(target: str) -> str:
    """A call of `SECONDS`; why the conversation ended before, if it did."""
    is_over = threading.Event()
    conversation = channel.Conversation(target, say_nothing(is_over))
    timer = threading.Timer(SECONDS, conversation.cancel)
    started_at = time.monotonic()
    timer.start()
    try:
        assert list(conversation.answers()) == []
        is_early = time.monotonic() - started_at < SECONDS
        return conversation.ending() if is_early else ""
    finally:
        is_over.set()
        timer.cancel()
        conversation.close()


@pytest.mark.parametrize(
    "options", [channel.OPTIONS, server_options(1 << 20)], ids=["agent", "aggregator"]
)
def test_every_option_is_one_that_grpc_knows(options: Options) -> None:
    """It ignores what it does not know, without a word."""
    spec = find_spec("grpc._cython.cygrpc")
    assert spec is not None
    assert spec.origin is not None
    library = Path(spec.origin).read_bytes()
    assert [name for name, _ in options if name.encode() + b"\0" not in library] == []
