"""Which of several claims may hold what only one run can hold. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from agent.model import Run


class Awaited(NamedTuple):
    """A cgroup that will be a run's, once it is known whose."""

    key: str
    cgroup: str
    pids: tuple[int, ...] = ()


class Claim(NamedTuple):
    """Somebody's live run, or one to come.

    The lower rank comes first, then the one that started first. `within` are cgroups that it
    is in without claiming them.
    """

    rank: int
    started_at_ms: int
    source: str
    run: Run | Awaited
    within: tuple[str, ...] = ()


def refuse_twins(claims: Iterable[Claim]) -> Mapping[str, str]:
    """Say for each source that comes too late what is already another's.

    A cgroup is taken with everything above and below it: its counters include both.
    """
    taken: dict[str, str] = {}
    refused: dict[str, str] = {}
    for claim in sorted(claims, key=lambda claim: claim[:3]):
        clash = next((mark for mark in _checks(claim) if mark in taken), None)
        if clash is None:
            taken |= dict.fromkeys(_marks(claim.run), claim.source)
        else:
            refused[claim.source] = (
                f"claims what {taken[clash]} holds ({clash}); remove one of them"
            )
    return refused


def _checks(claim: Claim) -> Iterator[str]:
    """What must not be taken yet."""
    run = claim.run
    for place in claim.within:
        yield from (f"cgroup {folder}" for folder in _upwards(place))
    yield f"run {run.key}"
    yield from (f"process {pid}" for pid in run.pids)
    if run.cgroup is not None:
        yield f"a part of cgroup {run.cgroup}"
        yield from (f"cgroup {folder}" for folder in _upwards(run.cgroup))


def _marks(run: Run | Awaited) -> Iterator[str]:
    """What is taken then."""
    yield f"run {run.key}"
    yield from (f"process {pid}" for pid in run.pids)
    if run.cgroup is not None:
        yield f"cgroup {run.cgroup}"
        yield from (f"a part of cgroup {folder}" for folder in _upwards(run.cgroup))


def _upwards(cgroup: str) -> Iterator[str]:
    """The cgroup and every one above it but the root: "/a/b", "/a"."""
    while cgroup:
        yield cgroup
        cgroup = cgroup.rpartition("/")[0]
