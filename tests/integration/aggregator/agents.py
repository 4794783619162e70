"""Agents for tests: frames as a spool would hold them, and a client that says what it is told.

`Spool` makes self-contained batches with their digests; `Client` speaks the wire and
asserts nothing, so that a test can do wrong with it.
"""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol
from uuid import uuid4

import grpc.aio
from grpc import ChannelCredentials

from aggregator.clock import to_ms, utc_now
from proto.metering.v1 import metering_pb2 as pb

METHOD = "/nodemeter.metering.v1.Metering/Stream"
MINUTE = timedelta(minutes=1)


def whole_minute(instant: datetime) -> datetime:
    """The minute that an instant lies in."""
    return instant.replace(second=0, microsecond=0)


@dataclass(slots=True, kw_only=True)
class Spool:
    """Makes the frames of one stream, in order."""

    node: str = "n1"
    stream_id: bytes = field(default_factory=lambda: uuid4().bytes)
    machine_id: str = "m1"
    sequence: int = 0
    runs: dict[int, pb.Run] = field(default_factory=dict[int, pb.Run])
    meters: dict[int, pb.Meter] = field(default_factory=dict[int, pb.Meter])

    def hello(self) -> pb.Hello:
        """Introduce the node."""
        return pb.Hello(
            node=self.node,
            cluster="c1",
            address="10.0.0.7",
            boot_id="b1",
            machine_id=self.machine_id,
            stream_id=self.stream_id,
            last_sequence=self.sequence,
            capacity=pb.Capacity(cpu_m=8000, mem_kib=1 << 24, cpu_model="EPYC"),
            agent_version="0.1.0",
        )

    def run(self, job_id: str = "job-1", *, started_at: datetime, vc: str = "vc1") -> int:
        """Define a run; its number."""
        number = len(self.runs) + 1
        self.runs[number] = pb.Run(
            number=number,
            key=f"files:{job_id}:{to_ms(started_at)}",
            provider="files",
            job_id=job_id,
            job_name=job_id,
            username="alice",
            vc=vc,
            kind="job",
            started_at_ms=to_ms(started_at),
        )
        return number

    def account(self, kind: str, *, started_at: datetime, suffix: str = "") -> int:
        """Define a run that is an account of the node; its number."""
        number = len(self.runs) + 1
        self.runs[number] = pb.Run(
            number=number,
            key=f"node:{kind}{suffix}",
            provider="node",
            job_id="node",
            job_name=kind,
            vc="default",
            kind=kind,
            started_at_ms=to_ms(started_at),
        )
        return number

    def meter(
        self,
        run: int,
        type_: str = "cpu",
        *,
        quota: int = 500,
        group_quota: int | None = None,
        started_at: datetime,
        model: str | None = None,
        device: str | None = None,
        physical: str | None = None,
    ) -> int:
        """Define a meter; its number."""
        number = len(self.meters) + 1
        self.meters[number] = pb.Meter(
            number=number,
            run=run,
            type=type_,
            quota=quota,
            group_quota=quota if group_quota is None else group_quota,
            started_at_ms=to_ms(started_at),
            model=model,
            device=device,
            physical=physical,
        )
        return number

    def batch(
        self,
        records: pb.Records | None = None,
        *,
        runs: Iterable[int] | None = None,
        meters: Iterable[int] | None = None,
        ends: Iterable[tuple[int, datetime]] = (),
    ) -> pb.Batch:
        """Seal the next frame: with every definition so far unless told otherwise."""
        self.sequence += 1
        frame = pb.Batch(
            sequence=self.sequence,
            runs=[self.runs[number] for number in (self.runs if runs is None else runs)],
            meters=[self.meters[number] for number in (self.meters if meters is None else meters)],
            records=records,
            run_ends=[pb.RunEnd(run=run, ended_at_ms=to_ms(at)) for run, at in ends],
        )
        return sealed(frame)


def sealed(frame: pb.Batch) -> pb.Batch:
    """Give a frame its digest."""
    frame.ClearField("digest")
    frame.digest = hashlib.sha256(frame.SerializeToString(deterministic=True)).digest()
    return frame


def bare(frame: pb.Batch) -> pb.Batch:
    """The same frame as it may travel once its definitions are acked."""
    sent = pb.Batch()
    sent.CopyFrom(frame)
    sent.ClearField("runs")
    sent.ClearField("meters")
    return sent


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """What one meter does from one instant to another."""

    meter: int
    start: datetime
    end: datetime
    allocated: int
    """Base units, constant."""
    used: int | None = None
    """Base units, constant; None: as allocated."""


def records_of(*uses: Use) -> pb.Records:
    """Cut uses at whole minutes, as an agent does."""
    base_ms = min(to_ms(use.start) for use in uses)
    records = pb.Records(base_ms=base_ms)
    for use in uses:
        used = use.allocated if use.used is None else use.used
        start = use.start
        while start < use.end:
            end = min(whole_minute(start) + MINUTE, use.end)
            length_ms = to_ms(end) - to_ms(start)
            records.meter.append(use.meter)
            records.start_ms.append(to_ms(start) - base_ms)
            records.length_ms.append(length_ms)
            records.allocated.append(use.allocated * length_ms)
            records.used.append(used * length_ms)
            records.effective.append(max(use.allocated, used) * length_ms)
            records.observed_ms.append(length_ms)
            start = end
    return records


class Call(Protocol):
    """What we use of a client's call of `grpc.aio`."""

    async def read(self) -> object:
        """Receive bytes; something else at the end."""
        ...

    def cancel(self) -> bool:
        """Cut the connection."""
        ...


@dataclass(slots=True)
class Client:
    """One call. `receive` gives what the aggregator says, in order."""

    call: Call
    outgoing: asyncio.Queue[bytes]

    async def say_raw(self, message: bytes) -> None:
        """Send bytes, whatever they are."""
        await self.outgoing.put(message)

    async def say(self, message: pb.Hello | pb.Batch | pb.Gap | pb.Heartbeat) -> None:
        """Send one message."""
        match message:
            case pb.Hello():
                wrapped = pb.AgentMessage(hello=message)
            case pb.Batch():
                wrapped = pb.AgentMessage(batch=message)
            case pb.Gap():
                wrapped = pb.AgentMessage(gap=message)
            case _:
                wrapped = pb.AgentMessage(heartbeat=message)
        await self.say_raw(wrapped.SerializeToString())

    async def say_together(self, *batches: pb.Batch) -> None:
        """Send batches in one message."""
        packed = pb.Batches(batches=[each.SerializeToString() for each in batches])
        await self.say_raw(pb.AgentMessage(batches=packed).SerializeToString())

    async def receive(self) -> pb.AggregatorMessage | None:
        """Wait for one message; None at the end of the call."""
        async with asyncio.timeout(30):
            raw = await self.call.read()
        return pb.AggregatorMessage.FromString(raw) if isinstance(raw, bytes) else None

    async def welcome(self, spool: Spool) -> pb.Welcome:
        """Say Hello and be welcomed."""
        await self.say(spool.hello())
        answer = await self.receive()
        assert answer is not None
        assert answer.HasField("welcome"), answer
        return answer.welcome

    async def acked(self, sequence: int) -> None:
        """Wait until a sequence is acked; nothing else may be said before."""
        while True:
            answer = await self.receive()
            assert answer is not None
            assert answer.HasField("ack"), answer
            if answer.ack.acked_through >= sequence:
                return

    async def rejected(self) -> pb.Reject:
        """Wait for a refusal, past any acks."""
        while True:
            answer = await self.receive()
            assert answer is not None
            if answer.HasField("reject"):
                return answer.reject

    async def deliver(self, *batches: pb.Batch) -> None:
        """Send and wait for the last one's ack."""
        for each in batches:
            await self.say(each)
        await self.acked(batches[-1].sequence)


def _call(channel: grpc.aio.Channel, requests: AsyncGenerator[bytes]) -> Call:
    # The stubs leave open what a method takes and gives.
    method = channel.stream_stream(METHOD, bytes, bytes)  # pyright: ignore[reportUnknownVariableType]
    return method(requests)  # pyright: ignore[reportUnknownVariableType]


@asynccontextmanager
async def connected(port: int, tls: ChannelCredentials | None = None) -> AsyncGenerator[Client]:
    """A call to the aggregator at that port, in plain text or not; cut at the end."""
    outgoing: asyncio.Queue[bytes] = asyncio.Queue()

    async def feed() -> AsyncGenerator[bytes]:
        while True:
            yield await outgoing.get()

    target, aio = f"127.0.0.1:{port}", grpc.aio
    secure = tls and aio.secure_channel(target, tls)
    async with secure or aio.insecure_channel(target) as channel:
        call = _call(channel, feed())
        try:
            yield Client(call, outgoing)
        finally:
            call.cancel()


async def deliver(port: int, spool: Spool, batches: Sequence[pb.Batch]) -> None:
    """Say Hello, send the batches and wait until the last is acked."""
    async with connected(port) as client:
        await client.welcome(spool)
        await client.deliver(*batches)


async def wait_until(condition: Callable[[], bool]) -> None:
    """Poll, with a deadline."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110  another process's state sets no event
            await asyncio.sleep(0.01)


def recent(minutes: int = 120) -> datetime:
    """A whole hour that lies at least so far back: all of it can be rated."""
    then = utc_now() - timedelta(minutes=minutes)
    return then.replace(minute=0, second=0, microsecond=0)
