"""Says which run each process is of, so that no process tree lies in another one. Pure.

A run is sampled with everything below its processes, so what lies below a process of
another run would be billed twice. The rules, first match:

- below a user's process everything is that user's run, whatever the environment says:
  naming another job there neither hides what is used nor bills it again;
- a process of root's below which another run's lies is a launcher: it is of no run;
- else it is of the job that it names, of its account.

Who was told once stays where it is: a parent that ends changes nothing.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

JobOf: TypeAlias = tuple[str, int]
"""The job's id, and the account that runs it."""

_ROOT = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A process that names a job. `start` counts ticks since the boot; `words` are variables."""

    pid: int
    start: int
    parent: int
    uid: int
    job_id: str
    words: Mapping[str, str]

    @property
    def own_job(self) -> JobOf:
        """What it says itself."""
        return self.job_id, self.uid


class Groups:
    """Remembers where every living process was put."""

    def __init__(self) -> None:
        """Know nobody."""
        self._places: dict[int, tuple[Member, JobOf | None]] = {}  # None = a launcher

    def assign(
        self, members: Mapping[int, Member], parents: Mapping[int, int]
    ) -> Mapping[JobOf, list[Member]]:
        """The processes of each run; `parents` are those of all processes."""
        for pid, (member, _) in list(self._places.items()):
            if members.get(pid) is not member:
                del self._places[pid]
        fresh = [member for pid, member in members.items() if pid not in self._places]
        for member in sorted(fresh, key=lambda member: (member.start, member.pid)):
            self._place(member, parents)
        runs: dict[JobOf, list[Member]] = {}
        for member, job in self._places.values():
            if job is not None:
                runs.setdefault(job, []).append(member)
        return runs

    def _place(self, member: Member, parents: Mapping[int, int]) -> None:
        above = list(self._above(member, parents))
        users = (job for _, job in above if job is not None and job[1] != _ROOT)
        job = next(users, member.own_job)
        self._places[member.pid] = member, job
        for ancestor, its_job in above:
            if its_job != job:
                self._places[ancestor.pid] = ancestor, None

    def _above(
        self, member: Member, parents: Mapping[int, int]
    ) -> Iterator[tuple[Member, JobOf | None]]:
        """Its ancestors that name a job, the nearest first."""
        seen = {member.pid}
        pid = member.parent
        while pid in parents and pid not in seen:
            seen.add(pid)
            if pid in self._places:
                yield self._places[pid]
            pid = parents[pid]


def roots_of(members: list[Member]) -> Iterator[int]:
    """Those whose parent is not one of them."""
    pids = {member.pid for member in members}
    return (member.pid for member in members if member.parent not in pids)
