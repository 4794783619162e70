import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from aggregator.store.embedded import (
    EmbeddedError,
    InUseError,
    Server,
    StateLostError,
    ensure_server,
    unpack,
)


@pytest.fixture
def state() -> Iterator[Path]:
    """A state directory that the server's account can reach."""
    folder = Path(tempfile.mkdtemp(prefix="nodemeter-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def ask(server: Server, question: str) -> str:
    with psycopg.connect(server.url) as connection:
        row = connection.execute(question.encode()).fetchone()
    assert row is not None
    return str(row[0])


def start(state: Path, software_dir: Path, port: int | None = None) -> Server:
    return ensure_server(state, port=port, software_dirs=[software_dir])


def test_the_server_is_durable_quiet_and_has_timescaledb(state: Path, software_dir: Path) -> None:
    """What a billing database stands on: fsync, synchronous commits, the extension at hand."""
    wanted = {
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        "data_checksums": "on",
        "jit": "off",
        "timescaledb.telemetry_level": "off",
        "server_encoding": "UTF8",
        "TimeZone": "UTC",
        "listen_addresses": "127.0.0.1",
        "shared_preload_libraries": "timescaledb",
    }
    with start(state, software_dir) as server:
        assert {name: ask(server, f'SHOW "{name}"') for name in wanted} == wanted
        with psycopg.connect(server.url) as connection:
            connection.execute("CREATE EXTENSION timescaledb")
            connection.execute("CREATE TABLE reading (at timestamptz NOT NULL)")
            connection.execute("SELECT create_hypertable('reading', 'at')")


def test_root_lends_the_server_another_account(state: Path, software_dir: Path) -> None:
    """PostgreSQL refuses root; for a plain user it runs as that user."""
    with start(state, software_dir) as server:
        assert server.process is not None
        owner = Path(f"/proc/{server.process.pid}").stat().st_uid
        assert (owner == os.geteuid()) is (os.geteuid() != 0)


def test_a_connection_needs_the_password(state: Path, software_dir: Path) -> None:
    """Other users of the machine reach the socket and the port, but not the data."""
    with start(state, software_dir) as server:
        wrong = server.url.replace(server.cluster.password(), "guess")
        for url in (wrong, f"postgresql://nodemeter@127.0.0.1:{server.port}/nodemeter"):
            with pytest.raises(psycopg.OperationalError, match=r"password"):
                psycopg.connect(url)


def test_data_survives_a_stop_and_a_crash(state: Path, software_dir: Path) -> None:
    """The next start finds the rows, and the mark of the dead server does not stop it."""
    with start(state, software_dir) as server, psycopg.connect(server.url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS n")
    with start(state, software_dir) as server:
        assert ask(server, "SELECT count(*) FROM kept") == "1"
        with psycopg.connect(server.url) as connection:
            connection.execute("INSERT INTO kept VALUES (2)")
        url = server.url
        server.kill()
        assert not server.is_running()
        assert "killed by SIGKILL" in server.explain()
        server.start()
        assert server.url == url
        assert ask(server, "SELECT count(*) FROM kept") == "2"


def test_a_mark_that_names_a_living_stranger_is_cleared(state: Path, software_dir: Path) -> None:
    """After a reboot the number in `postmaster.pid` may belong to anything."""
    with start(state, software_dir) as server:
        server.kill()
        mark = server.cluster.data / "postmaster.pid"
        lines = mark.read_text().splitlines()
        stranger = subprocess.Popen(["sleep", "60"], user=server.cluster.account.as_user())
        try:
            mark.write_text("\n".join([str(stranger.pid), *lines[1:]]) + "\n")
            server.start()
            assert ask(server, "SELECT 1") == "1"
            assert stranger.poll() is None
        finally:
            stranger.kill()
            stranger.wait()


def test_a_second_owner_is_refused_by_name(state: Path, software_dir: Path) -> None:
    """Two servers on one directory would destroy it; the message names who has it."""
    with (
        start(state, software_dir) as server,
        pytest.raises(InUseError, match=rf"in use by process {os.getpid()}"),
    ):
        start(state, software_dir)
    assert not server.is_running()
    start(state, software_dir).stop()


def test_a_living_owners_server_is_left_alone_even_without_its_lock(
    state: Path, software_dir: Path
) -> None:
    """Somebody removed the lock: the second owner is refused, and the first one notices."""
    with start(state, software_dir) as server:
        server.check_place()
        (state / "postgres.lock").unlink()
        with pytest.raises(InUseError, match=rf"in use by process {os.getpid()}\b.*lock"):
            start(state, software_dir)
        assert ask(server, "SELECT 1") == "1"
        with pytest.raises(StateLostError, match=re.escape(str(state))):
            server.check_place()


def test_an_owner_whose_directory_was_replaced_leaves_the_new_one_alone(
    state: Path, software_dir: Path
) -> None:
    """`rm -rf` and a second start: the first cannot start again over the second's server."""
    with start(state / "x", software_dir) as first:
        first.check_place()
        shutil.rmtree(state / "x")
        with start(state / "x", software_dir) as second:
            first.kill()
            with pytest.raises(StateLostError, match="removed or replaced"):
                first.start()
            assert ask(second, "SELECT 1") == "1"
            second.check_place()


def test_an_owner_that_was_killed_leaves_no_server_behind(state: Path, software_dir: Path) -> None:
    """The kernel ends the server with its owner; the next owner waits for that and takes over."""
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(state), str(software_dir)], stdout=subprocess.PIPE
    )
    assert owner.stdout is not None
    with owner.stdout as said:
        postmaster = int(said.readline())
        owner.send_signal(signal.SIGKILL)
        owner.wait()
    with start(state, software_dir) as server:
        assert ask(server, "SELECT 1") == "1"
        assert postmaster not in server.cluster.processes()


OWNER = """
import sys, time
from pathlib import Path
from aggregator.store.embedded import ensure_server
server = ensure_server(Path(sys.argv[1]), software_dirs=[Path(sys.argv[2])])
print(server.process.pid, flush=True)
time.sleep(600)
"""


def test_a_port_that_is_given_is_used_or_refused(state: Path, software_dir: Path) -> None:
    """A taken port is an error that says so, not another port."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = int(taken.getsockname()[1])
        taken.listen()
        with pytest.raises(EmbeddedError, match=r"in use"):
            start(state, software_dir, port)
    with start(state, software_dir, port) as server:
        assert server.port == port


def test_a_directory_with_a_long_path_is_served_by_the_port(
    state: Path, software_dir: Path
) -> None:
    """No Unix socket fits there, but everything works."""
    deep = state / ("d" * 90)
    with start(deep, software_dir) as server:
        assert "127.0.0.1" in server.url
        assert ask(server, "SELECT 1") == "1"


def test_an_interrupted_initdb_is_made_anew(state: Path, software_dir: Path) -> None:
    """Half a cluster has another name than a whole one."""
    draft = state / "postgres" / "data.new"
    draft.mkdir(parents=True)
    (draft / "PG_VERSION").write_text("17\n")
    with start(state, software_dir) as server:
        assert ask(server, "SELECT 1") == "1"
        assert not draft.exists()


def test_a_directory_that_cannot_be_made_is_a_clear_error(software_dir: Path) -> None:
    """A file in the way, as any fault of the place, is said with the path."""
    with pytest.raises(EmbeddedError, match="/dev/null"):
        start(Path("/dev/null/state"), software_dir)


def test_a_directory_closed_to_the_account_is_refused(state: Path, software_dir: Path) -> None:
    """Root learns which account cannot reach it; to its owner the directory is open."""
    closed = state / "closed"
    closed.mkdir(mode=0o700)
    if os.geteuid() == 0:
        with pytest.raises(EmbeddedError, match=r"cannot reach .*closed"):
            start(closed / "state", software_dir)
    else:
        start(closed / "state", software_dir).stop()


def test_a_half_unpacked_folder_is_made_anew(state: Path, software_dir: Path) -> None:
    """The mark comes last and names the folder: no mark, another path, or rubbish is not whole."""
    unpack.ensure_unpacked(software_dir)
    assert unpack.is_complete(software_dir)
    mark = json.loads((software_dir / "COMPLETE").read_text())
    folder = state / "folder"
    folder.mkdir()
    assert not unpack.is_complete(folder)
    for text in ("", "{", json.dumps(mark)):
        (folder / "COMPLETE").write_text(text)
        assert not unpack.is_complete(folder)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_processes_unpack_one_folder_once(state: Path) -> None:
    """From Debian's packages, for real: the second waits for the first, and both get it whole."""
    folder = state / "timescaledb"
    unpacking = [
        subprocess.Popen([sys.executable, "-c", UNPACKING, str(folder)], stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=280)[0] for process in unpacking]
    assert [process.returncode for process in unpacking] == [0, 0]
    assert sum(b"unpacking" in text for text in said) == 1
    assert unpack.is_complete(folder)
    with start(state, folder) as server:
        assert ask(
            server, "SELECT default_version FROM pg_available_extensions WHERE name = 'timescaledb'"
        )


UNPACKING = """
import logging, sys
from pathlib import Path
from aggregator.store.embedded.unpack import ensure_unpacked
logging.basicConfig(level=logging.INFO, stream=sys.stdout)
ensure_unpacked(Path(sys.argv[1]))
"""


def test_a_stop_returns_when_the_server_is_gone(state: Path, software_dir: Path) -> None:
    """Nothing works in the directory any more, and the port is free again."""
    server = start(state, software_dir)
    server.stop()
    assert server.cluster.processes() == []
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", server.port))
