import re
import shutil
import subprocess
from pathlib import Path

import pytest

SYSTEMD = Path(__file__).resolve().parents[3] / "systemd"
PARTS = ("agent", "aggregator")
LIMITS = {"agent": 21, "aggregator": 15}  # systemd counts exposure in tenths here

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd's own checker is not on this machine"
)


def unit_of(part: str) -> str:
    return (SYSTEMD / f"nodemeter-{part}.service").read_text()


def analyze(*arguments: str | Path) -> str:
    done = subprocess.run(
        ["systemd-analyze", "--no-pager", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@needs_systemd
@pytest.mark.parametrize("part", PARTS)
def test_systemd_understands_every_line(part: str, tmp_path: Path) -> None:
    """`verify` says nothing, given a program that exists."""
    unit = tmp_path / f"nodemeter-{part}.service"
    unit.write_text(re.sub(r"(?m)^ExecStart=/opt/\S+", "ExecStart=/bin/true", unit_of(part)))
    assert analyze("verify", "--man=no", unit).strip() == ""


@needs_systemd
@pytest.mark.parametrize("part", PARTS)
def test_the_exposure_stays_under_its_limit(part: str) -> None:
    """At most 2.1 of 10 for the agent, 1.5 for the aggregator."""
    unit = SYSTEMD / f"nodemeter-{part}.service"
    said = analyze("security", "--offline=true", f"--threshold={LIMITS[part]}", unit)
    assert "Overall exposure level" in said


@pytest.mark.parametrize("part", PARTS)
def test_the_service_notifies_is_watched_and_comes_back(part: str) -> None:
    """The manager knows when it serves, restarts it when it hangs, and when it ends."""
    unit = unit_of(part)
    for line in ("Type=notify", "NotifyAccess=main", "WatchdogSec=60", "Restart=always"):
        assert f"\n{line}\n" in unit


@pytest.mark.parametrize("part", PARTS)
def test_account_state_and_files_agree(part: str) -> None:
    """The account that the unit names is the one that is made, with the home that it writes to."""
    unit = unit_of(part)
    account = re.search(r"(?m)^User=(\S+)$", unit)
    state = re.search(r"(?m)^StateDirectory=(\S+)$", unit)
    assert account is not None
    assert state is not None
    made = (SYSTEMD / f"sysusers-{part}.conf").read_text().splitlines()[-1].split()
    assert made[:2] == ["u", account[1]]
    assert made[-1] == f"/var/lib/{state[1]}"
    assert f"/etc/nodemeter/{part}.toml" in unit
    folders = (SYSTEMD / f"tmpfiles-{part}.conf").read_text()
    line = f"d /var/lib/{state[1]} 0700 {account[1]} {account[1]} -"
    assert line in [" ".join(each.split()) for each in folders.splitlines()]


def test_anybody_may_hand_in_a_job() -> None:
    """The jobs directory is root's, open to all, and sticky."""
    lines = (SYSTEMD / "tmpfiles-agent.conf").read_text().splitlines()
    assert "d /run/nodemeter/jobs.d 1777 root root -" in [" ".join(line.split()) for line in lines]


def test_the_agent_may_delete_what_it_has_billed() -> None:
    """In a sticky directory that takes CAP_FOWNER, and the directory must be writable."""
    unit = unit_of("agent")
    assert re.search(r"(?m)^AmbientCapabilities=.*CAP_FOWNER", unit)
    assert re.search(r"(?m)^ReadWritePaths=/run/nodemeter$", unit)
