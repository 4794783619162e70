"""Replaces this node's certificate in time: one look, as a program of its own.

Prints one line of JSON: when to look again, and what was done or why not. A new key is made
each time; it goes to the disk together with its certificate, or not at all.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import grpc

from agent.clock import SystemTime
from agent.enroll.ask import renew
from agent.enroll.files import write_whole
from agent.enroll.request import Life, life_of, make_request
from agent.errors import AgentError

_LONGEST_SECONDS = 3_600.0
_SHORTEST_SECONDS = 0.5
_PATIENCE = 40
"""Into how many parts a life is cut: so often is tried before it ends, or more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What a look came to."""

    next_seconds: float
    until: str = ""
    failure: str = ""


def look(target: str, ca: Path, node: Path, name: str | None, now: datetime) -> Looked:
    """Renew if it is due.

    Raises:
        AgentError: the certificate there cannot be read.
    """
    pem = node.read_bytes()
    life = life_of(pem)
    if now < life.renew_at:
        return Looked(next_seconds=_within((life.renew_at - now).total_seconds()))
    try:
        fresh = _renew(target, ca, pem, name)
        write_whole(node, fresh, 0o600)
    except (AgentError, OSError) as error:
        return Looked(next_seconds=_retry_seconds(life), failure=str(error))
    renewed = life_of(fresh)
    wait = (renewed.renew_at - now).total_seconds()
    return Looked(next_seconds=_within(wait), until=renewed.not_after.isoformat())


def _renew(target: str, ca: Path, pem: bytes, name: str | None) -> bytes:
    """A new key with its certificate; whom to trust is replaced, too, if it is another."""
    roots = ca.read_bytes()
    key, request = make_request("")
    certified = renew(target, grpc.ssl_channel_credentials(roots, pem, pem), request, name)
    if certified.authorities and certified.authorities != roots:
        write_whole(ca, certified.authorities, 0o644)
    return key + certified.certificate


def _retry_seconds(life: Life) -> float:
    return _within((life.not_after - life.not_before).total_seconds() / _PATIENCE)


def _within(seconds: float) -> float:
    return min(_LONGEST_SECONDS, max(_SHORTEST_SECONDS, seconds))


def main(arguments: Sequence[str]) -> int:
    """TARGET CA NODE NAME; 0 unless the certificate there is of no use."""
    target, ca, node, name = arguments
    now = datetime.fromtimestamp(SystemTime().wall_ns() / 1e9, UTC)
    try:
        looked = look(target, Path(ca), Path(node), name or None, now)
    except (AgentError, OSError) as error:
        looked = Looked(next_seconds=_LONGEST_SECONDS, failure=str(error))
    sys.stdout.write(json.dumps(asdict(looked)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
