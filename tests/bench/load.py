"""Simulated agents: real gRPC streams that send prepared batches as fast as they are acked.

Run as a process of its own, so that it takes no time from the aggregator's loop:
`python tests/bench/load.py PORT STREAMS BATCHES RECORDS START_MS`. Prints one JSON object:
records sent and acked, and the seconds from the first batch to the last ack.
"""

import asyncio
import hashlib
import json
import sys
import time
import uuid
from collections.abc import AsyncIterable, AsyncIterator

import grpc.aio

from proto.metering.v1 import metering_pb2 as pb

METHOD = "/nodemeter.metering.v1.Metering/Stream"
WINDOW_MS = 60_000
IN_FLIGHT = 8


def definitions(records: int, start_ms: int) -> tuple[list[pb.Run], list[pb.Meter]]:
    """`records` meters: a run of each two, its cpu and its mem."""
    runs = [
        pb.Run(
            number=number,
            key=f"bench:{uuid.uuid4()}",
            provider="files",
            job_id=f"job-{number}",
            job_name="bench",
            username=f"user{number % 50}",
            vc=f"vc{number % 5}",
            kind="job",
            started_at_ms=start_ms,
        )
        for number in range(1, records // 2 + 1)
    ]
    meters = [
        pb.Meter(
            number=2 * run.number + offset,
            run=run.number,
            type=type_,
            quota=quota,
            group_quota=quota,
            started_at_ms=start_ms,
        )
        for run in runs
        for offset, (type_, quota) in enumerate((("cpu", 4000), ("mem", 1 << 24)))
    ]
    return runs, meters


def batch(
    sequence: int, runs: list[pb.Run], meters: list[pb.Meter], start_ms: int, *, define: bool
) -> pb.Batch:
    """One minute of every meter, as an agent would close it."""
    count = len(meters)
    full = pb.Batch(
        sequence=sequence,
        runs=runs,
        meters=meters,
        records=pb.Records(
            base_ms=start_ms + (sequence - 1) * WINDOW_MS,
            meter=[meter.number for meter in meters],
            start_ms=[0] * count,
            length_ms=[WINDOW_MS] * count,
            allocated=[meter.quota * WINDOW_MS for meter in meters],
            used=[meter.quota * WINDOW_MS // 2 for meter in meters],
            effective=[meter.quota * WINDOW_MS for meter in meters],
            observed_ms=[WINDOW_MS] * count,
        ),
    )
    full.digest = hashlib.sha256(full.SerializeToString()).digest()
    if not define:
        full.ClearField("runs")
        full.ClearField("meters")
    return full


def call(channel: grpc.aio.Channel, requests: AsyncIterator[bytes]) -> AsyncIterable[bytes]:
    """Open the stream; what is not typed in the stubs stays in here."""
    method = channel.stream_stream(METHOD, bytes, bytes)  # pyright: ignore[reportUnknownVariableType]
    return method(requests)  # pyright: ignore[reportUnknownVariableType]  open in the stubs


class Agent:
    """One simulated node: its prepared batches and how many of them were acked."""

    def __init__(self, name: str, batches: int, records: int, start_ms: int) -> None:
        runs, meters = definitions(records, start_ms)
        self.name = name
        self.records = batches * len(meters)
        self.began = self.done = 0.0
        self._room = asyncio.Semaphore(1)  # the definitions must be acked before they are left out
        self._welcomed, self._acked = asyncio.Event(), asyncio.Event()
        self._batches = [
            pb.AgentMessage(
                batch=batch(number, runs, meters, start_ms, define=number == 1)
            ).SerializeToString()
            for number in range(1, batches + 1)
        ]

    async def requests(self) -> AsyncIterator[bytes]:
        """Hello, then every batch as soon as fewer than IN_FLIGHT are unacked."""
        capacity = pb.Capacity(cpu_m=64_000, mem_kib=1 << 28)
        yield pb.AgentMessage(
            hello=pb.Hello(
                node=self.name,
                cluster="bench",
                address="10.0.0.1",
                boot_id="boot",
                machine_id=self.name,
                stream_id=uuid.uuid4().bytes,
                capacity=capacity,
            )
        ).SerializeToString()
        await self._welcomed.wait()
        self.began = time.monotonic()
        for each in self._batches:
            await self._room.acquire()
            yield each
        await self._acked.wait()

    def _widen(self) -> None:
        for _ in range(IN_FLIGHT - 1):
            self._room.release()

    async def play(self, port: int) -> None:
        """Connect, send all, return when all are acked."""
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            acked = 0
            async for raw in call(channel, self.requests()):
                answer = pb.AggregatorMessage.FromString(raw)
                if answer.HasField("welcome"):
                    self._welcomed.set()
                    continue
                assert answer.HasField("ack"), answer
                for _ in range(answer.ack.acked_through - acked):
                    self._room.release()
                if acked == 0:
                    self._widen()
                acked = answer.ack.acked_through
                if acked == len(self._batches):
                    self.done = time.monotonic()
                    self._acked.set()


async def main() -> None:
    """Play all nodes at once and print what it took."""
    port, streams, batches, records, start_ms = (int(word) for word in sys.argv[1:6])
    agents = [Agent(f"bench-{n}", batches, records, start_ms) for n in range(streams)]
    await asyncio.gather(*(each.play(port) for each in agents))
    seconds = max(each.done for each in agents) - min(each.began for each in agents)
    print(json.dumps({"records": sum(each.records for each in agents), "seconds": seconds}))


if __name__ == "__main__":
    asyncio.run(main())
