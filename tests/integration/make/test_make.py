import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[3]
TARGETS = {
    "run", "test", "bench", "lint", "types", "proto", "proto-check", "clean", "help",
    "install-agent", "install-aggregator", "uninstall-agent", "uninstall-aggregator",
}  # fmt: skip

Done = subprocess.CompletedProcess[str]


def run(*command: str | Path, **environment: str) -> Done:
    return subprocess.run(
        [*command],
        cwd=CHECKOUT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def test_make_alone_lists_every_target_in_one_line_each() -> None:
    """`help` is the default; what it lists is what there is."""
    done = run("make")
    assert done.returncode == 0
    assert "warning" not in done.stdout
    listed = re.findall(r"(?m)^  make ([a-z-]+) +\S", done.stdout)
    assert len(listed) == len(set(listed))
    assert set(listed) >= TARGETS
    for target in listed:
        assert run("make", "--dry-run", target).returncode == 0


def test_the_committed_wire_code_is_what_protoc_makes() -> None:
    """`make proto-check` passes here."""
    done = run("make", "proto-check")
    assert done.returncode == 0, done.stdout


def test_wire_code_that_differs_is_refused() -> None:
    """A file that protoc does not make the same fails the check, with the way out."""
    done = run("make", "proto-check", "GENERATED=proto/metering/v1/metering.proto")
    assert done.returncode != 0
    assert "run: make proto" in done.stdout


def test_the_lock_holds_versions_alone() -> None:
    """No index, no host, no hash: any index that has the versions will do."""
    lines = (CHECKOUT / "requirements.lock").read_text().splitlines()
    versions = [line for line in lines if not line.startswith("#")]
    assert versions
    for line in versions:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", line), line


@pytest.mark.slow
@pytest.mark.parametrize("has_ensurepip", [True, False])
def test_an_environment_is_made_with_and_without_debians_venv_package(
    tmp_path: Path,
    has_ensurepip: bool,  # noqa: FBT001
) -> None:
    """Debian packs ensurepip apart; then the machine's own pip brings pip."""
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    if not has_ensurepip:
        (hidden / "ensurepip.py").write_text("raise ImportError('not packed')\n")
    base = Path(sys.base_prefix) / "bin" / "python3"
    folder = tmp_path / "venv"
    done = run("sh", ".ci/venv", base, folder, PYTHONPATH=str(hidden))
    assert done.returncode == 0, done.stdout
    question = "import setuptools, pip"
    assert run(folder / "bin/python", "-c", question).returncode == 0


def test_an_old_python_is_refused_with_a_way_out(tmp_path: Path) -> None:
    """The message says what is needed and how to name another one."""
    old = tmp_path / "python3.9"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    done = run("sh", ".ci/venv", old, tmp_path / "venv")
    assert done.returncode == 1
    assert "needs Python 3.11" in done.stdout
    assert "make PYTHON=" in done.stdout
    assert not (tmp_path / "venv").exists()
