"""Says why no connection to the aggregator comes about, in words that help.

gRPC says little more than that a socket was closed: a server of TLS 1.3 refuses a certificate
after its client holds the handshake for done, and gRPC's hangs up without the alert that would
say why. So the same is tried once more with Python's TLS, and where the aggregator hangs up on
us, our own certificate is looked at as it looks at it. In a process of its own.
"""

import socket
import ssl
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from agent.clock import SystemTime
from agent.errors import AgentError

_SECONDS = 5.0
_HANG_UPS = (ConnectionResetError, BrokenPipeError, ssl.SSLEOFError, ssl.SSLZeroReturnError)
_REFUSED = "the aggregator refuses our certificate"
_PLAIN = (
    'the aggregator speaks plain text there, and we TLS: set [tls] mode = "mutual" in its '
    "aggregator.toml"
)
NO_CERTIFICATE = "the aggregator asks for a certificate and we have none"
_ALERTS = (
    ("CERTIFICATE_REQUIRED", NO_CERTIFICATE),
    ("ALERT_CERTIFICATE_EXPIRED", f"{_REFUSED}: it has expired"),
    ("ALERT_UNKNOWN_CA", f"{_REFUSED}: it is of another authority (wrong CA)"),
    ("ALERT_BAD_CERTIFICATE", f"{_REFUSED}: it is not valid"),
    ("WRONG_VERSION_NUMBER", _PLAIN),
    ("RECORD_LAYER_FAILURE", _PLAIN),
)
_ENROL = "enrol this node: `nodemeter-aggregator ca issue NODE` there prints the command"
_AGAIN = _ENROL.replace("node:", "node again:")


class HungUpError(AgentError):
    """The aggregator hung up when it had seen whether we have a certificate, and which."""


def diagnose(host: str, port: int, context: ssl.SSLContext, name: str) -> str | None:
    """Why the server at `host` and `port` is not for us; None = nothing is wrong with TLS.

    Raises:
        HungUpError: what it knows of us is not to its liking.
    """
    try:
        with (
            socket.create_connection((host, port), timeout=_SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=name) as secure,
        ):
            if not secure.recv(1):  # a refusal comes when all is done; else its settings do
                raise HungUpError("the aggregator hung up after the handshake")
    except _HANG_UPS as error:
        raise HungUpError("the aggregator hung up within the handshake") from error
    except ssl.SSLCertVerificationError as error:
        return _about_server(error, host, name)
    except ssl.SSLError as error:
        sign = str(error.reason or error)
        return next((words for part, words in _ALERTS if part in sign), f"TLS failed: {sign}")
    except TimeoutError:
        return f"{host} port {port} does not answer within {_SECONDS:g} s"
    except OSError as error:
        return f"nobody answers at {host} port {port}: {error.strerror or error}"
    return None


def diagnose_plain(host: str, port: int) -> str | None:
    """Why plain text gets no answer there; None = it is not that TLS is wanted."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection((host, port), timeout=_SECONDS) as plain,
            context.wrap_socket(plain),
        ):
            return f"the aggregator speaks TLS there, and we plain text: {_ENROL}"
    except OSError:
        return None


def context_of(roots: str, certificate: str, key: str) -> ssl.SSLContext:
    """What the agent connects with: whom it trusts as PEM, files of its own, "" = none.

    Raises:
        AgentError: a file cannot be used.
    """
    context = ssl.create_default_context(cadata=roots)
    context.set_alpn_protocols(["h2"])
    if certificate:
        try:
            context.load_cert_chain(certificate, key)
        except ssl.SSLError as error:
            raise AgentError(
                f"{certificate} and {key} are no certificate with its key ({error.reason}): "
                f"{_AGAIN}"
            ) from error
    return context


def _about_server(error: ssl.SSLCertVerificationError, host: str, name: str) -> str:
    words = error.verify_message
    if "expired" in words or "not yet valid" in words:
        return f"the aggregator's certificate is of no use: {words} (or our clock is wrong)"
    if "mismatch" in words or "not valid for" in words:
        return (
            f"the aggregator at {host} is not called {name} in its certificate ({words}): use a "
            "name of `nodemeter-aggregator ca server --name`, or [uplink] server_name"
        )
    return (
        f"the aggregator's certificate is of an authority that is not ours (wrong CA: {words}); "
        f"{_AGAIN}"
    )


def _about_us(certificate: str, roots: bytes) -> str:
    """What is wrong with our certificate, as far as that can be told here."""
    if not certificate:
        return f"{NO_CERTIFICATE}: {_ENROL}"
    try:
        from agent.enroll.request import fault_of  # noqa: PLC0415  it may not be there

        now = datetime.fromtimestamp(SystemTime().wall_ns() / 1e9, UTC)
        fault = fault_of(Path(certificate).read_bytes(), roots, now)
    except (AgentError, OSError):
        fault = None
    return f"{_REFUSED}: {fault or 'its log says why'}; {_AGAIN}"


def _explain(arguments: Sequence[str]) -> str | None:
    host, port, ca, certificate, key, name = arguments
    if not ca:
        return diagnose_plain(host, int(port))
    roots = b""
    try:
        roots = Path(ca).read_bytes()
        context = context_of(roots.decode("ascii"), certificate, key)
        return diagnose(host, int(port), context, name)
    except HungUpError:
        return _about_us(certificate, roots)
    except (AgentError, OSError, ValueError) as error:
        return str(error)


def main(arguments: Sequence[str]) -> int:
    """HOST PORT CA CERTIFICATE KEY NAME; prints the reason, or nothing. CA "": plain text."""
    sys.stdout.write(_explain(arguments) or "")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
