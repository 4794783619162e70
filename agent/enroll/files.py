"""Writes what an enrolment leaves: whole or not at all, and the agent's own."""

import os
from pathlib import Path

from agent.enrolled import Enrolled
from agent.errors import AgentError


def write_enrolment(enrolled: Enrolled, node: bytes, ca: bytes, target: str) -> None:
    """Put a new identity in the place of what there is.

    Raises:
        AgentError: the files cannot be written.
    """
    try:
        for folder in (enrolled.state_dir, enrolled.folder):
            _make_folder(folder)
        write_whole(enrolled.ca, ca, 0o644)
        write_whole(enrolled.target, f"{target}\n".encode(), 0o644)
        write_whole(enrolled.node, node, 0o600)
    except OSError as error:
        raise AgentError(
            f"{error.filename} cannot be written ({error.strerror}): run this as root, or as the "
            "account that the agent runs as"
        ) from error


def write_whole(path: Path, data: bytes, mode: int) -> None:
    """Replace a file; durable when this returns. What root writes belongs to the folder's owner."""
    fresh = path.with_name(f".{path.name}.new")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with os.fdopen(fd, "wb") as file:
        os.fchmod(fd, mode)
        _give(fd, path.parent)
        file.write(data)
        file.flush()
        os.fsync(fd)
    fresh.rename(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():
        folder.mkdir(mode=0o700, parents=True)
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _give(fd, folder.parent)
        finally:
            os.close(fd)


def _give(fd: int, folder: Path) -> None:
    if os.geteuid() == 0:
        owner = folder.stat()
        os.fchown(fd, owner.st_uid, owner.st_gid)
