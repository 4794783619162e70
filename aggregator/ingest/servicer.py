"""Speaks with agents: one bidirectional gRPC stream each, from Hello to the end.

A handler reads, checks and queues; it touches no database, so that a cancelled call
loses no pooled connection. While there is no room it does not read, and HTTP/2 holds the
agent back. Messages are parsed here and not by gRPC, so that a malformed one is answered.
"""

import asyncio
import logging
from contextlib import suppress
from typing import Final, Protocol

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from aggregator.ca.identity import Bearer, IdentityError
from aggregator.ingest.answer import refuse
from aggregator.ingest.gate import AuthContext, Gate
from aggregator.ingest.greeting import HelloError
from aggregator.ingest.hello import BusyError, ForeignStreamError, Registrar, Welcome
from aggregator.ingest.receive import MAX_BATCHES, Receiver
from aggregator.ingest.session import Session
from aggregator.ingest.spools import tell_of_spool
from aggregator.metrics import Metrics
from aggregator.quiet import Quiet
from aggregator.settings import GrpcSettings, IngestSettings
from proto.metering.v1 import metering_pb2 as pb

SERVICE: Final = "nodemeter.metering.v1.Metering"

_LOGGER: Final = logging.getLogger(__name__)
_HELLO_SECONDS: Final = 20
SILENCE_SECONDS: Final = 180
"""Six heartbeats: whoever says nothing for so long is hung up on."""
_LOOK_SECONDS: Final = 1.0
_MOST_TOLD: Final = 256


class Context(Protocol):
    """What we use of a call of `grpc.aio`."""

    async def read(self) -> object:
        """Give the next message, bytes; something else at the end."""
        ...

    async def write(self, message: bytes, /) -> None:
        """Send a message."""
        ...

    def peer(self) -> str:
        """Say who calls."""
        ...

    def auth_context(self) -> AuthContext:
        """Say what TLS found out about who calls."""
        ...


class MeteringServicer:
    """Answers the one RPC."""

    def __init__(
        self,
        registrar: Registrar,
        receiver: Receiver,
        metrics: Metrics,
        gate: Gate,
        *,
        grpc_settings: GrpcSettings,
        ingest_settings: IngestSettings,
        max_agents: int,
        silence_seconds: float,
    ) -> None:
        """Let in by `gate`, welcome by `registrar`, take by `receiver`."""
        self._max_agents = max_agents
        self._silence_seconds = silence_seconds
        self._calls = 0
        self._registrar = registrar
        self._receiver = receiver
        self._metrics = metrics
        self._gate = gate
        self._max_message_bytes = grpc_settings.max_message_bytes
        self._retry_after_ms = round(ingest_settings.retry_after_seconds * 1000)
        self._readers: set[asyncio.Task[None]] = set()
        self._sessions: set[Session] = set()
        self._is_stopping = False
        self._quiet = Quiet()

    def handler(self) -> "grpc.GenericRpcHandler[bytes, bytes]":
        """Give what a server is to be fed with."""
        # The stubs leave open what a handler takes and gives; ours takes and gives bytes.
        method = grpc.stream_stream_rpc_method_handler(self.stream)  # pyright: ignore[reportUnknownVariableType]
        return grpc.method_handlers_generic_handler(SERVICE, {"Stream": method})  # pyright: ignore[reportUnknownVariableType]

    def stop_reading(self) -> None:
        """Take no more, of anybody; what is queued is still answered."""
        self._is_stopping = True
        for reader in self._readers:
            reader.cancel()

    def close(self) -> None:
        """End every connection after its last answer."""
        for session in self._sessions:
            session.outbox.close()

    async def expel(self) -> None:
        """End, until cancelled, the connections whose certificate does not hold any more."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            self._gate.refresh()
            for session in [*self._sessions]:
                self._check(session)

    def _check(self, session: Session) -> None:
        if session.bearer is None or session.outbox.is_closed:
            return
        try:
            self._gate.check(session.bearer)
        except IdentityError as error:
            _LOGGER.warning(
                "an agent was sent away",
                extra={
                    "action": "expel",
                    "node": session.identity.node,
                    "peer": session.peer,
                    "reason": str(error),
                },
            )
            refuse(session, self._metrics, pb.Reject.REASON_REFUSED, detail=str(error))
            session.outbox.close()

    async def stream(self, _requests: object, context: Context) -> None:
        """Serve one agent until either side has enough.

        A connection that breaks, or that gRPC ends for what is said on it, is no news: who
        means ill must not be able to fill the log.
        """
        self._metrics.connections.inc()
        self._calls += 1
        try:
            session = await self._welcome(context)
            if session is not None:
                await self._converse(session, context)
        except grpc.aio.BaseError:
            return
        finally:
            self._calls -= 1
            self._metrics.connections.dec()

    async def _welcome(self, context: Context) -> Session | None:
        """Answer the Hello; None where it was refused."""
        if self._calls > self._max_agents:
            await _send(context, pb.AggregatorMessage(reject=self._busy(self._crowded())))
            return None
        hello = await self._read_hello(context)
        if isinstance(hello, pb.Reject):
            await _send(context, pb.AggregatorMessage(reject=hello))
            return None
        bearer, welcome = await self._register(hello, context)
        if isinstance(welcome, pb.Reject):
            self._tell_refused(hello.node, context.peer(), welcome.detail)
            await _send(context, pb.AggregatorMessage(reject=welcome))
            return None
        self._metrics.hellos.inc()
        await _send(
            context,
            pb.AggregatorMessage(
                welcome=pb.Welcome(
                    epoch=welcome.identity.epoch,
                    acked_through=welcome.acked_through,
                    incarnation=welcome.incarnation,
                    max_message_bytes=self._max_message_bytes,
                    acked_digest=welcome.acked_digest,
                    max_batches=MAX_BATCHES,
                )
            ),
        )
        tell_of_spool(hello, welcome, self._metrics, self._quiet)
        return Session(
            identity=welcome.identity,
            expected=welcome.acked_through + 1,
            seizures=welcome.seizures,
            peer=context.peer(),
            bearer=bearer,
        )

    def _tell_refused(self, node: str, peer: str, reason: str) -> None:
        """Log it once a minute: who is refused comes back, and knocks for as long as it is."""
        count = self._quiet.untold(peer.rpartition(":")[0], reason[:_MOST_TOLD])
        if count is None:
            return
        _LOGGER.warning(
            "an agent was refused",
            extra={
                "action": "hello",
                "node": node[:_MOST_TOLD],
                "peer": peer,
                "reason": reason,
                "repeated": count,
            },
        )

    async def _read_hello(self, context: Context) -> pb.Hello | pb.Reject:
        invalid = _invalid("a Hello was expected")
        try:
            async with asyncio.timeout(_HELLO_SECONDS):
                raw = await context.read()
        except TimeoutError:
            return invalid
        if not isinstance(raw, bytes):
            return invalid
        try:
            message = pb.AgentMessage.FromString(raw)
        except DecodeError:
            return invalid
        return message.hello if message.HasField("hello") else invalid

    async def _register(
        self, hello: pb.Hello, context: Context
    ) -> tuple[Bearer | None, Welcome | pb.Reject]:
        if self._is_stopping:
            return None, self._busy("the aggregator stops")
        try:
            bearer = self._gate.admit(context.auth_context(), hello.node)
            return bearer, await self._registrar.welcome(hello)
        except IdentityError as error:
            return None, pb.Reject(reason=pb.Reject.REASON_REFUSED, detail=str(error))
        except HelloError as error:
            return None, _invalid(str(error))
        except ForeignStreamError:
            return None, pb.Reject(
                reason=pb.Reject.REASON_FENCED,
                detail="the stream belongs to another node or another machine",
            )
        except BusyError as error:
            return None, self._busy(str(error), error.retry_after_seconds)

    def _crowded(self) -> str:
        return f"{self._max_agents} agents are connected, and the aggregator takes no more at once"

    def _busy(self, detail: str, after_seconds: float | None = None) -> pb.Reject:
        after_ms = self._retry_after_ms if after_seconds is None else round(after_seconds * 1000)
        return pb.Reject(reason=pb.Reject.REASON_BUSY, retry_after_ms=after_ms, detail=detail)

    async def _converse(self, session: Session, context: Context) -> None:
        """Read and write until the agent hangs up or the outbox is closed."""
        reader = asyncio.create_task(self._read(session, context))
        writer = asyncio.create_task(_write(session, context))
        self._readers.add(reader)
        self._sessions.add(session)
        try:
            await asyncio.wait({reader, writer}, return_when=asyncio.FIRST_COMPLETED)
            if reader.cancelled():  # we are stopping: the last answers are still to come
                await writer
        finally:
            self._readers.discard(reader)
            self._sessions.discard(session)
            await _end(reader)
            await _end(writer)

    async def _read(self, session: Session, context: Context) -> None:
        while not session.outbox.is_closed:
            try:
                async with asyncio.timeout(self._silence_seconds):
                    raw = await context.read()
            except TimeoutError:
                return
            if not isinstance(raw, bytes):
                return
            if not session.outbox.is_closed:
                await self._receiver.receive(session, raw)
        await asyncio.Event().wait()  # the writer ends the call


def _invalid(detail: str) -> pb.Reject:
    return pb.Reject(reason=pb.Reject.REASON_INVALID, detail=detail)


async def _write(session: Session, context: Context) -> None:
    while (message := await session.outbox.next()) is not None:
        await _send(context, message)


async def _send(context: Context, message: pb.AggregatorMessage) -> None:
    await context.write(message.SerializeToString())


async def _end(task: asyncio.Task[None]) -> None:
    """Cancel a task and see its end; a connection that broke is no news."""
    task.cancel()
    with suppress(asyncio.CancelledError, grpc.RpcError, grpc.aio.BaseError):
        await task
