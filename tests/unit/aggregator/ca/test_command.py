"""The command `nodemeter-aggregator ca`, as an operator types it."""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from aggregator.__main__ import main

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `ca` with a configuration of its own; its status and what it says."""
    for name in [name for name in os.environ if name.startswith("NODEMETER_")]:
        monkeypatch.delenv(name)
    config = tmp_path / "aggregator.toml"
    config.write_text(f'[database]\nstate_dir = "{tmp_path}"\n')

    def run(*words: str) -> tuple[int, str, str]:
        status = main(["ca", *words, "--config", str(config)])
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


def listed(run: Run, *words: str) -> Sequence[tuple[str, str]]:
    """Node and state of what `list` shows."""
    status, out, _ = run("list", "--output", "json", *words)
    assert status == 0
    return [(row["node"], row["state"]) for row in json.loads(out)["certificates"]]


def test_an_authority_is_made_and_says_what_to_do_next(run: Run) -> None:
    """A second call changes nothing and says so."""
    status, out, _ = run("init", "--name", "meter.example.org", "--name", "192.0.2.1")
    assert status == 0
    assert 'mode = "mutual"' in out
    status, out, err = run("init", "--name", "x")
    assert (status, out) == (1, "")
    assert "nothing was changed" in err


def test_the_command_for_the_node_is_printed(run: Run) -> None:
    """With the first of the aggregator's names; and whether anybody answers there yet."""
    run("init", "--name", "meter.example.org", "--name", "192.0.2.1")
    status, out, err = run("issue", "gpu-7", "--hours", "2")
    assert status == 0
    assert "On gpu-7, as root, within 2 h, once:" in out
    assert "nodemeter-agent enroll --aggregator meter.example.org:50052 --token " in out
    assert "nobody answers there until" in err
    assert "gpu-7 may enrol until" in run("list")[1]


def test_key_and_certificate_are_written_listed_and_revoked(run: Run, tmp_path: Path) -> None:
    """By name or by serial number."""
    run("init", "--name", "meter.example.org")
    out = tmp_path / "out"
    for node in ("gpu-7", "gpu-8"):
        assert run("issue", node, "--out", str(out))[0] == 0
    assert (out / "node.pem").stat().st_mode & 0o777 == 0o600
    assert listed(run, "gpu-7") == [("gpu-7", "valid")]
    assert "revoked" in run("revoke", "gpu-7", "--reason", "sold")[1]
    serial = json.loads(run("list", "gpu-8", "--output", "json")[1])["certificates"][0]["serial"]
    assert run("revoke", serial)[0] == 0
    assert listed(run) == [("(aggregator)", "valid"), ("gpu-7", "revoked"), ("gpu-8", "revoked")]
    assert "sold" in run("list", "--output", "csv")[1]


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["issue", "gpu-7"], "there is no authority in"),
        (["list"], "nodemeter-aggregator ca init"),
        (["revoke", "gpu-7"], "there is no authority in"),
        (["init", "--name", "http://x"], "'http://x' is neither a name nor an address"),
        (["init", "--name", "x", "--domain", "A B"], "is no trust domain"),
    ],
)
def test_what_cannot_be_done_is_one_line(words: list[str], fault: str, run: Run) -> None:
    """On standard error, with status 1."""
    status, out, err = run(*words)
    assert (status, out) == (1, "")
    assert fault in err
    assert err.count("\n") == 1
