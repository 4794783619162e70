"""The spool's dealings with the file system: whole writes, durable names, allocated room.

Every call either did all of what it says or raises OSError.
"""

import errno
import fcntl
import os
from pathlib import Path

FULL_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

_BLOCK = 4096


def is_full(error: OSError) -> bool:
    """Whether the error says that there is no room (disk, quota or file size limit)."""
    return error.errno in FULL_ERRNOS


def write_at(fd: int, data: bytes, offset: int) -> None:
    """Write all of `data`; a part of it may be there if this raises."""
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written


def read_at(fd: int, length: int, offset: int) -> bytes:
    """Read `length` bytes, fewer only at the end of the file."""
    parts: list[bytes] = []
    while length:
        part = os.pread(fd, length, offset)
        if not part:
            break
        parts.append(part)
        length, offset = length - len(part), offset + len(part)
    return b"".join(parts)


def read_all(fd: int) -> bytes:
    """Read the whole file; blocks that the disk does not give are read as zeros."""
    size = os.fstat(fd).st_size
    try:
        return read_at(fd, size, 0)
    except OSError:
        return b"".join(_read_block(fd, offset) for offset in range(0, size, _BLOCK))


def _read_block(fd: int, offset: int) -> bytes:
    try:
        return read_at(fd, _BLOCK, offset)
    except OSError:
        return bytes(_BLOCK)


def allocate(path: Path, size: int) -> int:
    """Create a file of `size` zeros whose room is taken; return its descriptor.

    Where the file system cannot promise room (copy-on-write), writing may still find it
    full. Nothing is left behind if this raises.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(fd, 0, size)
        os.fsync(fd)
    except OSError:
        os.close(fd)
        path.unlink()
        raise
    return fd


def available(directory: Path) -> int:
    """Bytes that we may still take on its file system."""
    stat = os.statvfs(directory)
    return stat.f_bavail * stat.f_frsize


def rename(source: Path, target: Path) -> None:
    """Give a file its durable name."""
    source.rename(target)
    sync_directory(target.parent)


def sync_directory(path: Path) -> None:
    """Make what was created in and removed from a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def lock(path: Path) -> int:
    """Take the lock for as long as the descriptor returned lives.

    Raises:
        BlockingIOError: another process has it.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise
    return fd
