"""Reads small kernel files over and over through kept descriptors.

A kept descriptor costs one system call per reading (0.5 us) instead of three (1.8 us), and
it tells a cgroup from a later one of the same name: after rmdir it answers ENODEV.
"""

import errno
import os
import resource

_HEADROOM = 256
"""Descriptors that are left to the rest of the process."""


class KeptFiles:
    """Descriptors by path, as many as the process may hold; the rest is opened each time."""

    def __init__(self, limit: int | None = None) -> None:
        """Keep at most `limit`; None = half of what the process may open now."""
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._limit = max(0, soft - _HEADROOM) // 2 if limit is None else limit
        self._fds: dict[str, int] = {}

    def read(self, path: str, size: int = 4096) -> bytes | None:
        """Read up to `size` bytes from the start; None = it is gone or not for us.

        A file that was replaced under the same path is read anew.
        """
        fd = self._fds.get(path)
        if fd is None:
            return self._open_and_read(path, size)
        try:
            return os.pread(fd, size, 0)
        except OSError:
            self.forget(path)
            return self._open_and_read(path, size)

    def forget(self, path: str) -> None:
        """Close what is kept for `path`."""
        fd = self._fds.pop(path, None)
        if fd is not None:
            os.close(fd)

    def close(self) -> None:
        """Close everything."""
        for path in list(self._fds):
            self.forget(path)

    def _open_and_read(self, path: str, size: int) -> bytes | None:
        fd = self._open(path)
        if fd is None:
            return None
        try:
            data = os.pread(fd, size, 0)
        except OSError:
            os.close(fd)
            return None
        if len(self._fds) < self._limit:
            self._fds[path] = fd
        else:
            os.close(fd)
        return data

    def _open(self, path: str) -> int | None:
        try:
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            if error.errno not in {errno.EMFILE, errno.ENFILE} or not self._fds:
                return None
        self._limit = len(self._fds) // 2  # others need descriptors, too: keep fewer from now on
        for kept in list(self._fds)[self._limit :]:
            self.forget(kept)
        return self._open(path)
