"""The thread that hears of cgroups, and the walk through their tree."""

# Paths as text: a Path costs several times the system call.
# ruff: noqa: PTH116, PTH123

import logging
import os
import select
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from agent.cgroups import Hierarchies, members
from agent.cgroupwatch.found import Followed, FoundCgroup, Heard, Pattern
from agent.notify import Event, EventKind, Watcher
from agent.procfs import TICK_US, ProcFs, number_after

RESCAN_SECONDS = 60.0
"""How often the tree is walked although every event was heard."""

_EVENTS_FILE = "cgroup.events"
_LIMIT_FILES = frozenset(
    {
        "cpu.max",
        "memory.max",
        "cpuset.cpus",
        "cpu.cfs_quota_us",
        "memory.limit_in_bytes",
    }
)
_LOGGER = logging.getLogger(__name__)


class _Place(NamedTuple):
    """A folder that some pattern goes through: what its entries are to whom."""

    followed: "Followed"
    pattern: Pattern
    names: tuple[str, ...]  # matched so far


class CgroupWatch:
    """See the module. `start` begins to hear; without it every `scan` walks the tree."""

    def __init__(
        self,
        hierarchies: Hierarchies,
        *,
        now_ms: Callable[[], int],
        told: Callable[[], None],
        procfs: ProcFs,
    ) -> None:
        """Look below these mounts; `told` is called in the thread when something happened."""
        mounts = [(mount, False) for mount in list(hierarchies.v1.values())[:1]]
        if hierarchies.v2 is not None:
            mounts.append((hierarchies.v2, True))
        self._mounts = mounts
        self._now_ms = now_ms
        self._told = told
        self._procfs = procfs
        self._lock = threading.Lock()
        self._all: list[Followed] = []
        self._places: dict[str, list[_Place]] = {}  # by absolute path
        self._runs: dict[str, list[tuple[Followed, str]]] = {}  # by absolute path: who, path
        self._watcher: Watcher | None = None
        self._wake_fd = -1
        self._thread: threading.Thread | None = None

    def follow(self, patterns: Sequence[Pattern], heard: Heard | None = None) -> Followed:
        """Hear of cgroups whose path any of the patterns matches; look for them now.

        `heard` is called at the instant with each one that is found or whose limits change,
        mostly in the thread: it must be quick, and must not ask us anything.
        """
        followed = Followed(patterns, self._lock, heard)
        with self._lock:
            self._all.append(followed)
            self._walk(followed, is_first=True)
        return followed

    def start(self) -> None:
        """Hear from now on, where the kernel has events to give."""
        watcher = Watcher(has_changes=True)
        if not watcher.available:
            return
        self._watcher = watcher
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._listen, name="cgroups", daemon=True)
        self._thread.start()

    def scan(self) -> None:
        """Walk the tree now, unless the events tell what happens in it."""
        if self._thread is None or not self._thread.is_alive():
            self._rescan()

    def close(self) -> None:
        """Hear no more; idempotent."""
        thread, self._thread = self._thread, None
        if thread is not None:
            os.eventfd_write(self._wake_fd, 1)
            thread.join()
            os.close(self._wake_fd)

    def oldest_ms(self, cgroup: FoundCgroup) -> int | None:
        """When the oldest process in it began, agent time; None = it holds none."""
        boot_ms = self._now_ms() - self._procfs.uptime_ms()
        starts = [
            process.start
            for mount, _ in self._mounts
            for pid in members(mount + cgroup.path)
            if (process := self._procfs.process(pid))
        ]
        return boot_ms + min(starts) * TICK_US // 1000 if starts else None

    # The thread --------------------------------------------------------------------------

    def _listen(self) -> None:
        assert self._watcher is not None
        try:
            self._rescan()
            poll = select.poll()
            poll.register(self._watcher.fileno(), select.POLLIN)
            poll.register(self._wake_fd, select.POLLIN)
            while True:
                ready = {fd for fd, _ in poll.poll(RESCAN_SECONDS * 1000)}
                if self._wake_fd in ready:
                    return
                self._take(self._watcher.read_events() if ready else None)
        finally:
            self._watcher.close()

    def _take(self, events: Sequence[Event] | None) -> None:
        """Note what happened; None = nothing did for long, so look whether that is true."""
        now_ms = self._now_ms()
        if events is None or any(event.kind is EventKind.OVERFLOW for event in events):
            self._rescan()
            return
        with self._lock:
            has_news = [self._note(event, now_ms) for event in events]
        if any(has_news):
            self._told()

    def _note(self, event: Event, now_ms: int) -> bool:
        if event.path is None:
            return False
        folder = str(event.path)
        if not event.is_directory:
            return self._note_file(folder, event.name, now_ms)
        if event.kind is EventKind.APPEARED:
            return self._appeared(folder, event.name, now_ms)
        return event.kind is EventKind.VANISHED and self._vanished(f"{folder}/{event.name}", now_ms)

    def _note_file(self, folder: str, name: str, now_ms: int) -> bool:
        if name == _EVENTS_FILE:
            for followed, path in self._runs.get(folder, ()):
                if cgroup := followed.live().get(path):
                    followed.change(_look_inside(cgroup, folder, now_ms))
            return False  # an end comes with the removal
        if name not in _LIMIT_FILES:
            return False
        for followed, path in self._runs.get(folder, ()):
            followed.hear(path)
        return folder in self._runs

    def _appeared(self, folder: str, name: str, now_ms: int) -> bool:
        is_v2 = self._is_v2(folder)
        places = list(self._places.get(folder, ()))
        entered = [self._enter(folder, name, place, now_ms, is_v2=is_v2) for place in places]
        return any(entered)

    def _vanished(self, folder: str, now_ms: int) -> bool:
        self._places.pop(folder, None)
        ended = [followed.end(path, now_ms) for followed, path in self._runs.pop(folder, [])]
        return any(ended)

    # The tree ----------------------------------------------------------------------------

    def _rescan(self) -> None:
        """Take what is there for true: new ones begin now, missing ones have ended now."""
        now_ms = self._now_ms()
        has_news = False
        with self._lock:
            for followed in self._all:
                has_news |= self._walk(followed, is_first=False)
                for path, cgroup in list(followed.live().items()):
                    if self._inode(cgroup) != cgroup.inode:
                        has_news |= followed.end(path, now_ms)
        if has_news:
            self._told()

    def _inode(self, cgroup: FoundCgroup) -> int:
        mount = next(mount for mount, is_v2 in self._mounts if is_v2 is cgroup.is_v2)
        return _inode_of(mount + cgroup.path)

    def _walk(self, followed: Followed, *, is_first: bool) -> bool:
        born_at_ms = None if is_first else self._now_ms()
        found = [
            self._descend(mount, _Place(followed, pattern, ()), born_at_ms, is_v2=is_v2)
            for mount, is_v2 in self._mounts
            for pattern in followed.patterns
        ]
        return any(found)

    def _descend(self, folder: str, place: _Place, born_at_ms: int | None, *, is_v2: bool) -> bool:
        """Watch a folder, then look at what is in it: nothing can come between unheard."""
        places = self._places.setdefault(folder, [])
        if place not in places:
            places.append(place)
        if self._watcher is not None:
            self._watcher.add(Path(folder))
        children = [
            self._enter(folder, name, place, born_at_ms, is_v2=is_v2) for name in _folders(folder)
        ]
        return any(children)

    def _enter(
        self, folder: str, name: str, place: _Place, born_at_ms: int | None, *, is_v2: bool
    ) -> bool:
        """Take one entry of a folder if the pattern goes on there."""
        depth = len(place.names)
        if not place.pattern[depth].fullmatch(name):
            return False
        inner, names = f"{folder}/{name}", (*place.names, name)
        if depth + 1 < len(place.pattern):
            return self._descend(inner, place._replace(names=names), born_at_ms, is_v2=is_v2)
        path = "/" + "/".join(names)
        runs = self._runs.setdefault(inner, [])
        if (place.followed, path) not in runs:
            runs.append((place.followed, path))
        if is_v2 and self._watcher is not None:
            self._watcher.add(Path(inner))
            self._watcher.pin(Path(inner, _EVENTS_FILE))
        cgroup = FoundCgroup(
            path=path, names=names, inode=_inode_of(inner), is_v2=is_v2, born_at_ms=born_at_ms
        )
        return place.followed.begin(cgroup)

    def _is_v2(self, folder: str) -> bool:
        best = max(
            (mount for mount in self._mounts if folder.startswith(mount[0])),
            key=lambda mount: len(mount[0]),
        )
        return best[1]


def _look_inside(cgroup: FoundCgroup, folder: str, now_ms: int) -> FoundCgroup:
    """Read whether it is empty, and if so what its processes used."""
    data = _read(f"{folder}/{_EVENTS_FILE}")
    if data is None or b"populated 1" in data:
        return replace(cgroup, emptied_at_ms=None, cpu_us=None) if data else cgroup
    stat = _read(f"{folder}/cpu.stat")
    cpu_us = number_after(stat, b"usage_usec ") if stat else None
    return replace(cgroup, emptied_at_ms=now_ms, cpu_us=cpu_us)


def _folders(folder: str) -> Iterator[str]:
    with suppress(OSError), os.scandir(folder) as entries:
        yield from [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]


def _inode_of(folder: str) -> int:
    try:
        return os.stat(folder).st_ino
    except OSError:
        return 0


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read(65536)
    except OSError:
        return None
