"""The command: it serves, stops cleanly, and says what is wrong in one line."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from aggregator.__main__ import main
from tests.integration.aggregator.agents import Spool, Use, deliver, recent, records_of

COMMAND = [sys.executable, "-m", "aggregator"]
SECONDS = 240
"""A database is made and migrated in that time, also beside ten others' work."""

pytestmark = pytest.mark.timeout(2 * SECONDS)


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of whoever runs the tests."""
    for name in [name for name in os.environ if name.startswith("NODEMETER_")]:
        monkeypatch.delenv(name)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def poll(condition: Callable[[], bool]) -> None:
    """Wait, with a deadline."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextmanager
def manager(folder: Path) -> Generator[tuple[socket.socket, dict[str, str]]]:
    """A service manager that listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own:
        own.bind(str(folder / "notify"))
        own.settimeout(SECONDS)
        yield own, {"NOTIFY_SOCKET": str(folder / "notify")}


@contextmanager
def serving(environ: Mapping[str, str]) -> Generator[subprocess.Popen[str]]:
    """The process; killed if it is still there at the end. What it said is shown with a failure."""
    process = subprocess.Popen(
        [*COMMAND, "serve"],
        env={**os.environ, **environ},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        status = process.poll()
        process.kill()
        _, said = process.communicate()
        print(f"serve had ended with {status}" if status is not None else "serve was running")
        print(said)


def environment(database_url: str) -> dict[str, str]:
    """A configuration of the test's own."""
    return {
        "NODEMETER_DATABASE_URL": database_url,
        "NODEMETER_HTTP_PORT": str(free_port()),
        "NODEMETER_GRPC_PORT": str(free_port()),
        "NODEMETER_RATER_INTERVAL_SECONDS": "0.1",
        "NODEMETER_AGGREGATOR_CONFIG": os.devnull,
    }


def get(environ: Mapping[str, str], path: str) -> str:
    """Ask over HTTP."""
    url = f"http://127.0.0.1:{environ['NODEMETER_HTTP_PORT']}{path}"
    with urllib.request.urlopen(url, timeout=10) as response:
        text: str = response.read().decode()
        return text


async def test_it_serves_from_the_wire_to_the_bill_and_stops_cleanly(
    empty_database_url: str, tmp_path: Path
) -> None:
    """On an empty database: migrated, ready, fed, rated, asked, told to stop."""
    environ = environment(empty_database_url)
    with manager(tmp_path) as (socket_, notify), serving({**environ, **notify}) as process:
        states: list[bytes] = []
        while b"READY=1" not in states:
            states.append(socket_.recv(100))
        assert json.loads(get(environ, "/readyz")) == {"status": "ready"}
        start = recent()
        spool = Spool()
        run = spool.run(started_at=start)
        meter = spool.meter(run, started_at=start)
        use = Use(meter=meter, start=start, end=start.replace(minute=30), allocated=500)
        await deliver(int(environ["NODEMETER_GRPC_PORT"]), spool, [spool.batch(records_of(use))])
        poll(lambda: "250" in get(environ, "/api/Bills"))
        (bill,) = json.loads(get(environ, "/api/Bills"))
        assert (bill["usage"], bill["type"], bill["quota"]) == (250, "cpu", 500)
        assert re.search(
            r"^nodemeter_aggregator_records_total 30", get(environ, "/metrics"), re.MULTILINE
        )
        process.send_signal(signal.SIGTERM)
        while (state := socket_.recv(100)) != b"STOPPING=1":
            assert state == b"WATCHDOG=1"
        assert process.wait(30) == 0
        assert process.stderr is not None
        lines = process.stderr.read().splitlines()
        assert all(line.startswith("time=") for line in lines)


def test_it_brings_a_database_of_its_own_and_ends_with_it(software_dir: Path) -> None:
    """The default: embedded. When that server dies, whoever supervises us starts both anew."""
    folder = Path(tempfile.mkdtemp(prefix="nodemeter-test-"))
    folder.chmod(0o755)
    shutil.copytree(software_dir, folder / "timescaledb", symlinks=True)
    environ = {**environment("embedded"), "NODEMETER_DATABASE_STATE_DIR": str(folder)}
    try:
        with serving(environ) as process:
            poll(lambda: is_ready(environ) or process.poll() is not None)
            pid = int((folder / "postgres/data/postmaster.pid").read_text().split()[0])
            os.kill(pid, signal.SIGQUIT)
            assert process.wait(60) == 1
            assert process.stderr is not None
            said = process.stderr.read()
            assert "the embedded database has ended: exit status" in said
            assert f"its log: {folder / 'postgres/data/log'}" in said
    finally:
        shutil.rmtree(folder)


def is_ready(environ: Mapping[str, str]) -> bool:
    """Whether it serves."""
    try:
        return "ready" in get(environ, "/readyz")
    except OSError:
        return False


@pytest.mark.parametrize(("section", "other"), [("HTTP", "GRPC"), ("GRPC", "HTTP")])
def test_a_taken_port_is_named_with_the_setting_that_chooses_another(
    database_url: str, section: str, other: str
) -> None:
    """Exit 1, one line, no traceback."""
    environ = environment(database_url)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        environ[f"NODEMETER_{section}_PORT"] = str(port)
        with serving(environ) as process:
            assert process.wait(60) == 1
            assert process.stderr is not None
            said = process.stderr.read()
    assert f"port {port} on 127.0.0.1 is taken" in said
    assert f"NODEMETER_{section}_PORT" in said
    assert f"NODEMETER_{other}_PORT" not in said
    assert "Traceback" not in said


def test_a_database_that_cannot_be_had_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the password."""
    monkeypatch.setenv("NODEMETER_DATABASE_URL", "postgresql://u:secret@127.0.0.1:1/d")
    assert main(["serve"]) == 1
    said = capsys.readouterr().err
    assert "no database answers at postgresql://u:***@127.0.0.1:1/d" in said
    assert "secret" not in said


def test_migrate_does_that_and_ends(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice is once."""
    monkeypatch.setenv("NODEMETER_DATABASE_URL", empty_database_url)
    assert main(["migrate"]) == 0
    assert main(["migrate"]) == 0


@pytest.mark.parametrize(
    "arguments", [["check-config"], ["--check-config"], ["serve", "--check-config"]]
)
def test_the_configuration_can_be_checked_without_starting(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the command or by the option, with the same words."""
    file = tmp_path / "aggregator.toml"
    file.write_text("[http]\nport = 9\n")
    assert main([*arguments, "--config", str(file)]) == 0
    assert capsys.readouterr().out == f"the configuration is valid ({file})\n"
    file.write_text("[http]\nprot = 9\n")
    assert main([*arguments, "--config", str(file)]) == 1
    assert "[http] prot: unknown key" in capsys.readouterr().err
    file.write_text('[database]\nurl = "embeded"\n[http]\nprot = 9\n')
    assert main([*arguments, "--config", str(file)]) == 1
    said = capsys.readouterr().err
    assert f"({file})" in said
    assert "neither" in said
    assert "[http] prot: unknown key" in said


def test_a_call_without_a_command_shows_how(capsys: pytest.CaptureFixture[str]) -> None:
    """With examples; exit 2."""
    assert main([]) == 2
    assert "nodemeter-aggregator serve --config" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "status"), [(["--version"], 0), (["--help"], 0), (["sreve"], 2)]
)
def test_the_command_line_has_the_usual_manners(arguments: list[str], status: int) -> None:
    """Version and help are no errors, a wrong command is."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == status
