"""HTTPS: the certificate is taken up anew whenever its files are replaced, without a restart."""

import ssl
from pathlib import Path

from aggregator.ca.reload import Reloaded
from aggregator.errors import NodemeterError


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """What a TLS server listens with; key and certificate may be one file.

    Raises `NodemeterError`.
    """

    def load() -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        return context

    def choose(connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        files.refresh()
        connection.context = files.value

    try:
        files = Reloaded([certificate, key], load)
    except (OSError, ValueError) as error:
        words = error.strerror or error if isinstance(error, OSError) else error
        raise NodemeterError(
            f"[http] tls_cert {certificate} and tls_key {key} cannot be used: {words}"
        ) from error
    context = load()
    context.sni_callback = choose  # called at each handshake, also where no name is said
    return context
