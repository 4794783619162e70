"""Certifies nodes: the first time by a token, on a port of its own, then by their certificate.

gRPC for Python cannot ask a caller for a certificate without insisting on one, so who has
none yet is served by a second server. It takes tiny messages, few at a time, and listens to
nobody for a while who was refused too often. Files are written in threads.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from datetime import timedelta
from typing import Final, NoReturn, Protocol, TypeAlias

import grpc
from google.protobuf.message import DecodeError

from aggregator.ca.authority import Authority
from aggregator.ca.identity import IdentityError, node_of
from aggregator.ca.layout import CaError
from aggregator.clock import monotonic
from aggregator.ingest.gate import AuthContext, MutualGate
from proto.enrolment.v1 import enrolment_pb2 as pb

ENROLMENT: Final = "nodemeter.enrolment.v1.Enrolment"
RENEWAL: Final = "nodemeter.enrolment.v1.Renewal"
OPTIONS: Final = (
    ("grpc.max_receive_message_length", 16 << 10),
    ("grpc.max_send_message_length", 64 << 10),
    ("grpc.max_metadata_size", 8 << 10),
    ("grpc.max_concurrent_streams", 2),
    ("grpc.so_reuseport", 0),
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.max_connection_idle_ms", 10_000),
    ("grpc.max_connection_age_ms", 60_000),
    ("grpc.http2.bdp_probe", 0),
)
ENROLMENT_CALLS: Final = 200

_LOGGER: Final = logging.getLogger(__name__)
_AT_ONCE: Final = 8
_KEEP_SECONDS: Final = 3_600.0
_FORGIVEN: Final = 10
_FORGET_SECONDS: Final = 60.0
_MOST_HOSTS: Final = 10_000


class Context(Protocol):
    """What we use of a call of `grpc.aio`."""

    def peer(self) -> str:
        """Say who calls."""
        ...

    def auth_context(self) -> AuthContext:
        """Say what TLS found out about who calls."""
        ...

    async def abort(self, code: grpc.StatusCode, details: str) -> NoReturn:
        """Refuse."""
        ...


_Method: TypeAlias = Callable[[bytes, Context], Coroutine[None, None, bytes]]


class Throttle:
    """Remembers for a minute how often a host was refused."""

    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        """Nobody was."""
        self._now = now
        self._refused: dict[str, tuple[float, int]] = {}

    def is_shut(self, peer: str) -> bool:
        """Whether its host has been refused too often lately."""
        since, count = self._refused.get(_host(peer), (0.0, 0))
        return count >= _FORGIVEN and self._now() - since < _FORGET_SECONDS

    def refuse(self, peer: str) -> None:
        """Count a refusal."""
        host, now = _host(peer), self._now()
        since, count = self._refused.pop(host, (now, 0))
        is_old = now - since >= _FORGET_SECONDS
        self._refused[host] = (now, 1) if is_old else (since, count + 1)
        if len(self._refused) > _MOST_HOSTS:
            del self._refused[next(iter(self._refused))]


class Certifier:
    """Answers requests for certificates."""

    def __init__(self, authority: Authority, gate: MutualGate, life: timedelta) -> None:
        """Sign by `authority` what is to hold for `life`."""
        self.port = 0
        """What an enrolled node is told to send its usage to."""
        self._authority = authority
        self._gate = gate
        self._life = life
        self._throttle = Throttle()
        self._turns = asyncio.Semaphore(_AT_ONCE)

    def enrolment(self) -> "grpc.GenericRpcHandler[bytes, bytes]":
        """For the server that asks nobody for a certificate."""
        return _handler(ENROLMENT, {"Enroll": self.enroll})

    def renewal(self) -> "grpc.GenericRpcHandler[bytes, bytes]":
        """For the server that asks everybody."""
        return _handler(RENEWAL, {"Renew": self.renew})

    async def enroll(self, raw: bytes, context: Context) -> bytes:
        """Certify by a token."""
        if self._throttle.is_shut(context.peer()):
            words = "this host was refused too often: try again in a minute"
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, words)
        node = ""
        try:
            request = pb.EnrollRequest.FromString(raw)
            node = request.node
            what = (request.secret, node, request.request, self._life)
            certificate = await self._sign(lambda: self._authority.enroll(*what))
        except (CaError, DecodeError) as error:
            self._throttle.refuse(context.peer())
            await self._refuse(context, node, "enroll", error)
        return self._certified(context, node, "enroll", certificate)

    async def renew(self, raw: bytes, context: Context) -> bytes:
        """Certify by the certificate before."""
        node = ""
        try:
            request = pb.RenewRequest.FromString(raw)
            bearer = self._gate.bearer(context.auth_context())
            self._gate.refresh()
            self._gate.check(bearer)
            node = node_of(bearer, self._authority.domain)
            what = (bearer.serial, node, request.request, self._life)
            certificate = await self._sign(lambda: self._authority.renew(*what))
        except (CaError, IdentityError, DecodeError) as error:
            await self._refuse(context, node, "renew", error)
        return self._certified(context, node, "renew", certificate)

    async def keep_server(self) -> None:
        """Keep the aggregator's own certificate valid, until cancelled."""
        while True:
            try:
                if await asyncio.to_thread(self._authority.keep_server):
                    _LOGGER.info("made our own certificate anew", extra={"action": "renew"})
            except (CaError, OSError) as error:
                extra = {"action": "renew", "error": str(error)}
                _LOGGER.error("our own certificate cannot be made anew", extra=extra)  # noqa: TRY400
            await asyncio.sleep(_KEEP_SECONDS)

    async def _sign(self, sign: Callable[[], bytes]) -> bytes:
        async with self._turns:
            return await asyncio.to_thread(sign)

    async def _refuse(self, context: Context, node: str, action: str, error: Exception) -> NoReturn:
        reason = str(error) if isinstance(error, CaError | IdentityError) else "no such message"
        _LOGGER.warning(
            "a node was not certified",
            extra={
                "action": action,
                "node": node[:256],
                "peer": context.peer(),
                "reason": reason,
            },
        )
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, reason)

    def _certified(self, context: Context, node: str, action: str, certificate: bytes) -> bytes:
        extra = {"action": action, "node": node, "peer": context.peer()}
        _LOGGER.info("a node was certified", extra=extra)
        return pb.Certified(
            certificate=certificate, authorities=self._authority.roots, port=self.port
        ).SerializeToString()


def _handler(
    service: str, methods: Mapping[str, _Method]
) -> "grpc.GenericRpcHandler[bytes, bytes]":
    # The stubs leave open what a handler takes and gives; ours takes and gives bytes.
    made = grpc.unary_unary_rpc_method_handler  # pyright: ignore[reportUnknownVariableType]
    handlers = {name: made(method) for name, method in methods.items()}  # pyright: ignore[reportUnknownVariableType]
    return grpc.method_handlers_generic_handler(service, handlers)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]


def _host(peer: str) -> str:
    return peer.rpartition(":")[0]
