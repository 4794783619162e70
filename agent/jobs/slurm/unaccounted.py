"""Finds jobs whose cgroups count no CPU time.

Slurm makes v1 cgroups only for what it is told to control: without
`JobAcctGatherType=jobacct_gather/cgroup` a job has one for tracking or limiting its
processes, and none that counts CPU. It is still there and holds what it holds.

A cgroup that is there for a moment only, before or after the one that counts, is no such job.
"""

# Paths as text: a Path costs several times the system call.
# ruff: noqa: PTH208

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from agent.cgroups import Hierarchies
from agent.cgroupwatch import CgroupWatch, Followed, FoundCgroup, Pattern

_CONTROLLERS = ("freezer", "memory", "cpuset", "devices")
_APART_MS = 2_000
"""So long a job may take to be made in, or removed from, all controllers."""

MakeWatch = Callable[[Hierarchies], CgroupWatch]


class Unaccounted:
    """See the module; `mount` None = there is no controller in which Slurm has anything."""

    def __init__(
        self, root: str, patterns: Sequence[Pattern], make_watch: MakeWatch, *, is_live: bool
    ) -> None:
        """Look below `root`, with a watch that hears only where there are such jobs."""
        self.mount: str | None = None
        self._root = root
        self._patterns = patterns
        self._make_watch = make_watch
        self._is_live = is_live
        self._is_first = True
        self._is_heard = False
        self._watch: CgroupWatch | None = None
        self._followed: Followed | None = None
        self._seen: dict[str, int] = {}  # by key: since when
        self._taken: set[str] = set()  # keys
        self._walked: set[str] = set()  # keys of those that no event told of
        self._paths: frozenset[str] = frozenset()  # of those that live

    def found(self, counted: Iterable[FoundCgroup], now_ms: int) -> Sequence[FoundCgroup]:
        """Those that are not among the ones which count; none where Slurm makes such ones."""
        is_first, self._is_first = self._is_first, False
        accounted = {cgroup.path: cgroup.ended_at_ms is None for cgroup in counted}
        if (any(accounted.values()) and not self._taken) or not self._begin():
            return ()
        assert self._watch is not None
        assert self._followed is not None
        self._watch.scan()
        everything = self._followed.found()
        for cgroup in everything:
            since_ms = self._seen.setdefault(cgroup.key, now_ms)
            is_stable = is_first or now_ms - since_ms >= _APART_MS
            if is_stable and cgroup.ended_at_ms is None and cgroup.path not in accounted:
                self._take(cgroup)
        self._forget(everything)
        taken = [self._tell(cgroup) for cgroup in everything if cgroup.key in self._taken]
        self._paths = frozenset(cgroup.path for cgroup in taken if cgroup.ended_at_ms is None)
        return taken

    @property
    def is_needed(self) -> bool:
        """Whether there are such jobs."""
        return bool(self._paths)

    def is_ours(self, cgroup: FoundCgroup) -> bool:
        """Whether it was found here."""
        return cgroup.key in self._taken

    def has_taken(self, path: str) -> bool:
        """Whether a job that lives in this path was taken."""
        return path in self._paths

    def settle(self, keys: Iterable[str]) -> None:
        """Forget these ended ones."""
        if self._followed is not None:
            self._followed.settle(keys)

    def close(self) -> None:
        """Hear no more."""
        if self._watch is not None:
            self._watch.close()

    def _begin(self) -> bool:
        if self._followed is None:
            self.mount = next(filter(self._has_slurm, self._mounts()), None)
            if self.mount is None:
                return False
            self._watch = self._make_watch(Hierarchies(None, {"any": self.mount}))
            self._followed = self._watch.follow(self._patterns)
        return True

    def _mounts(self) -> Iterable[str]:
        return (f"{self._root}/{name}" for name in _CONTROLLERS)

    def _has_slurm(self, mount: str) -> bool:
        try:
            names = os.listdir(mount)
        except OSError:
            return False
        return any(self._patterns[0][0].fullmatch(name) for name in names)

    def _tell(self, cgroup: FoundCgroup) -> FoundCgroup:
        """Of one that was only walked into, its processes know better when it began."""
        return replace(cgroup, born_at_ms=None) if cgroup.key in self._walked else cgroup

    def _take(self, cgroup: FoundCgroup) -> None:
        self._taken.add(cgroup.key)
        if not self._is_heard and cgroup.inode:
            self._walked.add(cgroup.key)
        if self._is_live and not self._is_heard and self._watch is not None:
            self._is_heard = True
            self._watch.start()

    def _forget(self, everything: Sequence[FoundCgroup]) -> None:
        """Let go of what is gone: of ended ones nobody took, and of what was settled."""
        assert self._followed is not None
        self._followed.settle(
            cgroup.key
            for cgroup in everything
            if cgroup.ended_at_ms is not None and cgroup.key not in self._taken
        )
        keys = {cgroup.key for cgroup in everything}
        self._seen = {key: since for key, since in self._seen.items() if key in keys}
        self._taken &= keys
        self._walked &= keys
