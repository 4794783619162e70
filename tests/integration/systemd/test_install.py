import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[3]
SCRIPT = CHECKOUT / "systemd" / "install.sh"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def run(*arguments: str, destination: Path | None) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k not in {"DESTDIR", "PYTHON"}}
    if destination is not None:
        environment["DESTDIR"] = str(destination)
    return subprocess.run(
        ["sh", SCRIPT, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def once_installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An agent installed below a folder; for looking only."""
    destination = tmp_path_factory.mktemp("installed")
    done = run("agent", destination=destination)
    assert done.returncode == 0, done.stdout
    assert "Installing nodemeter" in done.stdout
    assert f"staged below {destination}" in done.stdout
    return destination


@pytest.fixture
def installed(once_installed: Path, tmp_path: Path) -> Path:
    """An agent installed below a folder of this test."""
    shutil.copytree(once_installed, tmp_path / "root", symlinks=True)
    return tmp_path / "root"


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


def test_the_files_lie_where_systemd_and_the_shell_look(once_installed: Path) -> None:
    """Unit, account, folders, configuration and command."""
    assert {
        "etc/nodemeter/agent.toml",
        "usr/local/bin/nodemeter-agent",
        "usr/local/lib/systemd/system/nodemeter-agent.service",
        "usr/local/lib/sysusers.d/nodemeter-agent.conf",
        "usr/local/lib/tmpfiles.d/nodemeter-agent.conf",
    } <= files_below(once_installed)
    link = once_installed / "usr/local/bin/nodemeter-agent"
    assert str(link.readlink()) == "/opt/nodemeter/agent/bin/nodemeter-agent"
    program = once_installed / "opt/nodemeter/agent/bin/nodemeter-agent"
    assert program.read_text().startswith("#!/opt/nodemeter/agent/bin/python")


def test_an_upgrade_keeps_the_configuration(installed: Path) -> None:
    """Installing again replaces the program and nothing that an administrator wrote."""
    config = installed / "etc/nodemeter/agent.toml"
    config.write_text("# mine\n")
    leftover = installed / "opt/nodemeter/agent/leftover"
    leftover.touch()
    again = run("agent", destination=installed)
    assert again.returncode == 0, again.stdout
    assert config.read_text() == "# mine\n"
    assert "kept" in again.stdout
    assert not leftover.exists()


def test_removing_leaves_the_configuration_alone(installed: Path) -> None:
    """Everything else goes; removing what is gone is no error."""
    for _ in range(2):
        removed = run("--remove", "agent", destination=installed)
        assert removed.returncode == 0, removed.stdout
        assert files_below(installed) == {"etc/nodemeter/agent.toml"}


def test_a_command_of_another_origin_stays(installed: Path) -> None:
    """A link that somebody pointed elsewhere is not ours to remove."""
    link = installed / "usr/local/bin/nodemeter-agent"
    link.unlink()
    link.symlink_to("/opt/other/nodemeter-agent")
    assert run("--remove", "agent", destination=installed).returncode == 0
    assert link.is_symlink()


def test_the_agents_environment_is_small_and_works_where_it_will_lie(once_installed: Path) -> None:
    """Only what the agent needs; and the packages are found by its own Python."""
    (packages,) = once_installed.glob("opt/nodemeter/agent/lib/python3*/site-packages")
    for absent in ("numpy", "pydantic", "aiohttp", "psycopg"):
        assert not (packages / absent).exists()
    question = "import agent.model, proto.metering.v1.metering_pb2, grpc, psutil, pynvml"
    python = once_installed / "opt/nodemeter/agent/bin/python"
    subprocess.run([python, "-c", question], check=True, cwd="/")
    (listing,) = packages.glob("agent/__pycache__/model.*.pyc")
    assert b"agent.new" not in listing.read_bytes()


def test_the_database_password_is_not_everyones(tmp_path: Path) -> None:
    """aggregator.toml may hold a URL with a password; only its group reads it."""
    # The environment is what takes long, and is tested above: here one stands ready.
    fake = tmp_path / "bin"
    fake.mkdir()
    destination = tmp_path / "root"
    checkout = tmp_path / "checkout"
    shutil.copytree(CHECKOUT / "systemd", checkout / "systemd")
    script = checkout / "systemd" / "install.sh"
    text = script.read_text()
    assert "\n    build\n" in text
    script.write_text(text.replace("\n    build\n", "\n    :\n"))
    done = subprocess.run(
        ["sh", script, "aggregator"],
        env={**os.environ, "DESTDIR": str(destination)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    config = destination / "etc/nodemeter/aggregator.toml"
    assert stat.S_IMODE(config.stat().st_mode) == 0o640
    assert (destination / "usr/local/bin/nodemeter").is_symlink()
    tmpfiles = destination / "usr/local/lib/tmpfiles.d/nodemeter-aggregator.conf"
    assert "d /var/lib/nodemeter 0700 nodemeter nodemeter -" in " ".join(
        tmpfiles.read_text().split()
    )


@pytest.mark.parametrize("words", [[], ["database"], ["--remove"]])
def test_a_wrong_call_says_how(words: list[str], tmp_path: Path) -> None:
    """Exit status 2, and the usage."""
    done = run(*words, destination=tmp_path)
    assert done.returncode == 2
    assert "usage:" in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("agent", "installing needs root: sudo make install-agent"),
        ("--remove agent", "uninstalling needs root: sudo make uninstall-agent"),
    ],
)
def test_a_plain_user_is_told_what_it_takes(words: str, said: str) -> None:
    """Nothing is touched without root."""
    script = f'id() {{ echo 1000; }}; set -- {words}; . "{SCRIPT}"'
    done = subprocess.run(
        ["sh", "-c", script, str(SCRIPT)],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(said)
