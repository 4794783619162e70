"""The job's cgroup: limits in both versions, on trees that stand for machines we are not on."""

from pathlib import Path

import pytest

from agent.cgroups import Hierarchies, find_hierarchies
from agent.errors import LaunchError
from agent.launch.clone import fork_into
from agent.launch.group import JobGroup, make_group

KIB_64_MIB = 64 << 10


def tree(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text("")
    return folder


@pytest.fixture
def v2(tmp_path: Path) -> tuple[JobGroup, Path]:
    folder = tree(tmp_path / "job", "cpu.max", "memory.max", "cpu.stat")
    return JobGroup("/nodemeter/job", {"v2": str(folder)}), folder


@pytest.fixture
def v1(tmp_path: Path) -> tuple[JobGroup, Path]:
    tree(tmp_path / "cpu", "cpu.cfs_period_us", "cpu.cfs_quota_us")
    tree(tmp_path / "memory", "memory.limit_in_bytes")
    tree(tmp_path / "cpuacct", "cpuacct.usage")
    names = ("cpu", "memory", "cpuacct")
    return JobGroup("/nodemeter/job", {name: str(tmp_path / name) for name in names}), tmp_path


@pytest.mark.parametrize(
    ("cpu_m", "line"), [(500, "50000 100000"), (2000, "200000 100000"), (10, "1000 100000"),
                        (5, "5000 1000000"), (1, "1000 1000000")],
)  # fmt: skip
def test_v2_limits(v2: tuple[JobGroup, Path], cpu_m: int, line: str) -> None:
    """A quota of at least 1 ms, which is the least that the kernel takes."""
    group, folder = v2
    group.limit(cpu_m, KIB_64_MIB)
    assert (folder / "cpu.max").read_text() == line
    assert (folder / "memory.max").read_text() == str(64 << 20)


def test_v1_limits(v1: tuple[JobGroup, Path]) -> None:
    """Period and quota are two files there."""
    group, folder = v1
    group.limit(500, KIB_64_MIB)
    assert (folder / "cpu" / "cpu.cfs_period_us").read_text() == "100000"
    assert (folder / "cpu" / "cpu.cfs_quota_us").read_text() == "50000"
    assert (folder / "memory" / "memory.limit_in_bytes").read_text() == str(64 << 20)


def test_only_what_was_asked_for_is_limited(v2: tuple[JobGroup, Path]) -> None:
    """0 is no limit, not a limit of nothing."""
    group, folder = v2
    group.limit(0, KIB_64_MIB)
    assert (folder / "cpu.max").read_text() == ""


@pytest.mark.parametrize(("cpu_m", "mem_kib", "what"), [(1, 0, "cpu"), (0, 1, "memory")])
def test_a_missing_controller_is_named(tmp_path: Path, cpu_m: int, mem_kib: int, what: str) -> None:
    """The sentence says which one, and how to go on without."""
    for folders in ({"v2": str(tmp_path)}, {"cpuacct": str(tmp_path)}):
        with pytest.raises(LaunchError, match=f"the {what} controller .* leave --enforce out"):
            JobGroup("/x", folders).limit(cpu_m, mem_kib)


def test_cpu_time_is_read_in_both_versions(
    v1: tuple[JobGroup, Path], v2: tuple[JobGroup, Path]
) -> None:
    """Microseconds; None where it cannot be read."""
    (v1[1] / "cpuacct" / "cpuacct.usage").write_text("1999\n")
    (v2[1] / "cpu.stat").write_text("usage_usec 42\nuser_usec 40\n")
    assert v1[0].cpu_usec() == 1
    assert v2[0].cpu_usec() == 42
    (v2[1] / "cpu.stat").write_text("")
    assert v2[0].cpu_usec() is None


def test_controllers_are_switched_on_down_to_the_job(tmp_path: Path) -> None:
    """In the root and in the common parent; cpu only where a limit needs it."""
    tree(tmp_path, "cgroup.controllers", "cgroup.procs", "cgroup.subtree_control")
    tree(tmp_path / "nodemeter", "cgroup.subtree_control")
    group = make_group(find_hierarchies(str(tmp_path)), "job-1", limits_cpu=False)
    assert group is not None
    assert group.path == "/nodemeter/job-1"
    assert (tmp_path / "nodemeter" / "job-1").is_dir()
    for folder in (tmp_path, tmp_path / "nodemeter"):
        assert (folder / "cgroup.subtree_control").read_text() == "+memory"
    make_group(find_hierarchies(str(tmp_path)), "job-2", limits_cpu=True)
    assert "+cpu" in (tmp_path / "nodemeter" / "cgroup.subtree_control").read_text()


def test_v1_leaves_the_cpu_controller_alone_without_a_limit(tmp_path: Path) -> None:
    """Being in a cpu group changes the share of the processors; metering must not."""
    for name in ("cpu", "cpuacct", "memory"):
        tree(tmp_path / name, "tasks")
    hierarchies = find_hierarchies(str(tmp_path))
    assert make_group(hierarchies, "free", limits_cpu=False)
    assert not (tmp_path / "cpu" / "nodemeter").exists()
    assert make_group(hierarchies, "bound", limits_cpu=True)
    assert (tmp_path / "cpu" / "nodemeter" / "bound").is_dir()


def test_joint_v1_controllers_are_one_folder(tmp_path: Path) -> None:
    """Most machines mount cpu and cpuacct together, under both names."""
    tree(tmp_path / "cpu,cpuacct", "tasks")
    for name in ("cpu", "cpuacct"):
        (tmp_path / name).symlink_to("cpu,cpuacct")
    group = make_group(find_hierarchies(str(tmp_path)), "job", limits_cpu=False)
    assert group is not None
    group.remove()
    assert not (tmp_path / "cpu,cpuacct" / "nodemeter" / "job").exists()


def test_without_hierarchies_there_is_no_group() -> None:
    """Then the job is a process tree."""
    assert make_group(Hierarchies(None, {}), "job", limits_cpu=False) is None


def test_a_cgroup_that_is_none_is_not_forked_into(tmp_path: Path) -> None:
    """The caller forks as usual then."""
    assert fork_into(str(tmp_path)) is None
    assert fork_into(str(tmp_path / "gone")) is None
