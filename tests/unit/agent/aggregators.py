"""A small aggregator: the real gRPC server, answers by the book, and faults on demand."""

import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import grpc

from agent.uplink.channel import METHOD
from proto.metering.v1 import metering_pb2 as pb

WAIT_SECONDS = 30


@dataclass
class Aggregator:
    """Takes batches in order, once; tells what it was sent. `port` 0 = not listening."""

    port: int = 0
    acked_through: int = 0
    incarnation: str = "db/1"
    hellos: list[pb.Hello] = field(default_factory=list[pb.Hello])
    batches: list[pb.Batch] = field(default_factory=list[pb.Batch])
    gaps: list[pb.Gap] = field(default_factory=list[pb.Gap])
    heartbeats: int = 0
    never_taken: set[int] = field(default_factory=set[int])  # nor can it say which it was
    max_message_bytes: int = 0
    max_batches: int = 0  # in one message; 0 = older than that
    largest: int = 0  # the most batches that came in one message
    receive_bytes: int = 4 << 20  # what gRPC itself lets in
    is_silent: bool = False  # take everything, answer nothing
    hang_up_after: int | None = None  # messages; then end the call without an ack
    refusals: list[pb.Reject] = field(default_factory=list[pb.Reject])  # for the next Hellos
    changed: threading.Condition = field(default_factory=threading.Condition)

    def until(self, holds: Callable[[], bool]) -> None:
        """Wait until what it was told makes `holds` true."""
        with self.changed:
            assert self.changed.wait_for(holds, WAIT_SECONDS), "waited in vain"

    def stream(
        self, requests: Iterator[pb.AgentMessage], _context: object
    ) -> Iterator[pb.AggregatorMessage]:
        """Answer one call."""
        hello = next(requests)
        self._note(lambda: self.hellos.append(hello.hello))
        if self.refusals:
            yield pb.AggregatorMessage(reject=self.refusals.pop(0))
            return
        if not self.is_silent:
            yield pb.AggregatorMessage(
                welcome=pb.Welcome(
                    epoch=len(self.hellos),
                    acked_through=self.acked_through,
                    incarnation=self.incarnation,
                    max_message_bytes=self.max_message_bytes,
                    max_batches=self.max_batches,
                )
            )
        for message in requests:
            if self.hang_up_after is not None:
                self.hang_up_after -= 1
                if self.hang_up_after < 0:
                    self.hang_up_after = None
                    return
            batches = batches_of(message)
            self.largest = max(self.largest, len(batches))
            if self.never_taken.intersection(batch.sequence for batch in batches):
                reason = pb.Reject.REASON_INVALID
                yield pb.AggregatorMessage(reject=pb.Reject(reason=reason, detail="no"))
                return
            answer = self._take(message)
            if answer and not self.is_silent:
                yield answer

    def _take(self, message: pb.AgentMessage) -> pb.AggregatorMessage | None:
        if message.HasField("heartbeat"):
            self._note(self._count_heartbeat)
            return None
        if message.HasField("gap"):
            self.acked_through = max(self.acked_through, message.gap.last)
            self._note(lambda: self.gaps.append(message.gap))
        for batch in batches_of(message):
            if batch.sequence > self.acked_through + 1:
                reason = pb.Reject.REASON_EXPECTED_SEQUENCE
                reject = pb.Reject(reason=reason, expected=self.acked_through + 1)
                return pb.AggregatorMessage(reject=reject)
            self.acked_through = max(self.acked_through, batch.sequence)
            self._note(partial(self.batches.append, batch))
        return pb.AggregatorMessage(ack=pb.Ack(acked_through=self.acked_through))

    def _count_heartbeat(self) -> None:
        self.heartbeats += 1

    def _note(self, change: Callable[[], None]) -> None:
        with self.changed:
            change()
            self.changed.notify_all()


def batches_of(message: pb.AgentMessage) -> list[pb.Batch]:
    """The batches of a message, whichever way they came; [] = it is something else."""
    if message.HasField("batch"):
        return [message.batch]
    return [pb.Batch.FromString(each) for each in message.batches.batches]


@contextmanager
def serving(aggregator: Aggregator) -> Generator[Aggregator]:
    """Serve `aggregator` on its port, or on a free one."""
    limit = ("grpc.max_receive_message_length", aggregator.receive_bytes)
    server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0), limit])
    service, method = METHOD.strip("/").split("/")
    handler = grpc.stream_stream_rpc_method_handler(  # pyright: ignore[reportUnknownVariableType]
        aggregator.stream,
        request_deserializer=pb.AgentMessage.FromString,
        response_serializer=pb.AggregatorMessage.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(service, {method: handler}),)
    )
    aggregator.port = server.add_insecure_port(f"127.0.0.1:{aggregator.port}")
    server.start()
    try:
        yield aggregator
    finally:
        server.stop(grace=None).wait()
