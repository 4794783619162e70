"""Asks the aggregator for a certificate, over gRPC."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import grpc

from agent.errors import AgentError
from proto.enrolment.v1 import enrolment_pb2 as pb

if TYPE_CHECKING:
    from google.protobuf.message import Message

_ENROLL = "/nodemeter.enrolment.v1.Enrolment/Enroll"
_RENEW = "/nodemeter.enrolment.v1.Renewal/Renew"
_SECONDS = 30.0
_OPTIONS = (("grpc.enable_http_proxy", 0),)


class NotConnectedError(AgentError):
    """No connection came about; there may be better words for why."""


def enroll(target: str, roots: bytes, request: pb.EnrollRequest) -> pb.Certified:
    """Ask with a token.

    Raises:
        AgentError: it was refused; the aggregator's words.
        NotConnectedError: nobody could be asked.
    """
    return _ask(target, grpc.ssl_channel_credentials(roots), _ENROLL, request, None)


def renew(
    target: str, credentials: grpc.ChannelCredentials, request: bytes, name: str | None
) -> pb.Certified:
    """Ask with the certificate that is to be replaced. Raises as `enroll` does."""
    return _ask(target, credentials, _RENEW, pb.RenewRequest(request=request), name)


def _ask(
    target: str,
    credentials: grpc.ChannelCredentials,
    method: str,
    request: "Message",
    name: str | None,
) -> pb.Certified:
    named = (("grpc.ssl_target_name_override", name),) if name else ()
    with grpc.secure_channel(target, credentials, options=(*_OPTIONS, *named)) as channel:
        call = _method(channel, method)
        try:
            return call(request.SerializeToString(), _SECONDS)
        except grpc.RpcError as error:
            code, words = error.code(), error.details() or "no reason was given"
            if code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}:
                raise NotConnectedError(f"{target} cannot be asked: {words}") from error
            raise AgentError(f"the aggregator refused: {words}") from error


def _method(channel: grpc.Channel, name: str) -> Callable[[bytes, float], pb.Certified]:
    # The stubs leave open what a method takes and gives.
    return channel.unary_unary(name, bytes, pb.Certified.FromString)  # pyright: ignore[reportUnknownVariableType]
