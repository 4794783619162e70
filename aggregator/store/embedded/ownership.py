"""Keeps a state directory's server with one process: its lock, and what an owner left behind."""

import fcntl
import logging
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import IO

from aggregator.store.embedded.cluster import Cluster
from aggregator.store.embedded.errors import EmbeddedError, InUseError, StateLostError
from aggregator.store.embedded.patience import wait_for

STOP_SECONDS = 60.0
"""A server that was told to stop has ended by then."""

_ORPHAN_SECONDS = 5.0  # a server that has lost its owner has begun to stop by then
_INIT = 1

logger = logging.getLogger(__name__)


def lock_of(folder: Path) -> IO[str]:
    """Take the lock of a server's folder, which is made where it is missing; held until closed.

    Raises:
        InUseError: another process holds it.
        EmbeddedError: the state directory cannot be used.
    """
    try:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        lock = folder.with_name("postgres.lock").open("a+", encoding="ascii")
    except OSError as error:
        raise EmbeddedError(
            f"the state directory {folder.parent} cannot be used: {error.strerror}"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        holder = lock.read().strip() or "unknown"
        lock.close()
        raise InUseError(
            f"the database in {folder.parent} is in use by process {holder}: stop that one, "
            "or use another state directory"
        ) from None
    lock.truncate(0)
    lock.write(f"{os.getpid()}\n")
    lock.flush()
    return lock


def check_lock(lock: IO[str]) -> None:
    """See that a lock still is the one that others meet.

    Raises:
        StateLostError: the state directory was removed or replaced.
    """
    path = Path(lock.name)
    try:
        is_there = os.path.samestat(os.fstat(lock.fileno()), path.stat())
    except FileNotFoundError:
        is_there = False
    if not is_there:
        raise StateLostError(
            f"the state directory {path.parent} was removed or replaced while "
            "it was in use: what was in it is lost, and whatever is there now is left alone"
        )


def take_over(cluster: Cluster) -> None:
    """Wait for the end of what an owner that died left behind; clear the mark that it left.

    Raises:
        InUseError: another owner's server runs here.
        EmbeddedError: what was left does not end.
    """
    if not wait_for(lambda: not cluster.processes(), _ORPHAN_SECONDS):
        _end_orphan(cluster)
    if not wait_for(lambda: not cluster.processes(), STOP_SECONDS):
        raise EmbeddedError(
            f"processes {cluster.processes()} of an earlier server are still at {cluster.data}"
        )
    # PostgreSQL takes any living process with that number for a server of its own.
    (cluster.data / "postmaster.pid").unlink(missing_ok=True)


def _end_orphan(cluster: Cluster) -> None:
    """End a server that nobody owns and that has not begun to stop, as the kernel should have."""
    postmaster = cluster.postmaster()
    if postmaster is None or not postmaster.is_ready or postmaster.pid not in cluster.processes():
        return
    owner = _parent_of(postmaster.pid)
    if owner != _INIT:
        raise InUseError(
            f"the database in {cluster.folder.parent} is in use by process {owner}, whose lock "
            "somebody removed: stop that one, or use another state directory"
        )
    logger.warning("ending a server without an owner", extra={"action": "end_orphan"})
    with suppress(ProcessLookupError):
        os.kill(postmaster.pid, signal.SIGINT)


def _parent_of(pid: int) -> int:
    """The process that started it, or took it over from one that ended; init for one that ended."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return _INIT
    return int(status.rpartition(")")[2].split()[1])
