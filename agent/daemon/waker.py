"""Waits for time to pass, for a job to start or end, or for somebody's call."""

import os
import select
from collections.abc import Iterable
from pathlib import Path

from agent.notify import Watcher


class Waker:
    """The one place where the daemon sleeps."""

    def __init__(self, watcher: Watcher) -> None:
        """Listen to `watcher`, and close it at the end."""
        self._watcher = watcher
        self._is_noted = False
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)
        if watcher.available:
            self._poll.register(watcher.fileno(), select.POLLIN)

    def watch(self, paths: Iterable[Path]) -> None:
        """Hear of changes in these directories from now on, as far as they exist."""
        for path in paths:
            self._watcher.add(path)

    def wake(self) -> None:
        """End the wait; from any thread, or a signal's handler. Nobody waits: nothing."""
        if self._fd >= 0:
            os.eventfd_write(self._fd, 1)

    def note(self) -> None:
        """Somebody noticed that something happened; from any thread."""
        self._is_noted = True
        self.wake()

    def wait(self, timeout_ms: int) -> bool:
        """Wait at most so long; whether something happened to what is watched."""
        ready = {fd for fd, _ in self._poll.poll(timeout_ms)}
        if self._fd in ready:
            os.eventfd_read(self._fd)
        has_events = bool(ready - {self._fd}) and bool(self._watcher.read_events())
        is_noted, self._is_noted = self._is_noted, False
        return has_events or is_noted

    def close(self) -> None:
        """Give the descriptors back; nobody waits any more. Idempotent."""
        self._watcher.close()
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
