"""The account that PostgreSQL runs as: it refuses root, so root lends it another one.

Decides which account, whether it can reach a folder, and runs programs as it. It must not
know what is run.
"""

import os
import pwd
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aggregator.store.embedded.errors import EmbeddedError

_EXISTING = ("postgres", "nobody")
_OWN = "nodemeter"
_KEPT_VARIABLES = ("PATH", "HOME", "TMPDIR", "http_proxy", "https_proxy", "no_proxy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """An unprivileged account. `is_self`: the one that this process has already."""

    name: str
    uid: int
    gid: int
    is_self: bool

    def take(self, path: Path, *, mode: int) -> None:
        """Give a file or folder to the account, with `mode`."""
        if not self.is_self:
            os.chown(path, self.uid, self.gid)
        path.chmod(mode)

    def run(self, arguments: Sequence[str | Path], *, cwd: Path) -> str:
        """Run a program as the account; what it printed, both streams together.

        Raises:
            EmbeddedError: it did not exit with 0; the message ends with what it printed.
        """
        done = subprocess.run(
            [str(a) for a in arguments],
            cwd=cwd,
            env=plain_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            check=False,
            user=self.as_user(),
            group=self.as_group(),
            extra_groups=self.as_extra_groups(),
        )
        if done.returncode != 0:
            said = done.stdout.strip()[-2000:]
            raise EmbeddedError(f"{arguments[0]} failed ({done.returncode}): {said}")
        return done.stdout

    def as_user(self) -> int | None:
        """What `subprocess` takes as `user`: nothing where the account is already ours."""
        return None if self.is_self else self.uid

    def as_group(self) -> int | None:
        """What `subprocess` takes as `group`."""
        return None if self.is_self else self.gid

    def as_extra_groups(self) -> list[int] | None:
        """What `subprocess` takes as `extra_groups`: root's own are given up."""
        return None if self.is_self else []

    def can_enter(self, folder: Path) -> bool:
        """Whether the account can use files below an existing folder: asked of the kernel."""
        if self.is_self:
            return os.access(folder, os.X_OK)
        asked = subprocess.run(
            ["test", "-x", f"{folder}/."],
            check=False,
            cwd="/",
            user=self.uid,
            group=self.gid,
            extra_groups=[],
        )
        return asked.returncode == 0


def plain_environment() -> Mapping[str, str]:
    """The environment for the server's programs: none of the caller's PG* settings."""
    environment = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    return {**environment, "LC_ALL": "C", "TZ": "UTC"}


def choose_account(*, data_owner: int | None = None) -> Account:
    """The account to run as: this process's own, or for root an unprivileged one.

    `data_owner` is the uid that existing data belongs to: data keeps its account.
    """
    if os.geteuid() != 0:
        return _own_account()
    if data_owner:
        return _lent(_entry_of(data_owner))
    for name in _EXISTING:
        if (entry := _lookup(name)) is not None:
            return _lent(entry)
    return _lent(_created())


def _own_account() -> Account:
    uid = os.geteuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = str(uid)
    return Account(name=name, uid=uid, gid=os.getegid(), is_self=True)


def _lent(entry: pwd.struct_passwd) -> Account:
    return Account(name=entry.pw_name, uid=entry.pw_uid, gid=entry.pw_gid, is_self=False)


def _lookup(name: str) -> pwd.struct_passwd | None:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return entry if entry.pw_uid != 0 else None


def _entry_of(uid: int) -> pwd.struct_passwd:
    try:
        return pwd.getpwuid(uid)
    except KeyError:
        raise EmbeddedError(
            f"the database's files belong to uid {uid}, which no longer is an account here"
        ) from None


def _created() -> pwd.struct_passwd:
    useradd = shutil.which("useradd", path="/usr/sbin:/sbin:/usr/bin")
    if useradd is None:
        raise EmbeddedError("no unprivileged account exists for PostgreSQL, and no useradd either")
    subprocess.run(
        [useradd, "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", _OWN], check=True
    )
    return pwd.getpwnam(_OWN)
