"""What a job was given: the cgroup's word counts, and nothing requested is 0, never the node."""

from pathlib import Path

import pytest

from agent.jobs.slurm.facts import Facts
from agent.jobs.slurm.quotas import Limits, Quotas

NODE_KIB = 24_684_100  # of which Slurm sees 24105 MiB
ALL = b"25275924480\n"  # what Slurm 22.05 sets for a job that requested no memory on that node


@pytest.fixture
def quotas(tmp_path: Path) -> Quotas:
    return Quotas(v1_root=str(tmp_path), v2_root=None, total_kib=NODE_KIB)


@pytest.mark.parametrize(
    ("text", "count"),
    [(b"0\n", 1), (b"1,41\n", 2), (b"0-3,8\n", 5), (b"\n", None), (None, None), (b"x", None)],
)
def test_the_cpus_of_a_cgroup_are_counted(text: bytes | None, count: int | None) -> None:
    """An empty list is no limit: it may use what its parent may."""
    assert Limits(cpus=text).cpu_count() == count


@pytest.mark.parametrize(
    ("text", "kib"),
    [
        (b"209715200\n", 204800),
        (b"max\n", None),
        (b"9223372036854771712\n", None),
        (None, None),
        (b"", None),
        (b"-1", None),
    ],
)
def test_no_limit_is_no_memory(text: bytes | None, kib: int | None) -> None:
    """In the words of either version."""
    assert Limits(memory=text).mem_kib() == kib


def test_the_cgroup_counts_more_than_what_is_said(quotas: Quotas) -> None:
    """The environment is the user's, the cgroup is Slurm's."""
    limits = Limits(b"0-3\n", b"209715200\n")
    environ = Facts(cpus=1, mem_kib=1)
    assert quotas.cpu_m(limits, None, environ) == 4000
    assert quotas.mem_kib(limits, None, environ) == 204800


def test_without_limits_slurm_is_believed_then_the_environment(quotas: Quotas) -> None:
    """And where nobody says anything it is 0."""
    slurm, environ = Facts(cpus=2, mem_kib=20), Facts(cpus=1, mem_kib=10)
    nothing = Limits()
    assert (quotas.cpu_m(nothing, slurm, environ), quotas.mem_kib(nothing, slurm, environ)) == (
        2000,
        20,
    )
    assert (quotas.cpu_m(nothing, None, environ), quotas.mem_kib(nothing, None, environ)) == (
        1000,
        10,
    )
    assert (quotas.cpu_m(nothing, None, None), quotas.mem_kib(nothing, Facts(), Facts())) == (0, 0)


def test_a_limit_of_the_whole_node_is_no_request(quotas: Quotas) -> None:
    """Unless somebody says that all of it was requested."""
    limits = Limits(memory=ALL)
    assert quotas.mem_kib(limits, None, Facts()) == 0
    assert quotas.mem_kib(limits, None, Facts(mem_kib=24105 * 1024)) == 24105 * 1024
    assert quotas.mem_kib(limits, Facts(mem_kib=0), Facts(mem_kib=5)) == 0


def test_slurm_may_say_that_a_limit_was_not_requested(quotas: Quotas) -> None:
    """Later versions limit such a job to the memory that is configured for the node."""
    assert quotas.mem_kib(Limits(memory=b"8388608000"), Facts(mem_kib=0), None) == 0
    assert quotas.mem_kib(Limits(memory=b"8388608000"), Facts(mem_kib=1), None) == 8192000


def test_what_only_slurm_can_say_is_doubtful(quotas: Quotas) -> None:
    """A limit that the job says nothing of; CPUs that nobody names."""
    limits = Limits(b"0", b"209715200")
    assert not quotas.is_doubtful(limits, Facts(cpus=1, mem_kib=204800))
    assert quotas.is_doubtful(limits, Facts(cpus=1))
    assert quotas.is_doubtful(Limits(), Facts(mem_kib=5))
    assert not quotas.is_doubtful(Limits(), Facts(cpus=1))


def test_limits_are_read_from_either_layout(tmp_path: Path) -> None:
    """v1 has a hierarchy for each; nothing is kept by reading once."""
    v1 = Quotas(v1_root=str(tmp_path), v2_root=None, total_kib=0)
    v2 = Quotas(v1_root=str(tmp_path), v2_root=str(tmp_path / "unified"), total_kib=0)
    files = {
        "cpuset/slurm/job/cpuset.cpus": "0-1",
        "memory/slurm/job/memory.limit_in_bytes": "1024",
        "unified/scope/job/cpuset.cpus": "3",
        "unified/scope/job/memory.max": "2048",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert v1.read("/slurm/job", is_v2=False) == Limits(b"0-1", b"1024")
    assert v2.read_once("/scope/job", is_v2=True) == Limits(b"3", b"2048")
    (tmp_path / "unified/scope/job/memory.max").unlink()
    now = v2.read("/scope/job", is_v2=True)
    assert now.after(Limits(b"3", b"2048")) == Limits(b"3", b"2048")  # the last word stands
    v1.forget("/slurm/job", is_v2=False)
    v2.forget("/scope/job", is_v2=True)
