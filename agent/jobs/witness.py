"""Notices that a process has exited, for 0.4 us instead of the 7 us of a look into /proc.

A pidfd belongs to one process for ever, and is readable when that one has exited.
"""

import os
import select


class Witnesses:
    """Living processes by number. What cannot be held (no descriptor left) is just not known."""

    def __init__(self) -> None:
        """Know nobody."""
        self._known: dict[int, tuple[int, select.poll]] = {}

    def lives(self, pid: int) -> bool:
        """Whether `pid` is held and has not exited."""
        known = self._known.get(pid)
        return known is not None and not known[1].poll(0)

    def hold(self, pid: int) -> None:
        """Hold the process that has this number now; look at it afterwards, not before."""
        self.forget(pid)
        try:
            fd = os.pidfd_open(pid)
        except OSError:
            return
        poller = select.poll()
        poller.register(fd, select.POLLIN)
        self._known[pid] = fd, poller

    def forget(self, pid: int) -> None:
        """Let go of it."""
        known = self._known.pop(pid, None)
        if known is not None:
            os.close(known[0])
