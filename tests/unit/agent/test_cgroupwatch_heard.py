"""Who follows cgroups may hear of each one at the instant, and knows it for ever."""

import re
from collections.abc import Iterator
from pathlib import Path
from queue import Queue

import pytest

from agent.cgroupwatch import CgroupWatch, FoundCgroup
from tests.unit.agent.cgrouptrees import CgroupTree
from tests.unit.agent.conftest import wait_until

JOBS = [(re.compile(r"jobs\.slice"), re.compile(r"job-.*"))]


@pytest.fixture
def tree(tmp_path: Path) -> CgroupTree:
    tree = CgroupTree(tmp_path, "v2")
    tree.make("/jobs.slice")
    tree.make("/jobs.slice/job-1")
    return tree


@pytest.fixture
def watch(tree: CgroupTree) -> Iterator[CgroupWatch]:
    watch = tree.watch(lambda: 1_000)
    yield watch
    watch.close()


def test_what_was_there_is_heard_when_it_is_followed(watch: CgroupWatch) -> None:
    """Also without any event."""
    heard: list[FoundCgroup] = []
    watch.follow(JOBS, heard.append)
    assert [(cgroup.path, cgroup.born_at_ms) for cgroup in heard] == [("/jobs.slice/job-1", None)]
    watch.scan()
    assert len(heard) == 1


def test_a_start_and_a_new_limit_are_heard_at_once(tree: CgroupTree, watch: CgroupWatch) -> None:
    """No look is needed; what is no limit is not told."""
    heard: Queue[FoundCgroup] = Queue()
    followed = watch.follow(JOBS, heard.put)
    heard.get(timeout=20)
    watch.start()
    tree.make("/jobs.slice/job-2")
    first = heard.get(timeout=20)
    assert (first.path, first.born_at_ms) == ("/jobs.slice/job-2", 1_000)
    while not heard.empty():  # its limit files may have been made after its watch
        heard.get()
    tree.limit("/jobs.slice/job-1", cpu_m=500)
    while (other := heard.get(timeout=20)).path != "/jobs.slice/job-1":
        assert other.path == "/jobs.slice/job-2"
    assert {cgroup.path for cgroup in followed.found()} == {
        "/jobs.slice/job-1",
        "/jobs.slice/job-2",
    }


def test_a_twin_in_both_hierarchies_has_one_key_before_and_after_a_restart(tmp_path: Path) -> None:
    """systemd makes it in v2 first; who comes later finds it in v1 first. One run, not two."""
    tree = CgroupTree(tmp_path, "both")
    tree.make("/jobs.slice")
    (tmp_path / "unified/jobs.slice").mkdir()
    watch = tree.watch(lambda: 1_000)
    heard: Queue[FoundCgroup] = Queue()
    followed = watch.follow(JOBS, heard.put)
    watch.start()
    (tmp_path / "unified/jobs.slice/job-1").mkdir()
    assert heard.get(timeout=20).is_v2
    tree.make("/jobs.slice/job-1")
    wait_until(lambda: not followed.found()[0].is_v2)
    (before,) = followed.found()
    watch.close()
    (after,) = tree.watch(lambda: 2_000).follow(JOBS).found()
    assert (before.key, before.born_at_ms) == (after.key, 1_000)
