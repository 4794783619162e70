import os
import shlex
import stat
import tomllib
from pathlib import Path

from aggregator.quickstart.layout import (
    greeting,
    prepare_state,
    write_configs,
    write_file,
)
from aggregator.quickstart.options import Options
from aggregator.settings import load_settings

OPTIONS = Options(http_port=18080, grpc_port=15051, state_dir=None)
URL = 'postgresql://services:pa"ss%5C@/nodemeter?host=/socket&port=5433'
OWNER_URL = URL.replace("services", "nodemeter")


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_files_say_where_everything_is(tmp_path: Path) -> None:
    """Ports, state, jobs and database; also with quotes and spaces in a path."""
    state = tmp_path / 'a "state" dir'
    prepare_state(state)
    write_configs(OPTIONS, state, url=URL, owner_url=OWNER_URL)
    agent = tomllib.loads((state / "agent.toml").read_text())
    assert agent == {
        "agent": {"state_dir": str(state / "agent")},
        "uplink": {"target": "127.0.0.1:15051"},
        "jobs": {"dir": str(state / "jobs.d")},
    }
    settings = load_settings(state / "aggregator.toml", {})
    assert (settings.http.port, settings.grpc.port) == (18080, 15051)
    assert (settings.database.url, settings.database.owner_url) == (URL, OWNER_URL)


def test_the_password_is_its_owners_alone(tmp_path: Path) -> None:
    """Others may read where to hand in a job, but not how to reach the database."""
    prepare_state(tmp_path)
    write_configs(OPTIONS, tmp_path, url=URL, owner_url=OWNER_URL)
    assert mode_of(tmp_path / "aggregator.toml") == 0o600
    assert mode_of(tmp_path / "agent.toml") == 0o644


def test_everyone_may_hand_in_jobs_to_root(tmp_path: Path) -> None:
    """Root's jobs directory is sticky and open; a plain user's is that user's own."""
    prepare_state(tmp_path)
    prepare_state(tmp_path)
    wanted = 0o1777 if os.geteuid() == 0 else 0o755
    assert mode_of(tmp_path / "jobs.d") == wanted
    assert mode_of(tmp_path / "agent") == 0o700


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    """Its mode is what was asked for, whatever an interrupted run left."""
    (tmp_path / "file.new").write_text("half")
    (tmp_path / "file").write_text("old")
    write_file(tmp_path / "file", "new", 0o600)
    assert (tmp_path / "file").read_text() == "new"
    assert mode_of(tmp_path / "file") == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_greeting_can_be_pasted(tmp_path: Path) -> None:
    """Commands with whole, quoted paths and the URLs that were chosen."""
    binaries = tmp_path / "a venv" / "bin"
    text = greeting(OPTIONS, tmp_path, binaries, 2.345, is_linked=True)
    commands = [shlex.split(line) for line in text.splitlines() if "nodemeter" in line]
    assert [str(binaries / "nodemeter-agent"), "exec"] in [words[:2] for words in commands]
    assert "http://127.0.0.1:18080/api/Bills" in text
    assert "after 2.3 s" in text


def test_a_run_that_the_commands_do_not_find_says_how_to_name_it(tmp_path: Path) -> None:
    """Else its first job would be another run's."""
    text = greeting(OPTIONS, tmp_path, tmp_path / "bin", 2.345, is_linked=False)
    assert f"exec --config {tmp_path / 'agent.toml'} --name" in text
