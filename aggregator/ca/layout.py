"""Where the authority's files are, and how they are written: whole or not at all.

Next to a key that only its owner may read, everything else in the directory is public. A
copy of it without `ca.key` is enough to serve with, but not to sign.
"""

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from aggregator.errors import NodemeterError


class CaError(NodemeterError):
    """The authority cannot do what it was asked to."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The names of the files."""

    folder: Path

    @property
    def certificate(self) -> Path:
        """The authority's own certificate."""
        return self.folder / "ca.crt"

    @property
    def key(self) -> Path:
        """The authority's key."""
        return self.folder / "ca.key"

    @property
    def server(self) -> Path:
        """The aggregator's key, its certificate and the authority's, in one file."""
        return self.folder / "server.pem"

    @property
    def issued(self) -> Path:
        """What was signed: a line of JSON each, appended."""
        return self.folder / "issued.jsonl"

    @property
    def denied(self) -> Path:
        """The deny-list: a line of JSON for each serial number that is revoked."""
        return self.folder / "denied.jsonl"

    @property
    def tokens(self) -> Path:
        """The one-time tokens, a file each, named by the hash of its secret."""
        return self.folder / "tokens"

    def own(self) -> None:
        """What root makes in the service's place is the service's; it is closed to others."""
        _give_path_to_owner(self.folder)
        self.folder.chmod(0o700)

    def make_tokens(self) -> None:
        """Make the folder of the tokens."""
        self.tokens.mkdir(mode=0o700, exist_ok=True)
        _give_path_to_owner(self.tokens)

    @contextmanager
    def locked(self) -> Generator[None]:
        """Be the only one who changes anything; who else wants to waits."""
        fd = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _give_to_owner(fd, self.folder)
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)


def write_whole(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Put `data` in the place of whatever `path` is; durable when this returns."""
    fresh = path.with_name(f".{path.name}.new")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        os.fchmod(fd, mode)
        _give_to_owner(fd, path.parent)
        _write_all(fd, data)
        os.fsync(fd)
    finally:
        os.close(fd)
    fresh.rename(path)
    sync_folder(path.parent)


def append_line(path: Path, line: bytes) -> None:
    """Add a line to what is there; durable when this returns. Call it locked.

    What a crash left of a line before is made a line of its own.
    """
    fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _give_to_owner(fd, path.parent)
        size = os.fstat(fd).st_size
        is_torn = size > 0 and os.pread(fd, 1, size - 1) != b"\n"
        _write_all(fd, (b"\n" if is_torn else b"") + line + b"\n")
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_folder(folder: Path) -> None:
    """Make the names in it durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _give_to_owner(fd: int, folder: Path) -> None:
    """What root writes into the service's folder is the service's."""
    if os.geteuid() == 0:
        owner = folder.stat()
        os.fchown(fd, owner.st_uid, owner.st_gid)


def _give_path_to_owner(path: Path) -> None:
    if os.geteuid() == 0:
        owner = path.parent.stat()
        os.chown(path, owner.st_uid, owner.st_gid)
