"""What only one run can hold is metered once."""

from agent.jobs.claims import Claim, refuse_twins
from agent.model import Run, RunKey


def claim(
    file: str,
    *,
    key: str = "",
    cgroup: str | None = None,
    pids: tuple[int, ...] = (),
    start: int = 0,
    is_distrusted: bool = False,
) -> Claim:
    run = Run(
        key=RunKey(key or file),
        provider="files",
        job_id=file,
        job_name=file,
        started_at_ms=start,
        quotas={},
        cgroup=cgroup,
        pids=pids,
    )
    return Claim(is_distrusted, start, file, run)


def test_different_runs_do_not_disturb_each_other() -> None:
    """Siblings, and names that only begin alike, are different cgroups."""
    claims = [
        claim("a", cgroup="/jobs/a"),
        claim("b", cgroup="/jobs/ab"),
        claim("c", pids=(5,)),
        claim("d", pids=(6,)),
    ]
    assert refuse_twins(claims) == {}


def test_a_cgroup_is_held_with_all_above_and_below() -> None:
    """A counter includes the cgroups below it: nesting would bill the inner one twice."""
    outer, inner = claim("outer", cgroup="/jobs"), claim("inner", cgroup="/jobs/a/b")
    assert set(refuse_twins([outer, inner])) == {"outer"}  # by name, where nothing else differs
    assert set(refuse_twins([claim("x", cgroup="/jobs", start=-1), inner])) == {"inner"}
    assert set(refuse_twins([claim("y", cgroup="/jobs/a/b"), inner])) == {"y"}


def test_one_process_belongs_to_one_run() -> None:
    """The refused file's message names the holder and what it holds."""
    refused = refuse_twins([claim("a", pids=(5, 6)), claim("b", pids=(6, 7))])
    assert refused == {"b": "claims what a holds (process 6); remove one of them"}


def test_one_key_is_one_run() -> None:
    """Two files with one job_id and one start are one job, described twice."""
    assert set(refuse_twins([claim("a", key="k"), claim("b", key="k")])) == {"b"}


def test_trust_comes_before_age() -> None:
    """A user's file cannot push out root's by pretending to be older."""
    users = claim("a", cgroup="/jobs/a", start=0, is_distrusted=True)
    roots = claim("z", cgroup="/jobs/a", start=9)
    assert set(refuse_twins([users, roots])) == {"a"}


def test_a_refused_file_holds_nothing() -> None:
    """What only a refused file claims is free for the next."""
    first, second = claim("a", pids=(1, 2)), claim("b", pids=(2, 3))
    third = claim("c", pids=(3,))
    assert set(refuse_twins([first, second, third])) == {"b"}
