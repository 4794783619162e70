"""The gRPC call itself. The only module of the agent that imports grpc for the uplink."""

from collections.abc import Callable, Iterator
from typing import Protocol

import grpc

from agent.uplink.tls import TlsFiles
from proto.metering.v1 import metering_pb2 as pb

METHOD = "/nodemeter.metering.v1.Metering/Stream"
OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),  # else gRPC's own backoff outlives our channel
    # So long a connection may take to be made (20 s by default): where thousands come back at
    # once, who gives up and comes again makes the queue longer, and its handshake was for nothing.
    ("grpc.min_reconnect_backoff_ms", 60_000),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 60_000),  # ten thousand agents that come back are much work
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_http_proxy", 0),  # the way to the aggregator is configured, not inherited
)


class _Stream(Protocol):
    """What we use of gRPC's call object, whose stubs leave most of it open."""

    def __iter__(self) -> Iterator[pb.AggregatorMessage]: ...

    def cancel(self) -> object: ...

    def code(self) -> grpc.StatusCode: ...

    def details(self) -> str: ...


class Conversation:
    """One connection with one call on it."""

    def __init__(self, target: str, requests: Iterator[bytes], tls: TlsFiles | None = None) -> None:
        """Connect in the background; gRPC takes messages from `requests` on its own thread.

        Raises:
            UplinkError: a file that TLS needs cannot be read.
        """
        self._channel = _open(target, tls)
        open_stream: Callable[[Iterator[bytes]], _Stream] = self._channel.stream_stream(  # pyright: ignore[reportUnknownVariableType]
            METHOD,
            request_serializer=bytes,
            response_deserializer=pb.AggregatorMessage.FromString,
        )
        self._stream = open_stream(requests)

    @property
    def has_failed_to_connect(self) -> bool:
        """Whether it is over because nobody was there, or TLS was not agreed upon."""
        return self._stream.code() is grpc.StatusCode.UNAVAILABLE

    def answers(self) -> Iterator[pb.AggregatorMessage]:
        """What the aggregator says, until either side has enough or the network fails."""
        try:
            yield from self._stream
        except grpc.RpcError:
            return  # `ending` tells

    def ending(self) -> str:
        """Why it is over, in one line."""
        code, details = self._stream.code(), self._stream.details()
        return f"{code.name}: {details}" if details else f"the aggregator hung up ({code.name})"

    def has_refused_size(self) -> bool:
        """Whether a message of ours was larger than what is taken over there."""
        is_limit = self._stream.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        return is_limit and "larger than max" in (self._stream.details() or "")

    def cancel(self) -> None:
        """End it from this side, from any thread; `answers` ends soon after."""
        self._stream.cancel()

    def close(self) -> None:
        """Give everything back; idempotent."""
        self._stream.cancel()
        self._channel.close()


def _open(target: str, tls: TlsFiles | None) -> grpc.Channel:
    if tls is None:
        return grpc.insecure_channel(target, options=OPTIONS)
    pems = tls.read()
    credentials = grpc.ssl_channel_credentials(pems.roots, pems.key, pems.certificate)
    name = tls.server_name
    named = (("grpc.ssl_target_name_override", name), ("grpc.default_authority", name))
    options = (*OPTIONS, *named) if name else OPTIONS
    return grpc.secure_channel(target, credentials, options=options)
