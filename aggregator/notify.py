"""Tells the service manager how we are, by sd_notify(3); silent where nobody listens."""

import socket
from collections.abc import Mapping


class Notifier:
    """Speaks to the socket that the service manager named."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        """Take the address from NOTIFY_SOCKET ("@…" = abstract)."""
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address

    def ready(self) -> None:
        """We serve."""
        self._send("READY=1")

    def stopping(self) -> None:
        """We are about to end, and not by failure."""
        self._send("STOPPING=1")

    def watchdog(self) -> None:
        """We still do our work."""
        self._send("WATCHDOG=1")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        try:
            with socket.socket(socket.AF_UNIX, kind) as sender:
                sender.connect(self._address)
                sender.send(message.encode())
        except OSError:
            return  # a deaf service manager must not stop the billing
