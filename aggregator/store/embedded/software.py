"""Finds the programs to run: a TimescaleDB that the system has, else the unpacked folder."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aggregator.store.embedded import unpack
from aggregator.store.embedded.errors import EmbeddedError

HOW_TO_GET_ONE = """\
There are three ways to a TimescaleDB:
  - install it: apt install postgresql-17-timescaledb (Debian 13), or your vendor's packages
  - let nodemeter unpack Debian's packages into a folder: needs apt-get, dpkg-deb and the network
  - run it elsewhere and set [database] url:
      docker run -d -p 127.0.0.1:5432:5432 -e POSTGRES_PASSWORD=secret timescale/timescaledb
      url = "postgresql://postgres:secret@127.0.0.1:5432/postgres\""""

_LAYOUTS = [  # where distributions put programs and extensions; {0} is the major version
    ("usr/lib/postgresql/*/bin/postgres", "usr/share/postgresql/{0}/extension/timescaledb.control"),
    ("usr/pgsql-*/bin/postgres", "usr/pgsql-{0}/share/extension/timescaledb.control"),
]
_VERSION = re.compile(r"default_version\s*=\s*'(?P<version>[\d.]+)")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Software:
    """A PostgreSQL with TimescaleDB: the folder of its programs and its versions."""

    binaries: Path
    major: int
    timescaledb: str


def is_refused(timescaledb: str) -> bool:
    """Whether this TimescaleDB gives wrong query results (2.25.0 to 2.26.1)."""
    numbers = tuple(int(part) for part in timescaledb.split(".") if part)
    return (2, 25, 0) <= numbers <= (2, 26, 1)


def installed(root: Path = Path("/")) -> list[Software]:
    """What the system has, newest PostgreSQL first; refused versions are left out."""
    found: list[Software] = []
    for programs, control in _LAYOUTS:
        for postgres in root.glob(programs):
            major = re.sub(r"\D", "", postgres.parts[-3])
            version = _version_in(root / control.format(major))
            if major and version is not None and not is_refused(version):
                found.append(
                    Software(binaries=postgres.parent, major=int(major), timescaledb=version)
                )
    return sorted(found, key=lambda software: software.major, reverse=True)


def choose(folders: Sequence[Path], *, major: int | None, root: Path = Path("/")) -> Software:
    """The system's TimescaleDB, else the first whole folder, else the last folder, unpacked now.

    `major` is the PostgreSQL that existing data was made with: no other one can read it.

    Raises:
        EmbeddedError: none can be had; the message names every way.
    """
    for software in installed(root):
        if major in {None, software.major}:
            return software
    if major not in {None, unpack.POSTGRESQL_MAJOR}:
        raise EmbeddedError(
            f"the database was made by PostgreSQL {major}, which this machine no longer has"
        )
    for folder in folders:
        if unpack.is_complete(folder):
            return _in_folder(folder)
    try:
        unpack.ensure_unpacked(folders[-1])
    except (EmbeddedError, OSError) as error:
        raise EmbeddedError(f"no TimescaleDB to run: {error}\n{HOW_TO_GET_ONE}") from error
    return _in_folder(folders[-1])


def _in_folder(folder: Path) -> Software:
    major = unpack.POSTGRESQL_MAJOR
    control = folder / f"usr/share/postgresql/{major}/extension/timescaledb.control"
    version = _version_in(control)
    if version is None:
        raise EmbeddedError(f"{control} names no version")
    return Software(binaries=unpack.binaries_in(folder), major=major, timescaledb=version)


def _version_in(control: Path) -> str | None:
    try:
        match = _VERSION.search(control.read_text(encoding="utf-8"))
    except OSError:
        return None
    return match["version"] if match else None
