"""The `nodemeter-agent` command: sentences instead of tracebacks, and a light `exec`."""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from agent.__main__ import main

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def no_other_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither what `make run` left here nor the caller's variables."""
    for name in os.environ:
        if name.startswith("NODEMETER_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("NODEMETER_AGENT_CONFIG", "/dev/null")


@pytest.mark.parametrize("words", [["check-config"], ["--check-config"], ["run", "--check-config"]])
def test_a_valid_configuration_is_said_to_be(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """All three ways of asking, without starting anything."""
    assert main(words) == 0
    assert capsys.readouterr().out == "the configuration is valid (/dev/null)\n"


def test_every_fault_of_the_configuration_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Status 1, one line each, wherever --config stands."""
    config = tmp_path / "agent.toml"
    config.write_text("[agent]\nsample_interval = 5\n[log]\nlevel = 3\n")
    for words in (["--config", str(config), "run"], ["run", "--config", str(config)]):
        assert main(words) == 1
        err = capsys.readouterr().err
        assert err.startswith(f"nodemeter-agent: the configuration ({config}) cannot be used:\n")
        assert "  [agent] sample_interval: unknown key; did you mean" in err
        assert "  [log] level: " in err


def test_a_wrong_call_is_2(capsys: pytest.CaptureFixture[str]) -> None:
    """No command shows the help; an unknown one the known ones."""
    assert main([]) == 2
    assert "examples:" in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        main(["meter"])
    assert caught.value.code == 2
    assert "check-config" in capsys.readouterr().err


def test_the_version_is_the_distribution_s(capsys: pytest.CaptureFixture[str]) -> None:
    """One number, from one place."""
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"nodemeter-agent {version('nodemeter')}\n"


def test_help_shows_every_command_with_examples(capsys: pytest.CaptureFixture[str]) -> None:
    """Enough to start without the manual."""
    with pytest.raises(SystemExit):
        main(["--help"])
    out = capsys.readouterr().out
    assert all(word in out for word in ("run", "exec", "check-config", "examples:"))


@pytest.mark.parametrize("ahead", [True, False])
def test_exec_takes_the_configuration_on_both_sides(tmp_path: Path, *, ahead: bool) -> None:
    """--config may stand before or after the command's name."""
    config = tmp_path / "agent.toml"
    config.write_text(f'[jobs]\ndir = "{tmp_path}"\n[cgroup]\nroot = "/nonexistent"\n')
    option = [f"--config={config}"]
    words = [*option, "exec"] if ahead else ["exec", *option]
    command = [sys.executable, "-m", "agent", *words, "--name", "x", "--", "echo", "ran"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "ran\n"
    assert len(list(tmp_path.glob("x-*.json"))) == 1


def test_exec_loads_only_what_it_needs(tmp_path: Path) -> None:
    """The heavy modules stay out, or it would not start in 20 ms."""
    program = (
        "import sys; from agent.__main__ import main\n"
        "main(['exec', '--name', 'x', '--', 'true'])\n"
        "print(*sys.modules)\n"
    )
    environ = {**os.environ, "NODEMETER_JOBS_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-S", "-c", program]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "agent.launch.job" in loaded
    heavy = "argparse asyncio dataclasses grpc inspect json logging pathlib shutil socket"
    assert not loaded & {*heavy.split(), "subprocess", "agent.model", "agent.settings"}
