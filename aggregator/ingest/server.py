"""The gRPC server: its limits, its port, and the tasks behind it."""

import asyncio
import errno
import socket
from typing import Final, Self

import grpc
import grpc.aio

from aggregator.clock import Clock
from aggregator.descriptors import MAX_AGENTS, Shares, shares
from aggregator.errors import NodemeterError, PortTakenError
from aggregator.ingest.commit import Committer
from aggregator.ingest.enrolment import ENROLMENT_CALLS, OPTIONS
from aggregator.ingest.hello import Bounds, Registrar
from aggregator.ingest.receive import Receiver
from aggregator.ingest.security import open_security
from aggregator.ingest.servicer import SILENCE_SECONDS, MeteringServicer
from aggregator.metrics import Metrics
from aggregator.settings import Settings
from aggregator.store.pool import Pool

_DRAIN_SECONDS: Final = 20
_CLOSE_SECONDS: Final = 2
_PENDING_SECONDS: Final = 120
"""As long as an agent waits for an answer."""


class IngestServer:
    """Everything between an agent's connection and the commit."""

    def __init__(
        self,
        pool: Pool,
        settings: Settings,
        metrics: Metrics,
        clock: Clock,
        *,
        room: Shares | None = None,
        silence_seconds: float = SILENCE_SECONDS,
    ) -> None:
        """Wire it up; nothing runs until `start`. Raises `CaError`."""
        room = room or shares(2 * MAX_AGENTS)
        self._settings = settings.grpc
        self._security = open_security(settings, clock)
        bounds = Bounds(nodes=settings.ingest.max_nodes, new_streams=settings.ingest.max_new_spools)
        self._registrar = Registrar(pool, bounds)
        self._committer = Committer(pool, settings.ingest, metrics, clock)
        self._servicer = MeteringServicer(
            self._registrar,
            Receiver(self._committer, settings.ingest, metrics, clock),
            metrics,
            self._security.gate,
            grpc_settings=settings.grpc,
            ingest_settings=settings.ingest,
            max_agents=room.agents,
            silence_seconds=silence_seconds,
        )
        self._server = grpc.aio.server(
            handlers=[self._servicer.handler()],
            options=server_options(settings.grpc.max_message_bytes, room.agent_connections),
            maximum_concurrent_rpcs=2 * MAX_AGENTS,  # the servicer says it in words before
        )
        self._enrolment = self._prepare_enrolment()
        self._tasks: list[asyncio.Task[None]] = []
        self.port = 0

    def _prepare_enrolment(self) -> grpc.aio.Server | None:
        """Let those who have a certificate renew it; the server for those who have none."""
        certifier = self._security.certifier
        if certifier is None:
            return None
        self._server.add_generic_rpc_handlers((certifier.renewal(),))
        if not self._settings.enroll_port:
            return None
        handlers = [certifier.enrolment()]
        return grpc.aio.server(
            handlers=handlers, options=OPTIONS, maximum_concurrent_rpcs=ENROLMENT_CALLS
        )

    async def start(self) -> None:
        """Listen. Raises `PortTakenError`."""
        credentials, certifier = self._security.credentials, self._security.certifier
        mutual = credentials.mutual() if credentials else None
        self.port = self._listen(self._server, self._settings.port, mutual)
        if self._enrolment and credentials:
            one_sided = credentials.one_sided()
            self._listen(self._enrolment, self._settings.enroll_port, one_sided)
        self._tasks = [
            asyncio.create_task(self._registrar.run(), name="hello"),
            asyncio.create_task(self._committer.run(), name="commit"),
            asyncio.create_task(self._servicer.expel(), name="expel"),
        ]
        if certifier:
            certifier.port = self.port
            self._tasks.append(asyncio.create_task(certifier.keep_server(), name="certificate"))
        await self._server.start()
        if self._enrolment:
            await self._enrolment.start()

    def _listen(
        self, server: grpc.aio.Server, port: int, credentials: grpc.ServerCredentials | None
    ) -> int:
        host = self._settings.host
        _check_free(host, port)
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            if credentials is None:
                return server.add_insecure_port(address)
            return server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise PortTakenError(host=host, port=port, section="grpc") from error

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """What must not end while we serve."""
        return self._tasks

    async def stop(self) -> None:
        """Take no more, store and ack what was taken, then hang up."""
        if self._enrolment:
            await self._enrolment.stop(_CLOSE_SECONDS)
        self._servicer.stop_reading()
        self._committer.stop()
        await asyncio.wait(self._tasks[1:2], timeout=_DRAIN_SECONDS)
        self._servicer.close()
        await self._server.stop(_CLOSE_SECONDS)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    async def __aexit__(self, *_error: object) -> None:
        """Stop."""
        await self.stop()


def _check_free(host: str, port: int) -> None:
    """Say why a port cannot be had; gRPC says only that it cannot, and its core logs by itself."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise PortTakenError(host=host, port=port, section="grpc") from error
            raise NodemeterError(
                f"[grpc] cannot listen on {host} port {port}: {error.strerror}"
            ) from error


def server_options(
    max_message_bytes: int, max_connections: int = MAX_AGENTS
) -> list[tuple[str, int]]:
    """How we treat a connection; gRPC ignores a name that it does not know."""
    return [
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.max_metadata_size", 16 << 10),
        ("grpc.max_concurrent_streams", 1_000),  # of one connection; an agent needs one
        # Calls that wait for the loop: beyond 1,000 gRPC would break off some by lot, and
        # ten thousand agents that come back at once would come back again and again.
        ("grpc.server.max_pending_requests", 2 * MAX_AGENTS),
        ("grpc.server.max_pending_requests_hard_limit", 2 * MAX_AGENTS),
        ("grpc.server_max_unrequested_time_in_server", _PENDING_SECONDS),
        ("grpc.max_allowed_incoming_connections", max_connections),
        ("grpc.so_reuseport", 0),  # a taken port is an error, not a second listener
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 60_000),  # an agent on a busy node may be late
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
        ("grpc.http2.bdp_probe", 0),  # else each connection may buffer megabytes
        ("grpc.max_connection_idle_ms", 600_000),  # without a call
    ]
