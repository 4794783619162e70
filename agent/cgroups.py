"""Where cgroups are on this machine, and whether one of them still holds a process.

Three layouts below one root: v2 alone (the root is the cgroup2 mount), v1 alone (one
folder per controller), and both (`unified` beside the controllers). Standard library only:
`exec` imports this before its command starts.
"""

# Paths as text: a Path costs several times the system call.
# ruff: noqa: PTH116, PTH123

import os
from collections.abc import Iterator, Sequence

V1_CONTROLLERS = ("cpuacct", "memory", "cpu")
"""The v1 controllers that metering needs; the first one counts CPU time."""


class Hierarchies:
    """The mounts: `v2` is None without cgroup2, `v1` holds the controllers that exist."""

    __slots__ = ("v1", "v2")

    def __init__(self, v2: str | None, v1: dict[str, str]) -> None:
        """Take mount points as absolute paths."""
        self.v2 = v2
        self.v1 = v1

    def folders(self, cgroup: str) -> Sequence[str]:
        """Every place where the cgroup `/…` may be, the one that counts CPU first."""
        mounts = [*self.v1.values(), *([self.v2] if self.v2 else [])]
        return [mount + cgroup for mount in mounts]


def find_hierarchies(root: str) -> Hierarchies:
    """Look which hierarchies are mounted below `root`."""
    if _is_file(f"{root}/cgroup.controllers"):
        return Hierarchies(root, {})
    unified = f"{root}/unified"
    v1 = {name: f"{root}/{name}" for name in V1_CONTROLLERS if _is_file(f"{root}/{name}/tasks")}
    return Hierarchies(unified if _is_file(f"{unified}/cgroup.controllers") else None, v1)


def members(folder: str) -> Iterator[int]:
    """Process ids in the cgroup and those below it; none where it is gone."""
    for inner in _walk(folder):
        try:
            fd = os.open(f"{inner}/cgroup.procs", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue
        with open(fd, "rb") as procs:
            try:
                yield from map(int, procs.read().split())
            except OSError:  # a threaded cgroup: its parent lists the processes
                continue


def _walk(folder: str) -> Iterator[str]:
    yield folder
    try:
        with os.scandir(folder) as entries:
            inner = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return
    for path in inner:
        yield from _walk(path)


def _is_file(path: str) -> bool:
    try:
        os.stat(path)
    except OSError:
        return False
    return True
