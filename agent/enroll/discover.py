"""Finds the authority that a token names, in what a server shows before it is trusted.

Nothing is sent to the server but the beginning of TLS. What it shows is believed for nothing
but its fingerprint: who is in between can show the authority's certificate, too, but then not
speak for it, which the connection that follows finds out.
"""

import hashlib
import socket
import ssl
import sys
from collections.abc import Sequence
from typing import Protocol

from agent.errors import AgentError

_SECONDS = 10.0
_DER = 2  # _ssl.ENCODING_DER


class _Certificate(Protocol):
    def public_bytes(self, kind: int, /) -> bytes: ...


class _Inner(Protocol):
    def get_unverified_chain(self) -> Sequence[_Certificate]: ...


def find_authority(host: str, port: int, fingerprint: str) -> bytes:
    """The certificate with that SHA-256, as PEM.

    Raises:
        AgentError: nobody answers, or the server does not show it.
    """
    chain = _fetch_chain(host, port)
    shown = [hashlib.sha256(der).hexdigest() for der in chain]
    if fingerprint not in shown:
        raise AgentError(
            f"the server at {host} port {port} is not of the authority that the token names "
            f"({fingerprint[:16]}…; it shows {', '.join(each[:16] + '…' for each in shown)}): the "
            "token is of another installation, or somebody stands between (a man in the middle); "
            "nothing was sent"
        )
    return ssl.DER_cert_to_PEM_cert(chain[shown.index(fingerprint)]).encode()


def _fetch_chain(host: str, port: int) -> Sequence[bytes]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    try:
        with (
            socket.create_connection((host, port), timeout=_SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=host) as secure,
        ):
            return _chain_of(secure)
    except ssl.SSLError as error:
        raise AgentError(
            f"the server at {host} port {port} does not speak TLS as it should "
            f"({error.reason or error}): is this [grpc] enroll_port of the aggregator?"
        ) from error
    except OSError as error:
        raise AgentError(
            f"nobody answers at {host} port {port} ({error.strerror or error}): is the aggregator "
            "running, with [grpc] enroll_port set, and the way to it open?"
        ) from error


def _chain_of(secure: ssl.SSLSocket) -> Sequence[bytes]:
    """What the server showed, the leaf first; Python gives it publicly from 3.13 on."""
    if sys.version_info >= (3, 13):
        return secure.get_unverified_chain()
    inner: _Inner = vars(secure)["_sslobj"]
    return [each.public_bytes(_DER) for each in inner.get_unverified_chain()]
