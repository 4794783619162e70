"""Asks the kubelet's pod-resources API on its Unix socket.

The only module of this provider that needs gRPC, which is loaded with the first question.
What comes is bounded, and not trusted to be what it should.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from agent.context import NowMs
from agent.errors import ProviderError
from agent.jobs.kubernetes.allocations import Allocations, read_allocations
from agent.jobs.kubernetes.devices import Kinds
from agent.jobs.terms import bill_text

if TYPE_CHECKING:
    import grpc

    from proto.podresources.v1 import podresources_pb2 as pb

MAX_BYTES = 16 << 20
"""What the kubelet's own clients take."""

_SERVICE = "/v1.PodResourcesLister/"
_OPTIONS = (
    ("grpc.default_authority", "localhost"),  # not the socket's path, which some servers refuse
    ("grpc.use_local_subchannel_pool", 1),  # else gRPC's own backoff outlives our channel
    ("grpc.max_receive_message_length", MAX_BYTES),
    ("grpc.enable_http_proxy", 0),
)
_LACKING = frozenset({"UNIMPLEMENTED", "UNKNOWN"})
"""What a kubelet answers that has no GetAllocatableResources, or has it switched off."""

_Answer = TypeVar("_Answer")


class _Request(Protocol):
    def SerializeToString(self) -> bytes: ...  # noqa: N802  protobuf's name


class PodResources:
    """The API at one socket. Used from one thread; remembers its last answer."""

    def __init__(
        self,
        socket: str,
        kinds: Kinds,
        *,
        now_ms: NowMs,
        timeout_seconds: float = 5.0,
    ) -> None:
        """Talk to nobody yet."""
        self._socket = socket
        self._kinds = kinds
        self._now_ms = now_ms
        self._timeout_seconds = timeout_seconds
        self._last: Allocations | None = None

    def ask(self) -> Allocations:
        """Ask who holds what, and how much there is to be held.

        Raises:
            ProviderError: there is no socket, nobody answers in time, or not in this language.
        """
        import grpc  # noqa: PLC0415  a node without Kubernetes has no use for it

        if not Path(self._socket).is_socket():
            raise ProviderError(f"there is no socket {self._socket}; is the kubelet running?")
        asked_at_ms = self._now_ms()
        try:
            with grpc.insecure_channel(f"unix:{self._socket}", options=_OPTIONS) as channel:
                self._last = self._ask(channel, asked_at_ms)
        except grpc.RpcError as error:
            raise ProviderError(f"{self._socket} does not answer: {_reason(error)}") from error
        return self._last

    def _ask(self, channel: "grpc.Channel", asked_at_ms: int) -> Allocations:
        from proto.podresources.v1 import podresources_pb2 as pb  # noqa: PLC0415  as grpc

        listed = self._call(
            channel, "List", pb.ListPodResourcesRequest(), pb.ListPodResourcesResponse.FromString
        )
        allocatable = self._ask_allocatable(channel)
        return read_allocations(
            listed, allocatable, self._kinds, before=self._last, asked_at_ms=asked_at_ms
        )

    def _ask_allocatable(self, channel: "grpc.Channel") -> "pb.AllocatableResourcesResponse | None":
        """Everything that can be allocated; None = this kubelet does not tell."""
        import grpc  # noqa: PLC0415  as above

        from proto.podresources.v1 import podresources_pb2 as pb  # noqa: PLC0415  as above

        request = pb.AllocatableResourcesRequest()
        parse = pb.AllocatableResourcesResponse.FromString
        try:
            return self._call(channel, "GetAllocatableResources", request, parse)
        except grpc.RpcError as error:
            if _code(error) in _LACKING:
                return None
            raise

    def _call(
        self,
        channel: "grpc.Channel",
        method: str,
        request: _Request,
        parse: Callable[[bytes], _Answer],
    ) -> _Answer:
        """Call a method; the answer is parsed here, for gRPC would log what it cannot parse."""
        from google.protobuf.message import DecodeError  # noqa: PLC0415  as grpc

        ask = _method(channel, _SERVICE + method)
        data = ask(request.SerializeToString(), timeout=self._timeout_seconds)
        try:
            return parse(data)
        except DecodeError as error:
            raise ProviderError(f"{self._socket} answers {method} with garbage") from error


def _method(channel: "grpc.Channel", path: str) -> Callable[..., bytes]:
    return channel.unary_unary(path, request_serializer=bytes, response_deserializer=bytes)  # pyright: ignore[reportUnknownVariableType]


def _code(error: object) -> str:
    import grpc  # noqa: PLC0415  as above

    return error.code().name if isinstance(error, grpc.Call) else ""


def _reason(error: object) -> str:
    """The status and its text, which anybody may have written."""
    import grpc  # noqa: PLC0415  as above

    details = (error.details() or "") if isinstance(error, grpc.Call) else str(error)
    return bill_text(f"{_code(error)}: {details}".strip(": "), "no reason")
