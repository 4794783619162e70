"""Hears at the instant when the last process of a run ends, and asks for a look.

Where nobody writes a run's end (its `exec` was killed, a hook has none to write), it ended
when its processes did; a look alone would know no more than that they lived ten seconds
ago. A thread of its own waits for them by their pidfds: for those of a list all at once,
for those of a cgroup one after the other. (`cgroup.events` of v2 says nothing where the
cgroup is removed at once, and v1 has none.)

What cannot be watched (no descriptor left) is not: the last look says when it ended.
"""

import os
import select
import threading
from collections.abc import Callable, Iterable

from agent.cgroups import Hierarchies, members
from agent.model import Run, RunKey
from agent.procfs import ProcFs

_MOST = 2048
"""So many descriptors are held at most."""


class _Watched:
    """One run: its descriptors, and when it was found to have no process left."""

    __slots__ = ("cgroup", "ended_at_ms", "fds")

    def __init__(self, cgroup: str | None) -> None:
        self.cgroup = cgroup
        self.fds: set[int] = set()
        self.ended_at_ms: int | None = None


class DeathWatch:
    """See the module. All but the thread's own methods are the provider's to call."""

    def __init__(
        self,
        hierarchies: Hierarchies,
        procfs: ProcFs,
        *,
        now_ms: Callable[[], int],
        wake: Callable[[], None],
    ) -> None:
        """Watch nobody; `wake` is called from the thread, which is begun when it is needed."""
        self._hierarchies = hierarchies
        self._procfs = procfs
        self._now_ms = now_ms
        self._wake = wake
        self._lock = threading.Lock()
        self._runs: dict[RunKey, _Watched] = {}
        self._keys: dict[int, RunKey] = {}  # by descriptor
        self._epoll: select.epoll | None = None

    def watch(self, run: Run) -> None:
        """Watch a run that lives; who is watched already stays so."""
        known = self._runs.get(run.key)
        if (known and known.fds) or len(self._keys) + max(1, len(run.pids)) > _MOST:
            return
        with self._lock:
            watched = self._runs[run.key] = _Watched(run.cgroup)
            try:
                self._begin(run.key, watched, run.pids)
            except OSError:  # a part of them would tell of an end that is none
                self._drop_all(watched)

    def ended_at_ms(self, key: RunKey) -> int | None:
        """Agent time when its last process ended; None = nobody heard."""
        with self._lock:
            watched = self._runs.get(key)
            return watched.ended_at_ms if watched else None

    def forget(self, key: RunKey) -> None:
        """Let go of a run."""
        with self._lock:
            watched = self._runs.pop(key, None)
            if watched:
                self._drop_all(watched)

    # Under the lock ----------------------------------------------------------------------

    def _begin(self, key: RunKey, watched: _Watched, pids: Iterable[int]) -> None:
        if watched.cgroup is not None:
            self._hold_next(key, watched, watched.cgroup)
        else:
            for pid in pids:
                self._hold(key, watched, pid)

    def _hold_next(self, key: RunKey, watched: _Watched, cgroup: str) -> bool:
        """Wait for any living process of the cgroup; False = there is none."""
        found = (pid for folder in self._hierarchies.folders(cgroup) for pid in members(folder))
        return any(self._procfs.is_alive(pid) and self._hold(key, watched, pid) for pid in found)

    def _hold(self, key: RunKey, watched: _Watched, pid: int) -> bool:
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            return False
        watched.fds.add(fd)
        self._keys[fd] = key
        if self._epoll is None:
            self._epoll = select.epoll()
            threading.Thread(target=self._listen, name="deaths", daemon=True).start()
        self._epoll.register(fd, select.EPOLLIN)
        return True

    def _drop_all(self, watched: _Watched) -> None:
        for fd in list(watched.fds):
            self._drop(watched, fd)

    def _drop(self, watched: _Watched, fd: int) -> None:
        watched.fds.discard(fd)
        del self._keys[fd]
        os.close(fd)  # which ends its registration, too

    # The thread --------------------------------------------------------------------------

    def _listen(self) -> None:
        assert self._epoll is not None
        while True:
            happened = self._epoll.poll()
            with self._lock:
                has_news = [self._hear(fd) for fd, _ in happened]
            if any(has_news):
                self._wake()

    def _hear(self, fd: int) -> bool:
        """Take one event; whether a run has died. The descriptor may be another one by now."""
        key = self._keys.get(fd)
        watched = self._runs.get(key) if key is not None else None
        if key is None or watched is None:
            return False
        if not _has_exited(fd) or self._goes_on(key, watched, fd):
            return False
        watched.ended_at_ms = self._now_ms()
        return True

    def _goes_on(self, key: RunKey, watched: _Watched, fd: int) -> bool:
        """Whether another process of the run lives, one of which is waited for now."""
        self._drop(watched, fd)
        try:
            return bool(watched.fds) or (
                watched.cgroup is not None and self._hold_next(key, watched, watched.cgroup)
            )
        except OSError:  # it cannot be waited for: the looks will say
            return True


def _has_exited(pidfd: int) -> bool:
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(0))
