"""Quotas out of a cgroup's own limits: what was asked for, and 0 where nothing was."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.cgroups import find_hierarchies
from agent.jobs.limits import NOTHING_REQUESTED, LimitReader, Limits
from agent.model import ResourceType
from tests.unit.agent.cgrouptrees import CgroupTree
from tests.unit.agent.conftest import CGROUP_ROOT, RealCgroup

CPU, MEM = ResourceType.CPU, ResourceType.MEM
JOB = "/jobs.slice/job"


@pytest.fixture(params=["v1", "v2", "both"])
def tree(tmp_path: Path, request: pytest.FixtureRequest) -> CgroupTree:
    tree = CgroupTree(tmp_path, str(request.param))
    tree.make(JOB)
    return tree


def reader(tree: CgroupTree) -> LimitReader:
    return LimitReader(find_hierarchies(str(tree.root)))


def test_no_limit_is_nothing_requested(tree: CgroupTree) -> None:
    """`max`, -1 and the largest number of pages all mean 0, never the whole node."""
    limits = reader(tree).read(JOB)
    assert limits.is_known
    assert limits.quotas() == NOTHING_REQUESTED


def test_limits_are_quotas_and_are_read_again(tree: CgroupTree) -> None:
    """Milli-cores and KiB; a change shows at the next look, kept descriptors or not."""
    limits = reader(tree)
    tree.limit(JOB, cpu_m=1500, mem_bytes=1 << 30)
    for read in (limits.read, limits.read_once, limits.read):
        assert read(JOB).quotas() == {CPU: 1500, MEM: 1 << 20}
    tree.limit(JOB, cpu_m=250)
    assert limits.read(JOB).quotas() == {CPU: 250, MEM: 1 << 20}
    limits.forget(JOB)
    assert limits.read(JOB).quotas() == {CPU: 250, MEM: 1 << 20}


def test_what_is_gone_is_unknown(tree: CgroupTree) -> None:
    """Whoever asks keeps what was known before."""
    limits = reader(tree)
    tree.limit(JOB, cpu_m=500)
    before = limits.read_once(JOB)
    tree.remove(JOB)
    gone = limits.read_once(JOB)
    assert not gone.is_known
    assert gone.after(None).quotas() == NOTHING_REQUESTED
    assert gone.after(before).quotas() == before.quotas()


def test_a_hierarchy_without_controllers_has_no_limits(tmp_path: Path) -> None:
    """cpu.stat is there without any controller, limits are not."""
    tree = CgroupTree(tmp_path, "v2")
    tree.make(JOB)
    for name in ("cpu.max", "memory.max"):
        (tmp_path / f"{JOB[1:]}/{name}").unlink()
    assert reader(tree).read(JOB).quotas() == NOTHING_REQUESTED


def test_the_kernels_own_files_are_understood(real_cgroup: RealCgroup) -> None:
    """A real cgroup without limits, and with one."""
    limits = LimitReader(find_hierarchies(CGROUP_ROOT))
    assert limits.read(real_cgroup.name).quotas() == NOTHING_REQUESTED
    for folder in real_cgroup.folders:
        for name in ("memory.limit_in_bytes", "memory.max"):
            file = Path(f"{folder}{real_cgroup.name}/{name}")
            if file.exists():
                file.write_text(str(64 << 20))
                assert limits.read(real_cgroup.name).quotas()[MEM] == 64 << 10


texts = st.none() | st.binary(max_size=40) | st.from_regex(rb"(max|-?\d{1,25})( \d{1,9})?\n?")


@given(texts, texts, texts, texts)
def test_whatever_stands_there_is_a_quantity(
    cpu_max: bytes | None, quota: bytes | None, period: bytes | None, memory: bytes | None
) -> None:
    """Garbage is no request; nothing is negative, nor more than a window can hold."""
    quotas = Limits(cpu_max, quota, period, memory).quotas()
    assert quotas.keys() == {CPU, MEM}
    assert all(0 <= value * 60_000 < 1 << 63 for value in quotas.values())
