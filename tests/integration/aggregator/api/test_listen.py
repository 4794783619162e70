"""Who opens HTTP connections and says nothing keeps nobody else out."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from aggregator.api.app import build_runner
from aggregator.api.listen import listen
from aggregator.settings import HttpSettings

MOST = 8


@pytest.fixture
def may_answer() -> asyncio.Event:
    """Held back until a test lets them, the answers of /slow."""
    return asyncio.Event()


@pytest_asyncio.fixture
async def port(may_answer: asyncio.Event) -> AsyncIterator[int]:
    """A server that takes `MOST` connections."""

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def answer_late(request: web.Request) -> web.Response:
        await may_answer.wait()
        return await answer(request)

    app = web.Application()
    app.router.add_get("/", answer)
    app.router.add_get("/slow", answer_late)
    runner = build_runner(app)
    await runner.setup()
    server = await listen(runner, HttpSettings(port=0), MOST, patience_seconds=2)
    yield server.sockets[0].getsockname()[1]
    server.close()
    may_answer.set()
    await runner.cleanup()


@pytest.fixture
def sockets() -> Iterator[ExitStack]:
    """What is closed at the end of a test."""
    with ExitStack() as stack:
        yield stack


def connect(port: int, sockets: ExitStack, said: bytes) -> socket.socket:
    """Say a part of a request, or all."""
    made = sockets.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
    made.sendall(said)
    return made


async def get(port: int) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/") as got:
        return got.status, await got.text()


async def test_silent_connections_make_room(port: int, sockets: ExitStack) -> None:
    """Far more than there may be, none of which ever ends its request."""
    silent: list[socket.socket] = []
    for _ in range(4 * MOST):
        silent.append(connect(port, sockets, b"GET / HTTP/1.1\r\nHost: x\r\nX-A: "))
        assert await get(port) == (200, "ok")
    assert await asyncio.to_thread(silent[0].recv, 1) == b""


async def test_who_never_ends_a_request_is_hung_up_on(port: int, sockets: ExitStack) -> None:
    """Also where there is room for all; in between a byte now and then helps nobody."""
    slow = connect(port, sockets, b"GET / HTTP/1.1\r\n")
    assert await asyncio.to_thread(slow.recv, 1) == b""


async def test_an_answer_under_way_is_given(
    port: int, sockets: ExitStack, may_answer: asyncio.Event
) -> None:
    """Connections that are busy are not cut; who comes then is told that there are too many."""
    request = b"GET /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    busy = [connect(port, sockets, request) for _ in range(MOST)]
    async with asyncio.timeout(30):
        while (await get(port))[0] != 503:  # until all of them are accepted
            pass
    may_answer.set()
    for each in busy:
        assert (await asyncio.to_thread(each.recv, 15)) == b"HTTP/1.1 200 OK"
    assert await get(port) == (200, "ok")
