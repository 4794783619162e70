"""Cgroups are known by incarnation, with the instants of their start and their end."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from agent.cgroups import Hierarchies
from agent.cgroupwatch import CgroupWatch, Followed, FoundCgroup
from agent.clock import SystemTime
from agent.procfs import ProcFs
from tests.unit.agent.cgrouptrees import CgroupTree
from tests.unit.agent.conftest import wait_until

JOBS = [(re.compile(r"slurm(_.+)?"), re.compile(r"uid_\d+"), re.compile(r"job_\d+"))]
UNIFIED = Path("/sys/fs/cgroup/unified")


class Clock:
    """Time that moves when it is told to."""

    def __init__(self) -> None:
        self.now_ms = 1_000

    def __call__(self) -> int:
        return self.now_ms


@pytest.fixture(params=["v1", "v2", "hybrid"])
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> CgroupTree:
    layout: str = request.param
    tree = CgroupTree(tmp_path, layout)
    tree.make("/slurm")
    tree.make("/slurm/uid_7")
    tree.make("/slurm/uid_7/job_1")
    tree.make("/system.slice")
    return tree


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def watch(tree: CgroupTree, clock: Clock) -> Iterator[CgroupWatch]:
    watch = tree.watch(clock)
    yield watch
    watch.close()


def by_path(followed: Followed) -> dict[str, FoundCgroup]:
    return {found.path: found for found in followed.found()}


def test_what_is_there_is_found_with_its_names_and_without_a_start(watch: CgroupWatch) -> None:
    """Who comes later does not know when it was made."""
    (found,) = watch.follow(JOBS).found()
    assert found.path == "/slurm/uid_7/job_1"
    assert found.names == ("slurm", "uid_7", "job_1")
    assert (found.born_at_ms, found.ended_at_ms) == (None, None)
    assert found.inode


def test_without_events_every_scan_walks(
    watch: CgroupWatch, tree: CgroupTree, clock: Clock
) -> None:
    """A start and an end are as exact as the scans are near."""
    followed = watch.follow(JOBS)
    clock.now_ms = 2_000
    tree.make("/slurm_n2")
    tree.make("/slurm_n2/uid_8")
    tree.make("/slurm_n2/uid_8/job_2")
    tree.remove("/slurm/uid_7/job_1")
    watch.scan()
    found = by_path(followed)
    assert found["/slurm_n2/uid_8/job_2"].born_at_ms == 2_000
    assert found["/slurm/uid_7/job_1"].ended_at_ms == 2_000


def test_with_events_instants_are_the_events(
    watch: CgroupWatch, tree: CgroupTree, clock: Clock
) -> None:
    """New folders on the way are followed at once; nobody has to scan."""
    followed = watch.follow(JOBS)
    watch.start()
    tree.make("/slurm/uid_8")
    tree.make("/slurm/uid_8/job_2")
    wait_until(lambda: "/slurm/uid_8/job_2" in by_path(followed))  # it hears now
    clock.now_ms = 3_000
    tree.make("/slurm/uid_9")
    tree.make("/slurm/uid_9/job_3")
    wait_until(lambda: "/slurm/uid_9/job_3" in by_path(followed))
    clock.now_ms = 4_000
    tree.remove("/slurm/uid_9/job_3")
    wait_until(lambda: by_path(followed)["/slurm/uid_9/job_3"].ended_at_ms)
    found = by_path(followed)["/slurm/uid_9/job_3"]
    assert (found.born_at_ms, found.ended_at_ms) == (3_000, 4_000)


def test_one_of_the_same_name_is_another_one(
    watch: CgroupWatch, tree: CgroupTree, clock: Clock
) -> None:
    """Both are told until the ended one is settled."""
    followed = watch.follow(JOBS)
    (first,) = followed.found()
    clock.now_ms = 5_000
    tree.remove("/slurm/uid_7/job_1")
    tree.make("/slurm/uid_7/job_1")
    watch.scan()
    second, ended = followed.found()
    assert ended.key == first.key != second.key
    assert (ended.ended_at_ms, second.born_at_ms) == (5_000, 5_000)
    followed.settle([ended.key, "unknown"])
    assert followed.found() == [second]


def test_what_does_not_match_is_not_followed(watch: CgroupWatch, tree: CgroupTree) -> None:
    """Neither a folder beside the pattern, nor one below a run."""
    tree.make("/system.slice/job_5")
    tree.make("/slurm/uid_7/job_1/step_0")
    assert len(watch.follow(JOBS).found()) == 1


@pytest.fixture
def unified() -> Iterator[Path]:
    """A real cgroup2 folder of the test's own."""
    if not os.access(UNIFIED / "cgroup.procs", os.W_OK):
        pytest.skip("no cgroup2 mount that this account may write to")
    folder = UNIFIED / f"nodemeter-{uuid4().hex[:8]}"
    folder.mkdir()
    yield folder
    for inner in folder.iterdir():
        if inner.is_dir():
            inner.rmdir()
    folder.rmdir()


BURN = "import time; t=time.process_time\nwhile t() < 0.05: pass"


def run_job(cgroup: Path) -> tuple[int, int]:
    """Run a job in a cgroup of its own as a container engine would; its start and end in ns."""
    started_ns = SystemTime().wall_ns()
    cgroup.mkdir()
    enter = 'echo $$ > $0/cgroup.procs && exec $1 -S -c "$2"'
    subprocess.run(["sh", "-c", enter, str(cgroup), sys.executable, BURN], check=True)
    wait_until(lambda: "populated 0" in (cgroup / "cgroup.events").read_text())
    return started_ns, SystemTime().wall_ns()


def test_a_real_job_has_its_true_length_and_its_last_cpu_time(unified: Path) -> None:
    """Events tell its start while it runs, its end, and what it used before it goes."""
    time = SystemTime()
    watch = CgroupWatch(
        Hierarchies(str(UNIFIED), {}),
        now_ms=lambda: time.wall_ns() // 1_000_000,
        told=lambda: None,
        procfs=ProcFs(),
    )
    followed = watch.follow([(re.compile(unified.name), re.compile("job-.*"))])
    watch.start()
    try:
        started_ns, ended_ns = run_job(unified / "job-1")
        wait_until(lambda: followed.found() and followed.found()[0].emptied_at_ms)
        stat = (unified / "job-1" / "cpu.stat").read_text()
        (unified / "job-1").rmdir()
        wait_until(lambda: followed.found()[0].ended_at_ms)
    finally:
        watch.close()
    (found,) = followed.found()
    assert found.born_at_ms is not None
    assert found.ended_at_ms is not None
    assert started_ns // 1_000_000 - 20 <= found.born_at_ms <= ended_ns // 1_000_000
    assert found.ended_at_ms >= ended_ns // 1_000_000 - 20
    assert f"usage_usec {found.cpu_us}\n" in stat
    assert found.cpu_us is not None
    assert found.cpu_us >= 50_000
