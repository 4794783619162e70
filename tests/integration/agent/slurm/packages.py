"""Debian's Slurm in a folder of its own: downloaded by apt, unpacked, not installed.

Whatever release the machine runs, its own packages fit its libraries; those it lacks are
unpacked, too. The folder is kept for the next time.
"""

import fcntl
import platform
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from aggregator.store.embedded import debian, unpack

ROOTS = ("slurmctld", "slurmd", "slurm-client", "munge")
CHECKOUT = Path(__file__).resolve().parents[4]
_COMPLETE = "COMPLETE"
_INSTALL = re.compile(r"^Inst (\S+)", re.MULTILINE)
_REASON_CHARACTERS = 400


class NoSlurmError(Exception):
    """Says why Debian's Slurm cannot be had here."""


def unpacked_slurm() -> Path:
    """The folder that holds Slurm's programs and libraries as `/` would.

    Raises:
        NoSlurmError: there is no apt, or it does not give the packages.
    """
    missing = [name for name in ("apt-get", "dpkg-deb") if shutil.which(name) is None]
    if missing:
        raise NoSlurmError(f"this machine has no {missing[0]}")
    cache = CHECKOUT / ".cache"
    cache.mkdir(exist_ok=True)
    codename = platform.freedesktop_os_release().get("VERSION_CODENAME", "unknown")
    folder = cache / f"slurm-{codename}"
    with (cache / f"slurm-{codename}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / _COMPLETE).is_file():
            shutil.rmtree(folder, ignore_errors=True)
            _unpack(folder, codename)
    return folder


def _unpack(folder: Path, codename: str) -> None:
    scratch = folder / "scratch"
    (scratch / "debs").mkdir(parents=True)
    try:
        _download(scratch / "debs", [])
    except NoSlurmError:  # no lists on this machine, or outdated ones
        config = _private_lists(scratch, codename)
        _run(["apt-get", *config, "-q", "update"], scratch)
        _download(scratch / "debs", config)
    for package in (scratch / "debs").glob("*.deb"):
        _run(["dpkg-deb", "-x", str(package), str(folder)], scratch)
    shutil.rmtree(scratch)
    for program in (folder / "usr/sbin").glob("slurm*-wlm"):
        # Slurm asks its own name whether it is a daemon
        program.with_name(program.name.removesuffix("-wlm")).symlink_to(program.name)
    (folder / _COMPLETE).touch()


def _download(folder: Path, config: Sequence[str]) -> None:
    simulated = ["apt-get", *config, "-s", "-q", "install", "--no-install-recommends", *ROOTS]
    wanted = {*_INSTALL.findall(_run(simulated, folder)), *ROOTS}
    _run(["apt-get", *config, "-q", "download", *sorted(wanted)], folder)


def _private_lists(scratch: Path, codename: str) -> list[str]:
    """An apt of our own with this machine's sources of Debian, and what is installed here."""
    for name in ("lists/partial", "cache/archives/partial", "sources"):
        (scratch / name).mkdir(parents=True)
    (scratch / "status").symlink_to("/var/lib/dpkg/status")
    (scratch / "apt.conf").write_text(unpack._APT_CONF.format(scratch=scratch))
    sources = debian.debians_own(unpack._machine_sources(Path("/etc/apt")), release=codename)
    if not sources:
        raise NoSlurmError("/etc/apt names no source of Debian's own packages")
    rendered = debian.render_sources(sources, keyring=unpack._keyring())
    (scratch / "sources/debian.sources").write_text(rendered)
    return ["-c", str(scratch / "apt.conf")]


def _run(command: Sequence[str], folder: Path) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
        check=False,
    )
    if done.returncode != 0:
        reason = done.stdout.strip()[-_REASON_CHARACTERS:]
        raise NoSlurmError(f"{' '.join(command[:1])} failed: {reason}")
    return done.stdout
