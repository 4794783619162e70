"""A small aggregator: the real gRPC server, answers by the book, and faults on demand."""

import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

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
                )
            )
        for message in requests:
            if self.hang_up_after is not None:
                self.hang_up_after -= 1
                if self.hang_up_after < 0:
                    self.hang_up_after = None
                    return
            if message.batch.sequence in self.never_taken:
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
        elif message.batch.sequence > self.acked_through + 1:
            reason = pb.Reject.REASON_EXPECTED_SEQUENCE
            reject = pb.Reject(reason=reason, expected=self.acked_through + 1)
            return pb.AggregatorMessage(reject=reject)
        else:
            self.acked_through = max(self.acked_through, message.batch.sequence)
            self._note(lambda: self.batches.append(message.batch))
        return pb.AggregatorMessage(ack=pb.Ack(acked_through=self.acked_through))

    def _count_heartbeat(self) -> None:
        self.heartbeats += 1

    def _note(self, change: Callable[[], None]) -> None:
        with self.changed:
            change()
            self.changed.notify_all()


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
