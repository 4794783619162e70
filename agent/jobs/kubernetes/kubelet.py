"""Asks the kubelet for its pods over HTTPS: `GET /pods`.

The kubelet's certificate is always checked: on the node anybody may listen on the port
while the kubelet does not, and would be given the token. The token is read anew each time,
since it is short-lived; it never comes into a message. One deadline holds for the whole
exchange, however slowly bytes drip in, and the answer is bounded.
"""

import os
import re
import socket
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from agent.errors import ProviderError
from agent.jobs.terms import bill_text

if TYPE_CHECKING:
    import http.client
    import ssl

MAX_BYTES = 32 << 20
"""Pods are 5 to 20 KB each, and a kubelet has some hundred."""

_MAX_TOKEN = 64 << 10
_TOKEN = re.compile(r"[\x21-\x7e]+")
_RIGHTS = (
    "let its account `get` the resource `nodes/pods` of this node "
    "(before Kubernetes 1.33: `nodes/proxy`) by a ClusterRole and a ClusterRoleBinding"
)


class AccessDeniedError(ProviderError):
    """The kubelet does not let us see its pods, and will not before somebody does something."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KubeletAddress:
    """Where the kubelet is, and what is shown to it.

    `name` is what its certificate must be for. Of `ca_files` those that exist are trusted.
    """

    url: str
    name: str
    token_file: str
    ca_files: Sequence[str]
    cert_file: str = ""
    key_file: str = ""


class Kubelet:
    """The kubelet's own HTTPS API."""

    def __init__(
        self, address: KubeletAddress, *, timeout_seconds: float = 10.0, max_bytes: int = MAX_BYTES
    ) -> None:
        """Talk to nobody yet."""
        self._address = address
        self._timeout_seconds = timeout_seconds
        self._max_bytes = max_bytes

    def get_pods(self) -> bytes:
        """The body of `/pods`.

        Raises:
            AccessDeniedError: no token, a wrong one, one without the right to see pods, a
                certificate that is not trusted, or nobody listens at all.
            ProviderError: it failed, was too slow, or sent more than anybody needs.
        """
        import http.client  # noqa: PLC0415  a node without Kubernetes has no use for it

        headers = self._headers()
        try:
            with self._connect() as connection:
                connection.request("GET", "/pods", headers=headers)
                with connection.getresponse() as response:
                    return self._read(response)
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise self._translate(error) from error

    def _headers(self) -> dict[str, str]:
        headers = {"Accept": "application/json", "Connection": "close"}
        token = self._read_token()
        return headers | {"Authorization": f"Bearer {token}"} if token else headers

    def _read_token(self) -> str | None:
        """The token as it is now; None = a client certificate stands for it."""
        path = self._address.token_file
        try:
            with Path(path).open("rb") as file:
                token = file.read(_MAX_TOKEN).decode("latin-1").strip()
        except FileNotFoundError as error:
            if self._address.cert_file:
                return None
            raise AccessDeniedError(
                f"there is no token {path}; write one of a service account there, and {_RIGHTS}"
            ) from error
        except OSError as error:
            raise AccessDeniedError(f"{path} cannot be read: {error.strerror}") from error
        if not _TOKEN.fullmatch(token):
            raise AccessDeniedError(f"{path} holds no token, but something else")
        return token

    def _read(self, response: "http.client.HTTPResponse") -> bytes:
        if response.status != 200:
            raise self._refusal(response.status, response.reason)
        body = response.read(self._max_bytes + 1)
        if len(body) > self._max_bytes:
            raise ProviderError(f"{self._pods} sends more than {self._max_bytes >> 20} MiB")
        if response.length:
            raise ProviderError(f"{self._pods} ended in the middle of its answer")
        return body

    def _refusal(self, status: int, reason: str) -> ProviderError:
        said = f"{self._pods} answers {status} {bill_text(reason)[:80]}"
        if status == 401:
            return AccessDeniedError(f"{said}; give it a token that it accepts, and {_RIGHTS}")
        if status == 403:
            return AccessDeniedError(f"{said}; {_RIGHTS}")
        return ProviderError(said)

    @property
    def _pods(self) -> str:
        return f"{self._address.url}/pods"

    @contextmanager
    def _connect(self) -> "Generator[http.client.HTTPConnection]":
        """A connection to the right kubelet, which is torn down at the deadline."""
        import http.client  # noqa: PLC0415  as above

        host, port = self._host_and_port()
        encrypted = _dial(self._tls(), self._address.name, (host, port), self._timeout_seconds)
        with encrypted, _torn_down_after(encrypted, self._timeout_seconds):
            encrypted.do_handshake()
            connection = http.client.HTTPConnection(host, port)
            connection.sock = encrypted
            yield connection

    def _host_and_port(self) -> tuple[str, int]:
        parts = urlsplit(self._address.url)
        return parts.hostname or "", parts.port or 10250

    def _tls(self) -> "ssl.SSLContext":
        """What is trusted, and what we show; read anew, since certificates are renewed."""
        import ssl  # noqa: PLC0415  as http.client

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        trusted = [path for path in self._address.ca_files if Path(path).exists()]
        if not trusted:
            names = ", ".join(self._address.ca_files)
            raise AccessDeniedError(
                f"none of {names} exists; name the certificate that signed the kubelet's as "
                "[kubernetes] ca_files"
            )
        for path in trusted:
            context.load_verify_locations(path)
        if self._address.cert_file:
            context.load_cert_chain(self._address.cert_file, self._address.key_file or None)
        return context

    def _translate(self, error: Exception) -> ProviderError:
        import ssl  # noqa: PLC0415  as above

        reason = bill_text(str(error), type(error).__name__)
        if isinstance(error, ssl.SSLCertVerificationError):
            return AccessDeniedError(
                f"{self._pods} shows a certificate that is not to be trusted: {reason}; "
                "set [kubernetes] ca_files and kubelet_name"
            )
        if isinstance(error, ConnectionRefusedError):
            return AccessDeniedError(f"nobody listens at {self._address.url}")
        return ProviderError(f"{self._pods} fails: {reason}")


def _dial(
    tls: "ssl.SSLContext", name: str, where: tuple[str, int], seconds: float
) -> "ssl.SSLSocket":
    """Connect to the first address that lets us; the handshake is still to be done.

    The socket is wrapped first: what Python wraps when its other side has just hung up, it
    does not close.
    """
    name.encode("idna")  # what Python cannot wrap for its name it does not close either
    failure = OSError(f"{where[0]} has no address")
    for family, kind, protocol, _, address in socket.getaddrinfo(*where, type=socket.SOCK_STREAM):
        encrypted = tls.wrap_socket(
            socket.socket(family, kind, protocol),
            server_hostname=name,
            do_handshake_on_connect=False,
        )
        encrypted.settimeout(seconds)
        try:
            encrypted.connect(address)
        except OSError as error:
            encrypted.close()
            failure = error
        else:
            return encrypted
    raise failure


@contextmanager
def _torn_down_after(connection: socket.socket, seconds: float) -> Generator[None]:
    """Shut the connection down when the time is up, whoever reads from it then."""
    guard = socket.socket(fileno=os.dup(connection.fileno()))
    timer = threading.Timer(seconds, _shut_down, [guard])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        guard.close()


def _shut_down(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it is over already
