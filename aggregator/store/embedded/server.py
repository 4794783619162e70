"""Runs the embedded server: starts it, watches it, stops it, and keeps others away from it.

One process owns a state directory's server: it holds the lock while it lives. The server is
told to end when its owner dies (so a kill -9 of the owner leaves no server behind), and a start
waits for what an earlier owner left. It must be called in the main thread: the kernel takes the
end of the thread that started the server for the end of its owner.
"""

import fcntl
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import psycopg
from psycopg import sql

from aggregator.lifeline import ending_of, tied
from aggregator.store.embedded.account import choose_account, plain_environment
from aggregator.store.embedded.cluster import DATABASE, SERVICE_LOGIN, Cluster
from aggregator.store.embedded.errors import EmbeddedError, InUseError, StateLostError
from aggregator.store.embedded.software import Software, choose

_START_SECONDS = 600.0  # recovery after a crash replays the log
_STOP_SECONDS = 60.0
_ORPHAN_SECONDS = 5.0  # a server that has lost its owner has begun to stop by then
_POLL_SECONDS = 0.02
_INIT = 1
_PORT_TRIES = 5

logger = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class Server:
    """A running server of this process. As a context manager it stops at the end."""

    cluster: Cluster
    software: Software
    settings: Mapping[str, str]
    fixed_port: int | None
    lock: IO[str]
    name: str = "database"
    port: int = 0
    process: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def url(self) -> str:
        """How its owner connects to the product's database. Holds the password: not for logs."""
        return self.url_of(DATABASE)

    @property
    def service_url(self) -> str:
        """How the services connect to the product's database. Not for logs either."""
        return self.service_url_of(DATABASE)

    def url_of(self, database: str) -> str:
        """How its owner connects to any database of this server."""
        return self.cluster.url_of(database, self.port)

    def service_url_of(self, database: str) -> str:
        """How the services connect to any database of this server that is migrated for them."""
        return self.cluster.url_of(database, self.port, is_service=True)

    def check_place(self) -> None:
        """See that our lock still is the one that others meet.

        Raises:
            StateLostError: the state directory was removed or replaced.
        """
        try:
            is_there = os.path.samestat(os.fstat(self.lock.fileno()), Path(self.lock.name).stat())
        except FileNotFoundError:
            is_there = False
        if not is_there:
            raise StateLostError(
                f"the state directory {self.cluster.folder.parent} was removed or replaced while "
                "it was in use: what was in it is lost, and whatever is there now is left alone"
            )

    def is_running(self) -> bool:
        """Whether the server's process lives."""
        return self.process is not None and self.process.poll() is None

    def explain(self) -> str:
        """How the server ended, and where to read more."""
        return f"{ending_of(self.process)}; its log: {self.cluster.data / 'log'}"

    def start(self) -> None:
        """Start and wait until connections are accepted; again at the same URL as before.

        Raises:
            StateLostError: there is another state directory now, or none.
            InUseError: another owner's server runs here.
            EmbeddedError: it did not start; the message ends with its log.
        """
        self.check_place()
        _take_over(self.cluster)
        for _ in range(_PORT_TRIES):
            self.port = self.fixed_port or _free_port()
            self._spawn()
            if self._is_ready_in_time():
                break
            said = self._last_words()
            if self.fixed_port is not None or "already in use" not in said:
                raise EmbeddedError(f"PostgreSQL did not start: {said}")
        else:
            raise EmbeddedError("PostgreSQL found no free port")
        self.fixed_port = self.port  # whoever has the URL finds the server there again
        _prepare_database(self.url_of("postgres"), self.url)
        _prepare_login(self.url_of("postgres"), self.cluster.service_password())

    def stop(self) -> None:
        """Stop at once but cleanly; a server that does not obey is killed. Frees the directory."""
        if self.process is not None:
            _end(self.process, signal.SIGINT)
        self.lock.close()

    def kill(self) -> None:
        """End the server as a crash would (for tests of recovery); `start` brings it back."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _spawn(self) -> None:
        self.cluster.configure(port=self.port, settings=self.settings)
        account = self.cluster.account
        with self._log_path().open("wb") as log:
            self.process = subprocess.Popen(
                [
                    self.software.binaries / "postgres",
                    "-D",
                    self.cluster.data,
                ],
                cwd=self.cluster.data,
                env=plain_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a Ctrl-C in the owner's terminal is the owner's to handle
                user=account.as_user(),
                group=account.as_group(),
                extra_groups=account.as_extra_groups(),
                preexec_fn=tied(signal.SIGINT),  # noqa: PLW1509 - one system call, no locks
            )

    def _is_ready_in_time(self) -> bool:
        def has_settled() -> bool:
            postmaster = self.cluster.postmaster()
            return not self.is_running() or (postmaster is not None and postmaster.is_ready)

        return _wait(has_settled, _START_SECONDS) and self.is_running()

    def _log_path(self) -> Path:
        return self.cluster.folder / "start.log"

    def _last_words(self) -> str:
        """What it said before it ended; its logger writes that down a moment after."""
        _wait(lambda: not self.cluster.processes(), _STOP_SECONDS)
        logs = [*self.cluster.data.glob("log/*.log"), self._log_path()]
        newest = max(logs, key=lambda path: (path.stat().st_size > 0, path.stat().st_mtime_ns))
        return newest.read_text(encoding="utf-8", errors="replace").strip()[-1500:]


def ensure_server(
    state_dir: Path,
    *,
    port: int | None = None,
    settings: Mapping[str, str] | None = None,
    software_dirs: Sequence[Path] | None = None,
) -> Server:
    """A running server whose data lies in `state_dir`, made on first use; the caller owns it.

    `software_dirs` are folders that may hold an unpacked server; the last one is where it is
    unpacked to. They are the installation's `timescaledb` and the state directory's unless said.
    `port` is the loopback port, chosen free where it is None. Call this in the main thread, and
    `stop` what it returns.

    Raises:
        InUseError: another process runs this directory's server.
        EmbeddedError: no TimescaleDB can be had, the account cannot reach the directory, or the
            server does not start.
    """
    folder = state_dir.resolve() / "postgres"
    lock = _locked(folder)
    try:
        cluster = _cluster_in(folder)
        software = choose(software_dirs or _software_dirs(state_dir), major=cluster.major())
        cluster.create(software)
        server = Server(
            cluster=cluster,
            software=software,
            settings=settings or {},
            fixed_port=port,
            lock=lock,
        )
    except BaseException:
        lock.close()
        raise
    try:
        server.start()
    except BaseException:  # also a Ctrl-C: no server without its owner
        server.stop()
        raise
    return server


def running_url(state_dir: Path) -> str | None:
    """How to reach the server that another process runs in `state_dir`; None if none does.

    Raises:
        EmbeddedError: only root and the database's account may look.
    """
    folder = state_dir.resolve() / "postgres"
    data = folder / "data"
    try:
        account = choose_account(data_owner=data.stat().st_uid)
        cluster = Cluster(folder=folder, account=account)
        postmaster = cluster.postmaster()
        if postmaster is None or postmaster.pid not in cluster.processes():
            return None
        return cluster.url_of(DATABASE, postmaster.port)
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise EmbeddedError(
            f"the database in {state_dir} is open to root and to its own account only: "
            "call this with sudo"
        ) from error


def _software_dirs(state_dir: Path) -> Sequence[Path]:
    return [Path(sys.prefix) / "timescaledb", state_dir.resolve() / "timescaledb"]


def _locked(folder: Path) -> IO[str]:
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


def _cluster_in(folder: Path) -> Cluster:
    data = folder / "data"
    account = choose_account(data_owner=data.stat().st_uid if data.exists() else None)
    account.take(folder, mode=0o755)
    if not account.can_enter(folder):
        raise EmbeddedError(
            f"PostgreSQL runs as {account.name}, which cannot reach {folder}: "
            "use a state directory whose parents everyone may enter"
        )
    return Cluster(folder=folder, account=account)


def _take_over(cluster: Cluster) -> None:
    """Wait for the end of what an owner that died left behind; clear the mark that it left."""
    if not _wait(lambda: not cluster.processes(), _ORPHAN_SECONDS):
        _end_orphan(cluster)
    if not _wait(lambda: not cluster.processes(), _STOP_SECONDS):
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


def _prepare_database(maintenance_url: str, url: str) -> None:
    with psycopg.connect(maintenance_url, autocommit=True) as connection:
        is_there = "SELECT FROM pg_database WHERE datname = %s"
        if connection.execute(is_there, [DATABASE]).fetchone() is None:
            # Not of template1: a worker of TimescaleDB looks into each database that lets it,
            # and as long as it does on a busy machine there is no copying it.
            create = sql.SQL("CREATE DATABASE {} TEMPLATE template0")
            connection.execute(create.format(sql.Identifier(DATABASE)))
            return
    # The first command after newer packages; there is nothing to update before a migration.
    missing = suppress(psycopg.errors.UndefinedObject)
    with psycopg.connect(url, autocommit=True) as connection, missing:
        connection.execute("ALTER EXTENSION timescaledb UPDATE")


def _prepare_login(maintenance_url: str, password: str) -> None:
    """Let the services log in with this password: also to data that was made before they did."""
    name = sql.Identifier(SERVICE_LOGIN)
    with psycopg.connect(maintenance_url, autocommit=True) as connection:
        is_there = "SELECT FROM pg_roles WHERE rolname = %s"
        if connection.execute(is_there, [SERVICE_LOGIN]).fetchone() is None:
            connection.execute(sql.SQL("CREATE ROLE {}").format(name))
        # A verifier: should this statement be logged, no password is.
        hashed = connection.pgconn.encrypt_password(
            password.encode(), SERVICE_LOGIN.encode(), b"scram-sha-256"
        )
        alter = sql.SQL("ALTER ROLE {} LOGIN NOINHERIT PASSWORD {}")
        connection.execute(alter.format(name, sql.Literal(hashed.decode())))


def _end(process: subprocess.Popen[bytes], first: signal.Signals) -> None:
    for number in (first, signal.SIGQUIT, signal.SIGKILL):
        process.send_signal(number)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            continue
        return


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True
