"""A TCP proxy on loopback that delays, holds, cuts, half-closes and swallows as it is told.

It stands between two processes of the product and knows nothing of what they say; a `Tap`
may listen. All forwarding happens on one thread of the proxy's own, and each call here
returns when it has taken effect there: what is held is held from then on.

`catch` stops the link at the instant when something is said: the bytes that say it and all
that follow them wait, in both directions, until `release` or `cut`.
"""

import asyncio
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from types import TracebackType
from typing import Protocol, Self

_CHUNK = 1 << 16


class Side(StrEnum):
    """Who speaks."""

    CLIENT = "client"
    SERVER = "server"


class Tap(Protocol):
    """Listens to one connection, on the proxy's thread."""

    def heard(self, side: Side, data: bytes, /) -> Sequence[object]:
        """These bytes have come; give what they say."""
        ...

    def passed(self, side: Side, said: Sequence[object], /) -> None:
        """They have gone on."""
        ...

    def ended(self) -> None:
        """The connection is over."""
        ...


class Deaf:
    """A tap that hears nothing."""

    def heard(self, _side: Side, _data: bytes, /) -> Sequence[object]:
        """See `Tap`."""
        return ()

    def passed(self, _side: Side, _said: Sequence[object], /) -> None:
        """See `Tap`."""

    def ended(self) -> None:
        """See `Tap`."""


@dataclass(eq=False, slots=True)
class _Flow:
    """One direction of one connection."""

    side: Side
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    tap: Tap
    is_closed: bool = False  # it has said that nothing follows

    def say_eof(self) -> None:
        """Tell the other end that nothing follows."""
        if not self.is_closed and not self.writer.is_closing():
            self.is_closed = True
            self.writer.write_eof()


@dataclass(slots=True)
class _Conduct:
    """How the link behaves now."""

    delay_seconds: dict[Side, float] = field(
        default_factory=lambda: {Side.CLIENT: 0.0, Side.SERVER: 0.0}
    )
    gates: dict[Side, asyncio.Event] = field(
        default_factory=lambda: {side: asyncio.Event() for side in Side}
    )
    is_swallowing: bool = False
    is_refusing: bool = False
    wanted: Callable[[Side, object], bool] | None = None  # what is to be caught


class Proxy:
    """A link to `127.0.0.1:upstream_port`, on a port of its own. As a context manager it ends."""

    def __init__(self, upstream_port: int, make_tap: Callable[[], Tap] = Deaf) -> None:
        """Listen at once; every connection gets a tap of its own."""
        self.port = 0
        self._upstream_port = upstream_port
        self._make_tap = make_tap
        self._flows: set[_Flow] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._caught = threading.Event()
        self._is_listening = threading.Event()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self._thread.start()
        self._is_listening.wait()

    # What a test may ask for -------------------------------------------------------------

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._flows) // 2

    def delay(self, seconds: float, *sides: Side) -> None:
        """Let each piece of what these sides (both) say wait so long; 0 = no longer."""
        self._do(lambda: self._conduct.delay_seconds.update(dict.fromkeys(sides or Side, seconds)))

    def hold(self, *sides: Side) -> None:
        """Let what these sides (both) say wait, all of it and in order, until `release`."""
        self._do(lambda: self._close_gates(sides or tuple(Side)))

    def release(self) -> None:
        """Let everything go on that waits, and forget what was to be caught."""

        def act() -> None:
            self._conduct.wanted = None
            for gate in self._conduct.gates.values():
                gate.set()

        self._do(act)

    @contextmanager
    def catching(self, wanted: Callable[[Side, object], bool]) -> Generator[threading.Event]:
        """Hold both sides when something `wanted` is said; the event tells. Releases at the end.

        `wanted` is called on the proxy's thread.
        """
        self._caught.clear()
        self._do(lambda: setattr(self._conduct, "wanted", wanted))
        try:
            yield self._caught
        finally:
            self.release()

    def cut(self) -> int:
        """Reset every connection; what waits in them is lost. How many there were."""
        count = self.connections
        self._do(self._abort_all)
        return count

    def half_close(self, side: Side) -> None:
        """Tell the others that `side` has ended; what it says from now on is not passed on."""

        def act() -> None:
            for flow in self._flows:
                if flow.side is side:
                    flow.say_eof()

        self._do(act)

    def swallow(self, *, is_on: bool = True) -> None:
        """Be a black hole: everything is taken and nothing passed on. Its end cuts."""

        def act() -> None:
            self._conduct.is_swallowing = is_on
            if not is_on:
                self._abort_all()

        self._do(act)

    def refuse(self, *, is_on: bool = True) -> None:
        """Reset whoever comes, and those who are there."""

        def act() -> None:
            self._conduct.is_refusing = is_on
            if is_on:
                self._abort_all()

        self._do(act)

    def close(self) -> None:
        """End; idempotent."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._ending.set)
            self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _do(self, act: Callable[[], object]) -> None:
        """Act on the proxy's thread, and wait for it."""
        done = threading.Event()

        def acting() -> None:
            try:
                act()
            finally:
                done.set()

        self._loop.call_soon_threadsafe(acting)
        done.wait()

    # The proxy's thread ------------------------------------------------------------------

    def _run(self) -> None:
        asyncio.run(self._listen())

    async def _listen(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ending = asyncio.Event()
        self._conduct = _Conduct()
        for gate in self._conduct.gates.values():
            gate.set()
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0, backlog=1024)
        self.port = int(server.sockets[0].getsockname()[1])
        self._is_listening.set()
        await self._ending.wait()
        server.close()
        self._abort_all()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            with suppress(OSError, asyncio.CancelledError):
                await self._serve(reader, writer)
        finally:
            writer.transport.abort()
            self._serving.discard(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._conduct.is_refusing:
            return
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._upstream_port)
        tap = self._make_tap()
        flows = (
            _Flow(Side.CLIENT, reader, up_writer, tap),
            _Flow(Side.SERVER, up_reader, writer, tap),
        )
        self._flows.update(flows)
        pumps = [asyncio.ensure_future(self._pump(flow)) for flow in flows]
        try:
            await asyncio.gather(*pumps)
        finally:
            for pump in pumps:
                pump.cancel()
            up_writer.transport.abort()
            self._flows.difference_update(flows)
            tap.ended()

    async def _pump(self, flow: _Flow) -> None:
        conduct = self._conduct
        while data := await flow.reader.read(_CHUNK):
            said = flow.tap.heard(flow.side, data)
            self._look_for(flow.side, said)
            if seconds := conduct.delay_seconds[flow.side]:
                await asyncio.sleep(seconds)
            await conduct.gates[flow.side].wait()
            if conduct.is_swallowing or flow.is_closed:
                continue
            flow.tap.passed(flow.side, said)
            flow.writer.write(data)
            await flow.writer.drain()
        flow.say_eof()

    def _look_for(self, side: Side, said: Sequence[object]) -> None:
        wanted = self._conduct.wanted
        if wanted is not None and any(wanted(side, each) for each in said):
            self._conduct.wanted = None
            self._close_gates(tuple(Side))
            self._caught.set()

    def _close_gates(self, sides: Sequence[Side]) -> None:
        for side in sides:
            self._conduct.gates[side].clear()

    def _abort_all(self) -> None:
        for flow in self._flows:
            flow.writer.transport.abort()
