"""Keeps this node's certificate valid: a thread that starts `agent.enroll.renew` in time.

When there is another certificate, the uplink connects anew: the aggregator ends connections
whose certificate has expired.
"""

import json
import logging
import threading
from collections.abc import Callable
from pathlib import Path

from agent.errors import AgentError
from agent.programs import run_program

_PROGRAM = "agent.enroll.renew"
_PROGRAM_SECONDS = 60.0
_RETRY_SECONDS = 600.0
_LOGGER = logging.getLogger(__name__)


class Renewal:
    """See the module. `on_renewed` is called on the thread."""

    def __init__(
        self,
        *,
        target: str,
        ca: Path,
        node: Path,
        server_name: str | None,
        on_renewed: Callable[[], None],
    ) -> None:
        """Do nothing until `start`."""
        self._arguments = (target, str(ca), str(node), server_name or "")
        self._on_renewed = on_renewed
        self._stopping = threading.Event()
        self._told = ""
        self._thread = threading.Thread(target=self._run, name="renewal", daemon=True)

    def start(self) -> None:
        """Look now, and whenever it is time."""
        self._thread.start()

    def close(self) -> None:
        """Look no more; idempotent."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        seconds = 0.0
        while not self._stopping.wait(seconds):
            seconds = self._look()

    def _look(self) -> float:
        """Look once; gives in how many seconds to look again."""
        try:
            said = run_program(_PROGRAM, self._arguments, self._stopping, _PROGRAM_SECONDS)
            looked = json.loads(said)
            until, failure = str(looked["until"]), str(looked["failure"])
            seconds = float(looked["next_seconds"])
        except (AgentError, ValueError, KeyError, TypeError) as error:
            until, failure, seconds = "", str(error), _RETRY_SECONDS
        if until:
            _LOGGER.info("the certificate was renewed", extra={"action": "renew", "until": until})
            self._on_renewed()
        self._tell(failure)
        return seconds

    def _tell(self, failure: str) -> None:
        """Log why it cannot be renewed, once for each reason."""
        if failure and failure != self._told and not self._stopping.is_set():
            _LOGGER.warning(
                "the certificate cannot be renewed; it is tried again until it expires",
                extra={"action": "renew", "reason": failure},
            )
        self._told = failure
