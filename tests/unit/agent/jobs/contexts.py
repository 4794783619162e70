"""What a provider is opened with in a test: a cgroup tree, settings, and a clock to turn."""

import tomllib
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from agent.cgroupwatch import CgroupWatch
from agent.config import Reader
from agent.context import Context
from agent.settings import build_settings
from tests.unit.agent.cgrouptrees import CgroupTree

NOW_MS = 1_770_350_400_000


class Machine:
    """A node with a tree of cgroups; `wakes` counts how often the daemon was called."""

    def __init__(self, tree: CgroupTree, settings: str, *, proc: Path | None = None) -> None:
        self.tree = tree
        self.now_ms = NOW_MS
        self.wakes = 0
        self.proc = proc
        self.settings = f'[cgroup]\nroot = "{tree.root}"\n{settings}'
        self.watch: CgroupWatch
        self.restart()

    def restart(self) -> None:
        """A new agent on the same node: it hears of nothing until `watch.start`."""
        self.watch = self.tree.watch(lambda: self.now_ms, self.proc)

    def context(self, *, is_live: bool = True, root: str = "") -> Context:
        reader = Reader(tomllib.loads(self.settings), {})
        settings = replace(build_settings(reader, "test"), root=root)
        assert not reader.problems()
        return Context(
            settings=settings,
            now_ms=lambda: self.now_ms,
            cgroups=self.watch,
            wake=self.wake,
            is_live=is_live,
        )

    def wake(self) -> None:
        self.wakes += 1

    @contextmanager
    def hearing(self) -> Generator[None]:
        """Hear of the tree's events meanwhile."""
        self.watch.start()
        try:
            yield
        finally:
            self.watch.close()
