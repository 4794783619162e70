"""A database cluster on disk: makes it, writes its settings, and reads its state.

It must not start or stop the server; `server` does.
"""

import os
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlencode

from aggregator.store.embedded.account import Account
from aggregator.store.embedded.software import Software

ROLE = "nodemeter"
"""The owner of all: for migrations and the server's own care."""
SERVICE_LOGIN = "nodemeter_service"
"""Who the services log in as; it owns nothing, and may only act as their roles."""
DATABASE = "nodemeter"

_SOCKET_PATH_BYTES = 107  # sockaddr_un's limit, without the closing zero
_MIB = 1024 * 1024
_SETTINGS = {
    "shared_preload_libraries": "timescaledb",
    "timescaledb.telemetry_level": "off",
    "timescaledb.max_background_workers": "0",  # the aggregator schedules its own work
    "listen_addresses": "127.0.0.1",
    "unix_socket_permissions": "0777",  # who connects is the password's to say
    "password_encryption": "scram-sha-256",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "jit": "off",
    "max_connections": "100",
    "max_locks_per_transaction": "256",  # each chunk is a table
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "checkpoint_completion_target": "0.9",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_min_messages": "warning",
    "logging_collector": "on",
    "log_directory": "log",
    "log_filename": "postgresql-%a.log",  # a week of files, each overwritten
    "log_truncate_on_rotation": "on",
    "log_rotation_age": "1d",
    "log_rotation_size": "0",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Postmaster:
    """What a running server says of itself in `postmaster.pid`."""

    pid: int
    is_ready: bool
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """The folder of one cluster and the account that owns it."""

    folder: Path
    account: Account

    @property
    def data(self) -> Path:
        """PostgreSQL's data directory."""
        return self.folder / "data"

    @property
    def socket_folder(self) -> Path | None:
        """Where the Unix socket lies; None where that path would be too long for a socket."""
        path = self.folder / "socket"
        return path if len(os.fsencode(path / ".s.PGSQL.65535")) <= _SOCKET_PATH_BYTES else None

    def major(self) -> int | None:
        """The PostgreSQL that made the data; None before there is any."""
        try:
            return int((self.data / "PG_VERSION").read_text(encoding="ascii"))
        except FileNotFoundError:
            return None

    def password(self) -> str:
        """The password of the owner."""
        return (self.folder / "password").read_text(encoding="ascii").strip()

    def service_password(self) -> str:
        """The password of the services' login, made when it is first asked for."""
        path = self.folder / "service-password"
        if not path.exists():
            self._write_password(path)
        return path.read_text(encoding="ascii").strip()

    def url_of(self, database: str, port: int, *, is_service: bool = False) -> str:
        """How the owner, or a service, connects to a database of the server. Not for logs."""
        login = SERVICE_LOGIN if is_service else ROLE
        password = self.service_password() if is_service else self.password()
        host = str(self.socket_folder) if self.socket_folder else "127.0.0.1"
        return f"postgresql://{login}:{quote(password, safe='')}@/{quote(database)}?" + urlencode(
            {"host": host, "port": port}
        )

    def create(self, software: Software) -> None:
        """Make the cluster unless it exists: whole or not at all."""
        if self.major() is not None:
            return
        draft = self.folder / "data.new"
        shutil.rmtree(draft, ignore_errors=True)
        self._write_password(self.folder / "password")
        initdb: list[str | Path] = [
            *(software.binaries / "initdb", "--pgdata", draft, "--username", ROLE),
            *("--encoding=UTF8", "--locale=C", "--auth=scram-sha-256", "--data-checksums"),
            *("--pwfile", self.folder / "password", "--no-instructions"),
        ]
        self.account.run(initdb, cwd=self.folder)
        with (draft / "postgresql.conf").open("a", encoding="utf-8") as config:
            config.write("\ninclude 'nodemeter.conf'  # written anew at every start\n")
        draft.rename(self.data)

    def configure(self, *, port: int, settings: Mapping[str, str]) -> None:
        """Write the settings that a start reads; `ALTER SYSTEM` still overrides them."""
        values = {**_SETTINGS, **memory_settings(_memory_bytes()), "port": str(port)}
        values["unix_socket_directories"] = str(self.socket_folder or "")
        lines = [f"{name} = '{_quoted(value)}'\n" for name, value in {**values, **settings}.items()]
        path = self.data / "nodemeter.conf"
        path.write_text("".join(lines), encoding="utf-8")
        self.account.take(path, mode=0o600)
        if self.socket_folder is not None:
            self.socket_folder.mkdir(exist_ok=True)
            self.account.take(self.socket_folder, mode=0o755)

    def postmaster(self) -> Postmaster | None:
        """The server that says it runs here; None where none does. It may be long dead."""
        try:
            lines = (self.data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return None
        if not lines or not lines[0].strip().isdigit():
            return None
        return Postmaster(
            pid=int(lines[0]),
            is_ready=len(lines) > 7 and lines[7].strip() == "ready",
            port=int(lines[3]) if len(lines) > 3 and lines[3].strip().isdigit() else 0,
        )

    def processes(self) -> list[int]:
        """Every process that works in the data directory: the server's own, dead parent or not."""
        entries = (entry for entry in Path("/proc").iterdir() if entry.name.isdigit())
        return [int(entry.name) for entry in entries if _works_in(entry, self.data)]

    def _write_password(self, path: Path) -> None:
        """Whole or not at all."""
        draft = path.with_name(path.name + ".new")
        draft.unlink(missing_ok=True)
        draft.touch(mode=0o600)
        draft.write_text(secrets.token_urlsafe(24) + "\n", encoding="ascii")
        self.account.take(draft, mode=0o600)
        draft.replace(path)


def memory_settings(total_bytes: int) -> dict[str, str]:
    """PostgreSQL's memory on a machine with other work: a sixteenth, 64 MiB to 1 GiB."""
    buffers = min(max(total_bytes // 16, 64 * _MIB), 1024 * _MIB)
    return {
        "shared_buffers": f"{buffers // _MIB}MB",
        "effective_cache_size": f"{max(total_bytes // 4, 128 * _MIB) // _MIB}MB",
        "work_mem": "16MB",
        "maintenance_work_mem": "128MB",
    }


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _quoted(value: str) -> str:
    return value.replace("'", "''")


def _works_in(process: Path, folder: Path) -> bool:
    try:
        return (process / "cwd").readlink() == folder.resolve()
    except OSError:
        return False
