"""The tests' database: a real TimescaleDB, one fresh database for each test that asks.

A missing TimescaleDB fails the tests that need one; nothing is skipped.
"""

import os
import resource
import shutil
import signal
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import LiteralString
from uuid import uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from aggregator.store.embedded import SERVICE_LOGIN, Server, ensure_server
from aggregator.store.embedded.place import state_dir_of
from aggregator.store.migrate import migrate

# A process that we start with something to do before its program (preexec_fn) must not run the
# handlers of gRPC's core meanwhile: since 1.81 they poll a descriptor that is closed (grpc#43055).
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"

# A shell that starts us in the background, or nohup, lets us and all that we start ignore these.
for _number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(_number) is signal.SIG_IGN:
        _usual = signal.default_int_handler if _number is signal.SIGINT else signal.SIG_DFL
        signal.signal(_number, _usual)

# A machine that has other things to do is no fault of a test.
settings.register_profile("noisy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("noisy")

CHECKOUT = Path(__file__).resolve().parent.parent
TEMPLATE = "template_migrated"
_OF_LIBC = 0b11 << 31
"""Signals 32 and 33, which the C library keeps for itself, and ignores or takes as it likes."""
SETTINGS = {
    "fsync": "off",  # the machine does not lose power within a test; the server may be killed
    "max_connections": "200",
    "max_wal_size": "512MB",
}


@pytest.hookimpl(trylast=True)  # after the random order was made
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes minutes whatever the machine, so that the rest runs beside it."""
    items.sort(key=lambda item: not item.nodeid.startswith("tests/acceptance"))


@pytest.fixture(autouse=True)
def _as_it_was_found() -> Iterator[None]:
    """What processes inherit is the same after each test: what the next one starts must run."""
    before = _inherited()
    yield
    after = _inherited()
    assert {name: after[name] for name in after if after[name] != before[name]} == {}


def _inherited() -> dict[str, object]:
    """All that a process which we start would have of us."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    limits = (
        resource.RLIMIT_NOFILE,
        resource.RLIMIT_AS,
        resource.RLIMIT_FSIZE,
        resource.RLIMIT_NPROC,
    )
    return {
        "folder": Path.cwd(),
        "environment": {**os.environ, "PYTEST_CURRENT_TEST": ""},
        "cgroups": Path("/proc/self/cgroup").read_text(),
        "niceness": os.getpriority(os.PRIO_PROCESS, 0),
        "processors": os.sched_getaffinity(0),
        "limits": [resource.getrlimit(each) for each in limits],
        **{name: int(status[name], 16) & ~_OF_LIBC for name in ("SigBlk", "SigIgn")},
        **{name: status[name].strip() for name in ("Umask", "Uid", "Groups")},
    }


@pytest.fixture(scope="session")
def software_dir() -> Path:
    """Where `make run` and the tests keep the unpacked TimescaleDB, should there be need of one."""
    return state_dir_of(CHECKOUT) / "timescaledb"


@pytest.fixture(scope="session")
def timescaledb(software_dir: Path) -> Iterator[Server]:
    """A running server of the session's own, in a folder that its account can reach."""
    folder = Path(tempfile.mkdtemp(prefix="nodemeter-test-"))
    folder.chmod(0o755)
    try:
        with ensure_server(folder, settings=SETTINGS, software_dirs=[software_dir]) as server:
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def migrated_template(timescaledb: Server) -> str:
    """The name of a database with the newest schema, closed so that it can be copied."""
    _execute(timescaledb, "CREATE DATABASE {}", TEMPLATE)
    migrate(timescaledb.url_of(TEMPLATE), login=SERVICE_LOGIN)
    _execute(timescaledb, "ALTER DATABASE {} ALLOW_CONNECTIONS false", TEMPLATE)
    return TEMPLATE


@pytest.fixture
def empty_database_url(timescaledb: Server) -> Iterator[str]:
    """A database of this test alone, with nothing in it; not even the extension."""
    with database(timescaledb, "template1") as url:
        yield url


@pytest.fixture
def database_url(timescaledb: Server, migrated_template: str) -> Iterator[str]:
    """A database of this test alone, with the newest schema and no rows; as its owner."""
    with database(timescaledb, migrated_template) as url:
        yield url


@pytest.fixture
def service_url(timescaledb: Server, database_url: str) -> str:
    """The same database as the services log in to it; they act as one of their roles."""
    return timescaledb.service_url_of(str(conninfo_to_dict(database_url)["dbname"]))


@contextmanager
def database(server: Server, template: str) -> Generator[str]:
    name = f"test_{uuid4().hex[:12]}"
    _execute(server, "CREATE DATABASE {} TEMPLATE {}", name, template)
    try:
        yield server.url_of(name)
    finally:
        _execute(server, "DROP DATABASE {} WITH (FORCE)", name)


def _execute(server: Server, statement: LiteralString, *names: str) -> None:
    query = sql.SQL(statement).format(*map(sql.Identifier, names))
    with psycopg.connect(server.url_of("postgres"), autocommit=True) as connection:
        connection.execute(query)
