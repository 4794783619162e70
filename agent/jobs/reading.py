"""Opens a file of the jobs directory, whose content and name anybody may have chosen."""

# Paths as text: a Path costs several times the system call.
# ruff: noqa: PTH116

import os
import pwd
import stat
from contextlib import suppress
from functools import lru_cache
from typing import NamedTuple

from agent.errors import JobFileError, ProviderError
from agent.jobs.jobfile import MAX_BYTES, Owner, parse_job
from agent.model import Run

_RACY_NS = 20_000_000
"""File times are this coarse at most: a younger file may change without showing it."""


class Stamp(NamedTuple):
    """Tells one version of a file from the next."""

    inode: int
    size: int
    changed_ns: int  # ctime: also the owner's and the mode's changes


def list_job_files(directory: str) -> dict[str, os.stat_result]:
    """Name every job file with its status; temporary ones begin with a dot.

    Raises:
        ProviderError: the directory cannot be listed, or anybody may empty it.
    """
    found: dict[str, os.stat_result] = {}
    try:
        _check_directory(os.stat(directory), directory)
        with os.scandir(directory) as entries:
            for entry in entries:
                name = entry.name
                if name.endswith(".json") and name[0] != ".":
                    with suppress(FileNotFoundError):  # removed since it was listed
                        found[name] = entry.stat(follow_symlinks=False)
    except OSError as error:
        message = f"the jobs directory {directory} cannot be listed: {error.strerror}; create it"
        raise ProviderError(message) from error
    return found


def read_job_file(path: str, trusted: frozenset[int]) -> tuple[Run, Owner]:
    """Read and check one file without following links.

    Raises:
        JobFileError: it cannot be read, is no plain file, or is not a right one.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
                raise JobFileError(["is not a plain file with one name; write one, rename it"])
            data = os.read(fd, MAX_BYTES + 1)
        finally:
            os.close(fd)
    except OSError as error:
        raise JobFileError([f"cannot be read ({error.strerror}); write a plain file"]) from error
    owner = Owner(status.st_uid, user_name(status.st_uid), status.st_uid in trusted)
    return parse_job(data, owner), owner


def stamp_of(status: os.stat_result) -> Stamp:
    """Take from a file's status what changes with its content, owner or mode."""
    return Stamp(status.st_ino, status.st_size, status.st_ctime_ns)


def is_racy(stamp: Stamp, now_ns: int) -> bool:
    """Whether the file is so young that its next version could look the same."""
    return abs(now_ns - stamp.changed_ns) < _RACY_NS


@lru_cache(maxsize=1024)
def user_name(uid: int) -> str:
    """The account's name; its number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _check_directory(status: os.stat_result, directory: str) -> None:
    """Only its owner may be able to delete other people's files."""
    if status.st_uid not in {0, os.geteuid()}:
        name = user_name(status.st_uid)
        raise ProviderError(f"the jobs directory {directory} is {name}'s; make it root's")
    if status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX:
        raise ProviderError(
            f"anybody may delete anything in the jobs directory {directory}; chmod 1777 it"
        )
