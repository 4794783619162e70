"""How many connections this process may have: what the system grants, shared out.

A connection costs a descriptor. If agents or browsers could take the last one, the database
could not be reached any more, nor the port that says so.
"""

import resource
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

MAX_AGENTS: Final = 20_000
MAX_REQUESTERS: Final = 1_000
_OWN: Final = 128
"""For the database, files and what listens."""
_TURNED_AWAY: Final = 256
"""Agents that are told that there are too many, and then hang up."""
_LEAST: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """How many of each at once."""

    agents: int
    agent_connections: int
    """With those that are only told that there are too many."""
    requesters: int
    """Connections of the HTTP APIs."""


def shares(descriptors: int) -> Shares:
    """Share out so many descriptors."""
    requesters = min(MAX_REQUESTERS, max(_LEAST, descriptors // 8))
    left = descriptors - requesters - _OWN
    connections = max(2 * _LEAST, min(MAX_AGENTS + _TURNED_AWAY, left))
    turned_away = min(_TURNED_AWAY, connections // 8)
    return Shares(
        agents=connections - turned_away, agent_connections=connections, requesters=requesters
    )


def raise_limit() -> int:
    """Take as many descriptors as the system grants; how many that is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    unlimited = soft == resource.RLIM_INFINITY
    return 1 << 20 if unlimited else soft
