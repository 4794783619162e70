"""The embedded TimescaleDB: a PostgreSQL server of our own, for one machine and for the tests.

`ensure_server(state_dir)` finds or makes the software, makes the cluster, starts it and gives
its URL; nothing on the system changes outside `state_dir`. `python -m aggregator.store.embedded
FOLDER` only prepares the software.
"""

from aggregator.store.embedded.cluster import SERVICE_LOGIN
from aggregator.store.embedded.errors import EmbeddedError, InUseError, StateLostError
from aggregator.store.embedded.server import Server, ensure_server, running_url

__all__ = [
    "SERVICE_LOGIN",
    "EmbeddedError",
    "InUseError",
    "Server",
    "StateLostError",
    "ensure_server",
    "running_url",
]
