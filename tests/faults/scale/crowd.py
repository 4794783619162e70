"""Many simulated agents in one process: the product's session and backoff, a connection each.

`python -m tests.faults.scale.crowd PORT FIRST COUNT START_MS [CERTIFICATES]` plays the agents
number FIRST to FIRST + COUNT - 1, in plain text or each with a certificate of its own. It is
told what to do by lines on standard input, and answers each by one JSON line:

    append N    every agent appends N batches and sends them; answered at once
    acked N     answered when N batches, of all that were ever appended, are acked
    settle      answered when everything is acked and everybody is connected
    count       answered at once

It ends with its input. Everything of an agent but its threads is the product's own:
`Session` says what is sent and what an answer means, `Backoff` when to come back, and the
channel has the product's options.
"""

import asyncio
import json
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Protocol

import grpc
import grpc.aio

from agent.backlog import Missing, StoredBatch
from agent.uplink.backoff import Backoff
from agent.uplink.channel import METHOD, OPTIONS
from agent.uplink.identity import Identity
from agent.uplink.session import Session
from agent.uplink.terms import Outcome, Pace, UplinkCounters
from proto.metering.v1 import metering_pb2 as pb
from tests.faults.scale.frames import frame

RUNS = 5
"""Of each agent; a meter of the cpu and one of the memory of each."""
_TICK_SECONDS = 1.0


def node_of(number: int) -> str:
    """What agent `number` calls itself."""
    return f"crowd-{number}"


@dataclass(slots=True, kw_only=True)
class Memory:
    """A `Backlog` whose frames are made when they are fetched."""

    number: int
    start_ms: int
    stream_id: bytes
    last_sequence: int = 0
    acked_through: int = 0
    incarnation: str = ""

    def fetch(self, sequence: int) -> StoredBatch | Missing | None:
        """See `Backlog`."""
        if sequence > self.last_sequence:
            return None
        batch = frame(node_of(self.number), sequence, self.start_ms, runs=RUNS)
        return StoredBatch(sequence=sequence, at_ms=self.start_ms, batch=batch)

    def mark_sent(self, batch: StoredBatch) -> None:
        """See `Backlog`."""

    def ack(self, acked_through: int) -> None:
        """See `Backlog`."""
        self.acked_through = max(self.acked_through, acked_through)

    def refuse(self, sequence: int, reason: str) -> bool:
        """See `Backlog`."""
        raise AssertionError(f"sequence {sequence} was refused: {reason}")

    def rewind(self, acked_through: int, incarnation: str) -> None:
        """See `Backlog`."""
        self.acked_through = min(self.acked_through, acked_through)
        self.incarnation = incarnation


class Call(Protocol):
    """What we use of a client's call of `grpc.aio`."""

    async def read(self) -> object: ...

    async def write(self, message: bytes) -> None: ...

    def cancel(self) -> bool: ...


def open_channel(target: str, credentials: grpc.ChannelCredentials | None) -> grpc.aio.Channel:
    """A connection of its own, as the product's options have it."""
    if credentials is None:
        return grpc.aio.insecure_channel(target, options=OPTIONS)
    return grpc.aio.secure_channel(target, credentials, options=OPTIONS)


def open_call(channel: grpc.aio.Channel) -> Call:
    """Open the stream; what is not typed in the stubs stays in here."""
    method: Callable[[], Call] = channel.stream_stream(METHOD, bytes, bytes)  # type: ignore[assignment]  # pyright: ignore[reportUnknownVariableType, reportAssignmentType]
    return method()


def destroy(channel: grpc.aio.Channel) -> None:
    """Close a channel whose call is over; `close` looks through all tasks of the loop."""
    inner: object = vars(channel)["_channel"]
    close: Callable[[], None] = getattr(inner, "close")  # noqa: B009  open in the stubs
    close()


class Agent:
    """One simulated node; see the module."""

    def __init__(
        self,
        number: int,
        target: str,
        start_ms: int,
        credentials: grpc.ChannelCredentials | None,
    ) -> None:
        node = node_of(number)
        self.memory = Memory(
            number=number, start_ms=start_ms, stream_id=uuid.uuid5(uuid.NAMESPACE_DNS, node).bytes
        )
        self.counters = UplinkCounters()
        self.reason = ""
        self._identity = Identity(
            node=node,
            cluster="crowd",
            address="10.0.0.1",
            boot_id="boot",
            machine_id=node,
            agent_version="0",
            cpu_m=64_000,
            mem_kib=1 << 28,
            cpu_model="EPYC",
        )
        self._target = target
        self._credentials = credentials
        self._pace = Pace()
        pause = (self._pace.base_seconds, self._pace.cap_seconds)
        self._backoff = Backoff(*pause, Random(number))
        self._session: Session | None = None
        self._call: Call | None = None
        self._writing = asyncio.Lock()

    @property
    def is_settled(self) -> bool:
        """Whether it is connected and nothing is left to be acked."""
        is_welcome = self._session is not None and self._session.is_welcome
        return is_welcome and self.memory.acked_through == self.memory.last_sequence

    async def live(self) -> None:
        """Come back whatever happens, as `Uplink` does."""
        while True:
            session = Session(
                self.memory, self._identity, self._pace, self.counters, time.monotonic()
            )
            await self._converse(session)
            self._session = self._call = None
            self.counters.failures += 1
            assert session.outcome is not None
            self.reason = session.outcome.reason
            assert not session.outcome.is_stream_lost, self.reason
            await asyncio.sleep(self._backoff.next_seconds(session.outcome.retry_after_seconds))

    async def send(self) -> None:
        """Say what is to be said now."""
        async with self._writing:
            session, call = self._session, self._call
            if session is None or call is None:
                return
            now = time.monotonic()
            session.check_patience(now)
            try:
                while (message := session.next_message(now)) is not None:
                    await call.write(message)
            except (grpc.RpcError, grpc.aio.BaseError, asyncio.InvalidStateError):
                pass  # who reads hears of it, too
            if session.outcome:
                call.cancel()

    async def _converse(self, session: Session) -> None:
        channel = open_channel(self._target, self._credentials)
        try:
            call = open_call(channel)
            await call.write(session.hello)
            self._session, self._call = session, call
            while not session.outcome and isinstance(raw := await call.read(), bytes):
                self._receive(session, pb.AggregatorMessage.FromString(raw))
                await self.send()
            call.cancel()
            reason = "the aggregator hung up"
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) and task.cancelling():
                raise
            reason = "hung up"
        except (grpc.RpcError, grpc.aio.BaseError, asyncio.InvalidStateError) as error:
            reason = repr(error)
        finally:
            destroy(channel)
        session.end(Outcome(reason=reason))

    def _receive(self, session: Session, message: pb.AggregatorMessage) -> None:
        was_welcome = session.is_welcome
        session.receive(message, time.monotonic())
        if session.is_welcome and not was_welcome:
            self.counters.connections += 1
            self._backoff.reset()


class Crowd:
    """All agents of this process."""

    def __init__(self, agents: list[Agent]) -> None:
        self.agents = agents
        self._tasks = [asyncio.create_task(each.live()) for each in agents]

    async def tick(self) -> None:
        """Let everybody send heartbeats, and lose patience."""
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            for task in self._tasks:
                if task.done():
                    task.result()
            for each in self.agents:
                await each.send()

    async def obey(self, command: str, amount: int) -> dict[str, object]:
        """Carry out a command; its answer."""
        if command == "append":
            for each in self.agents:
                each.memory.last_sequence += amount
                await each.send()
        elif command == "acked":
            await self._until(lambda: self._acked() >= amount)
        elif command == "settle":
            return await self._settle()
        return self._report()

    async def _settle(self) -> dict[str, object]:
        """When each agent was settled, looked at a few times a second."""
        at: dict[int, float] = {}

        def look() -> bool:
            for number, each in enumerate(self.agents):
                if not each.is_settled:
                    at.pop(number, None)
                elif number not in at:
                    at[number] = time.monotonic()
            return len(at) == len(self.agents)

        await self._until(look)
        return self._report() | {"settled_at": sorted(at.values())}

    async def _until(self, holds: Callable[[], bool]) -> None:
        while not holds():  # noqa: ASYNC110  of ten thousand agents, any
            await asyncio.sleep(0.1)

    def _acked(self) -> int:
        return sum(each.memory.acked_through for each in self.agents)

    def _report(self) -> dict[str, object]:
        totals: Counter[str] = Counter()
        for each in self.agents:
            for name in ("connections", "failures", "batches", "rejects", "conflicts"):
                totals[name] += getattr(each.counters, name)
        return {
            **totals,
            "acked": self._acked(),
            "appended": sum(each.memory.last_sequence for each in self.agents),
            "settled": sum(each.is_settled for each in self.agents),
            "reasons": dict(Counter(each.reason for each in self.agents).most_common(5)),
        }


def in_plain_text(_node: str) -> None:
    """Nothing is shown."""


def read_certificates(path: Path) -> Callable[[str], grpc.ChannelCredentials | None]:
    """What each node shows: lines of JSON, the first with the roots and the key of all."""
    with path.open() as lines:
        roots, key = (text.encode() for text in json.loads(next(lines)))
        certificates = dict(json.loads(line) for line in lines)
    return lambda node: grpc.ssl_channel_credentials(roots, key, certificates[node].encode())


async def main() -> None:
    """Play, and obey until the input ends."""
    port, first, count, start_ms = (int(word) for word in sys.argv[1:5])
    show = read_certificates(Path(sys.argv[5])) if len(sys.argv) > 5 else in_plain_text
    crowd = Crowd(
        [
            Agent(number, f"127.0.0.1:{port}", start_ms, show(node_of(number)))
            for number in range(first, first + count)
        ]
    )
    ticking = asyncio.create_task(crowd.tick())
    while line := (await asyncio.to_thread(sys.stdin.readline)).split():
        if ticking.done():
            ticking.result()
        answer = await crowd.obey(line[0], int(line[1]) if len(line) > 1 else 0)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
