"""Calls that wait for the aggregator's loop are not broken off."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

import grpc
import grpc.aio

from agent.uplink import channel
from aggregator.ingest.server import server_options

CHANNELS, CALLS = 5, 500  # of each; gRPC's own bound begins to draw lots at 1,000 in all
BUSY_SECONDS = 1.0


class Call(Protocol):
    """What we use of gRPC's future, whose stubs leave most of it open."""

    def add_done_callback(self, callback: Callable[[object], None], /) -> object: ...

    def result(self, timeout: float) -> bytes: ...


def call(each: grpc.Channel) -> Call:
    """Say one message; it is answered by one."""
    method = each.unary_unary(channel.METHOD, bytes, bytes)  # pyright: ignore[reportUnknownVariableType]
    return method.future(b"")  # pyright: ignore[reportUnknownVariableType]


def wait_for(calls: Sequence[Call]) -> list[bytes]:
    """Their answers."""
    return [each.result(60) for each in calls]


async def answer(_requests: object, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
    """What an aggregator may say to a Hello."""
    await context.read()
    await context.write(b"")


async def test_no_call_is_broken_off_while_the_loop_is_busy() -> None:
    """Of 2,500 agents that come at once, each is answered."""
    _, service, method = channel.METHOD.split("/")
    handler = grpc.stream_stream_rpc_method_handler(answer)  # pyright: ignore[reportUnknownVariableType]
    server = grpc.aio.server(
        handlers=[grpc.method_handlers_generic_handler(service, {method: handler})],
        options=server_options(1 << 20),
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    is_any_over = threading.Event()
    channels = [
        grpc.insecure_channel(f"127.0.0.1:{port}", options=channel.OPTIONS) for _ in range(CHANNELS)
    ]
    try:
        calls = [call(each) for each in channels for _ in range(CALLS)]
        for one in calls:
            one.add_done_callback(lambda _: is_any_over.set())
        is_any_over.wait(BUSY_SECONDS)  # nobody runs the loop meanwhile
        answers = await asyncio.to_thread(wait_for, calls)
    finally:
        for each in channels:
            each.close()
        await server.stop(0)
    assert answers == [b""] * CHANNELS * CALLS
