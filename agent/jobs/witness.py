"""Notices that processes have exited, for one system call for all of them.

A pidfd belongs to one process for ever, and is readable when that one has exited.
"""

import os
import select


class Witnesses:
    """Living processes by number. What cannot be held (no descriptor left) is just not known."""

    def __init__(self) -> None:
        """Know nobody."""
        self._fds: dict[int, int] = {}  # by process
        self._pids: dict[int, int] = {}  # by descriptor
        self._exited: set[int] = set()
        self._poll = select.epoll()

    def refresh(self) -> None:
        """Take notice of who has exited; `lives` answers as of the last time."""
        for fd, _ in self._poll.poll(0, max(1, len(self._fds))):
            if (pid := self._pids.get(fd)) is not None:
                self._exited.add(pid)

    def lives(self, pid: int) -> bool:
        """Whether `pid` is held and had not exited at the last `refresh`."""
        return pid in self._fds and pid not in self._exited

    def hold(self, pid: int) -> None:
        """Hold the process that has this number now; look at it afterwards, not before."""
        self.forget(pid)
        try:
            fd = os.pidfd_open(pid)
        except OSError:
            return
        self._fds[pid], self._pids[fd] = fd, pid
        self._poll.register(fd, select.EPOLLIN | select.EPOLLONESHOT)
        self.refresh()  # it may have exited already

    def forget(self, pid: int) -> None:
        """Let go of it."""
        fd = self._fds.pop(pid, None)
        self._exited.discard(pid)
        if fd is not None:
            del self._pids[fd]
            os.close(fd)
