"""Finds better words for why no TLS connection came about than gRPC has."""

import threading
import time

from agent.errors import AgentError
from agent.programs import run_program
from agent.uplink.target import host_of, port_of
from agent.uplink.tls import TlsFiles

_PROGRAM = "agent.enroll.diagnose"
_PROGRAM_SECONDS = 20.0
_AGAIN_SECONDS = 60.0


class Explainer:
    """Asks `agent.enroll.diagnose`, at most once a minute; in between the words still hold."""

    def __init__(self, target: str, tls: TlsFiles | None) -> None:
        """Explain why `target` cannot be talked to with these files, or in plain text."""
        self._target = target
        self._tls = tls
        self._words: str | None = None
        self._asked_at: float | None = None

    def explain(self, stopping: threading.Event) -> str | None:
        """Why; None = TLS is not what is wrong, or `stopping` was set."""
        now = time.monotonic()
        if self._asked_at is None or now - self._asked_at >= _AGAIN_SECONDS:
            self._asked_at, self._words = now, self._ask(stopping)
        return self._words

    def _ask(self, stopping: threading.Event) -> str | None:
        if self._target.startswith("unix"):
            return None
        host, port, tls = host_of(self._target), str(port_of(self._target)), self._tls
        arguments = (host, port, "", "", "", "")
        if tls:
            files = (str(tls.ca), str(tls.certificate or ""), str(tls.key or ""))
            arguments = (host, port, *files, tls.server_name or host)
        try:
            return run_program(_PROGRAM, arguments, stopping, _PROGRAM_SECONDS) or None
        except AgentError:
            return None
