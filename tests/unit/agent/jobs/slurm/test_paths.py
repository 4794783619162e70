"""Where Slurm's jobs are, and what their paths say: every layout, and nothing else."""

import pytest

from agent.jobs.slurm.hostlist import is_in
from agent.jobs.slurm.paths import JobPlace, patterns, place_of

LAYOUTS = {
    "/slurm/uid_1001/job_7": JobPlace(None, 1001, "7", None),
    "/slurm_n1/uid_0/job_4294967295": JobPlace("n1", 0, "4294967295", None),
    "/slurm_gpu_a-1/uid_1001/job_7": JobPlace("gpu_a-1", 1001, "7", None),
    "/system.slice/slurmstepd.scope/job_7": JobPlace(None, None, "7", None),
    "/system.slice/n1_slurmstepd.scope/job_7": JobPlace("n1", None, "7", None),
    "/system.slice/gpu_a_slurmstepd.scope/job_7": JobPlace("gpu_a", None, "7", None),
    "/system.slice/slurmstepd.scope/s5K1KKYAYG5D00": JobPlace(None, None, None, "s5K1KKYAYG5D00"),
    "/system.slice/n1_slurmstepd.scope/s5K1KKYAYG5D00": JobPlace(
        "n1", None, None, "s5K1KKYAYG5D00"
    ),
}

STRANGERS = [
    "/slurm/uid_1001",
    "/slurm/uid_1001/system",
    "/slurm/uid_x/job_7",
    "/slurmfoo/uid_1/job_7",
    "/system.slice/slurmstepd.scope/system",
    "/system.slice/slurmstepd.scope/job_7x",
    "/system.slice/slurmstepd.scope/s5K1KKYAYG5D0I",  # I, L, O and U are no digits
    "/system.slice/slurmstepd.scope/s5K1KKYAYG5D0",
    "/system.slice/slurmd.service/job_7",
    "/other.slice/slurmstepd.scope/job_7",
    "/user.slice/system.slice/slurmstepd.scope/job_7",
]


def matched(path: str, *slices: str) -> JobPlace | None:
    """What the patterns make of a path, matched folder by folder as the watch does."""
    names = path.strip("/").split("/")
    for pattern in patterns(slices or ("system.slice",)):
        if len(pattern) == len(names) and all(
            part.fullmatch(name) for part, name in zip(pattern, names, strict=True)
        ):
            return place_of(names)
    return None


@pytest.mark.parametrize("path", LAYOUTS)
def test_every_layout_is_a_job_and_says_whose(path: str) -> None:
    """v1 and v2, one slurmd or several, number or SLUID."""
    assert matched(path) == LAYOUTS[path]


@pytest.mark.parametrize("path", STRANGERS)
def test_nothing_else_is_a_job(path: str) -> None:
    """Also not where a user made folders of these names below his own."""
    assert matched(path) is None


def test_a_slice_may_be_moved_into_others() -> None:
    """CgroupSlice: as systemd nests it, as it stands, or as a path."""
    place = JobPlace(None, None, "7", None)
    assert matched("/batch.slice/slurmstepd.scope/job_7", "batch.slice") == place
    assert matched("/a.slice/a-b.slice/slurmstepd.scope/job_7", "a-b.slice") == place
    assert matched("/a-b.slice/slurmstepd.scope/job_7", "a-b.slice") == place
    within = "/system.slice/slurmd.scope/system.slice"
    assert matched(f"{within}/slurmstepd.scope/job_7", within) == place
    assert matched("/system.slice/slurmstepd.scope/job_7", "batch.slice") is None


@pytest.mark.parametrize(
    ("name", "hostlist"),
    [
        ("n1", "n1"),
        ("n1", "n[1-3]"),
        ("n3", "gpu1,n[1,3],x"),
        ("n007", "n[001-010]"),
        ("n10", "n[9-11]"),
        ("r2n5", "r[1-2]n[4-6]"),
        ("n1-ib", "n[1-2]-ib"),
    ],
)
def test_a_hostlist_names_its_nodes(name: str, hostlist: str) -> None:
    """One name, ranges, several brackets."""
    assert is_in(name, hostlist)


@pytest.mark.parametrize(
    ("name", "hostlist"),
    [
        ("n1", "n2"),
        ("n1", "n[2-3]"),
        ("n7", "n[001-010]"),
        ("n1", "xn1"),
        ("n1", ""),
        ("n1", "n[1"),
        ("n1", "n[a-z]"),
        ("n.1", "n[11-12]"),
        ("n1", "n[0-999999999999999999999]"),
    ],
)
def test_a_hostlist_names_no_other(name: str, hostlist: str) -> None:
    """Also where it is broken."""
    assert not is_in(name, hostlist)
