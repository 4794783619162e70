"""Runs the embedded server: starts it, watches it, stops it.

One process owns a state directory's server: it holds the lock while it lives. The server is
told to end when its owner dies (so a kill -9 of the owner leaves no server behind), and a start
waits for what an earlier owner left. It must be called in the main thread: the kernel takes the
end of the thread that started the server for the end of its owner.
"""

import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from aggregator.lifeline import ending_of, tied
from aggregator.store.embedded.account import choose_account, plain_environment
from aggregator.store.embedded.cluster import DATABASE, Cluster
from aggregator.store.embedded.errors import EmbeddedError
from aggregator.store.embedded.ownership import STOP_SECONDS, check_lock, lock_of, take_over
from aggregator.store.embedded.patience import wait_for
from aggregator.store.embedded.preparation import prepare_database, prepare_login
from aggregator.store.embedded.software import Software, choose

_START_SECONDS = 600.0  # recovery after a crash replays the log
_PORT_TRIES = 5


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
        check_lock(self.lock)

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
        take_over(self.cluster)
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
        prepare_database(self.url_of("postgres"), self.url)
        prepare_login(self.url_of("postgres"), self.cluster.service_password())

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

        return wait_for(has_settled, _START_SECONDS) and self.is_running()

    def _log_path(self) -> Path:
        return self.cluster.folder / "start.log"

    def _last_words(self) -> str:
        """What it said before it ended; its logger writes that down a moment after."""
        wait_for(lambda: not self.cluster.processes(), STOP_SECONDS)
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
    lock = lock_of(folder)
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


def _end(process: subprocess.Popen[bytes], first: signal.Signals) -> None:
    for number in (first, signal.SIGQUIT, signal.SIGKILL):
        process.send_signal(number)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            continue
        return


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
