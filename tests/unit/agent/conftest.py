"""Real cgroups for the agent's tests, below one named `nodemeter`, and gone afterwards."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest

from agent.cgroups import find_hierarchies, members

CGROUP_ROOT = "/sys/fs/cgroup"


class RealCgroup:
    """One cgroup of this machine, in every hierarchy that metering reads."""

    def __init__(self, folders: list[str], name: str) -> None:
        self.folders = folders
        self.name = name
        for folder in folders:
            Path(f"{folder}{name}").mkdir(parents=True)

    def add(self, pid: int) -> None:
        """Move a process in."""
        for folder in self.folders:
            Path(f"{folder}{self.name}/cgroup.procs").write_text(str(pid))

    def remove(self) -> None:
        """Kill what is in it and delete it; deleting it twice is harmless."""
        for folder in self.folders:
            path = f"{folder}{self.name}"
            wait_until(partial(_is_removed, path))
            with suppress(OSError):
                Path(path).parent.rmdir()


def _is_removed(path: str) -> bool:
    for pid in members(path):
        with suppress(ProcessLookupError):
            os.kill(pid, 9)
    with suppress(OSError):
        Path(path).rmdir()
    return not Path(path).exists()


def wait_until(condition: Callable[[], object], seconds: float = 20) -> None:
    """Poll until the condition holds; a test that waits in vain fails."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.002)


@pytest.fixture
def real_cgroup() -> Iterator[RealCgroup]:
    """An empty cgroup with CPU and memory accounting, where this machine lets us make one."""
    hierarchies = find_hierarchies(CGROUP_ROOT)
    v1 = [hierarchies.v1[name] for name in ("cpuacct", "memory") if name in hierarchies.v1]
    folders = v1 or ([hierarchies.v2] if hierarchies.v2 else [])
    if not folders or not all(os.access(folder, os.W_OK) for folder in folders):
        pytest.skip("no cgroup can be made here")
    cgroup = RealCgroup(folders, f"/nodemeter/test-{uuid4().hex[:8]}")
    yield cgroup
    cgroup.remove()
