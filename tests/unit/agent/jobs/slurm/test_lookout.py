"""Who is looked into how often, and that nothing that happens there stops the looking."""

from collections.abc import Callable, Iterator
from queue import Queue

import pytest

from agent.cgroupwatch import FoundCgroup
from agent.jobs.slurm.facts import Facts
from agent.jobs.slurm.lookout import Lookout
from agent.jobs.slurm.paths import JobPlace
from agent.jobs.slurm.quotas import Limits
from agent.jobs.slurm.sighting import Sighting, Subject
from tests.unit.agent.conftest import wait_until

Look = Callable[[Subject], Sighting]


def subject(number: int = 1) -> Subject:
    names = ("slurm", "uid_0", f"job_{number}")
    path = "/" + "/".join(names)
    found = FoundCgroup(path=path, names=names, inode=number, is_v2=False, born_at_ms=5)
    return Subject(found, JobPlace(None, 0, str(number), None), "/nonexistent")


class Scripted:
    """Shows one sighting after the other, the last one for ever; an exception is raised."""

    def __init__(self, *sightings: Sighting | Exception) -> None:
        self.left = list(sightings)
        self.looks: Queue[Subject] = Queue()

    def __call__(self, subject: Subject) -> Sighting:
        """See `Looker.look`."""
        self.looks.put(subject)
        now = self.left.pop(0) if len(self.left) > 1 else self.left[0]
        if isinstance(now, Exception):
            raise now
        return now


@pytest.fixture
def opened() -> Iterator[Callable[[Look], Lookout]]:
    lookouts: list[Lookout] = []

    def make(look: Look, *, told: Callable[[], None] = lambda: None) -> Lookout:
        lookouts.append(Lookout(look, told=told, is_live=True))
        return lookouts[-1]

    yield make
    for lookout in lookouts:
        lookout.close()


KNOWN = Sighting(environ=Facts(job_id="1"), is_populated=True, oldest_ms=7)


def test_it_looks_until_it_is_known_who_it_is(opened: Callable[[Look], Lookout]) -> None:
    """And what was seen once is not forgotten when it cannot be seen any more."""
    limited = Sighting(uid=3, limits=Limits(cpus=b"0-1"), is_populated=True)
    look = Scripted(Sighting(), limited, Sighting(limits=Limits(memory=b"5")), KNOWN)
    lookout = opened(look)
    lookout.add(subject())
    lookout.add(subject())
    key = subject().found.key
    wait_until(lambda: (seen := lookout.sighting(key)) and seen.environ)
    seen = lookout.sighting(key)
    assert seen
    assert (seen.uid, seen.limits, seen.oldest_ms) == (3, Limits(b"0-1", b"5"), 7)
    assert look.looks.qsize() == 4


def test_a_look_that_fails_unforeseen_is_no_end_of_looking(
    opened: Callable[[Look], Lookout], caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, and the next one may succeed; others are looked into meanwhile."""
    lookout = opened(Scripted(ZeroDivisionError("unforeseen"), KNOWN))
    lookout.add(subject(1))
    lookout.add(subject(2))
    wait_until(
        lambda: all((s := lookout.sighting(subject(n).found.key)) and s.environ for n in (1, 2))
    )
    assert "unforeseen" in caplog.text


def test_one_that_is_forgotten_is_looked_into_no_more(opened: Callable[[Look], Lookout]) -> None:
    """Nor is anything known of it."""
    look = Scripted(Sighting())
    lookout = opened(look)
    lookout.add(subject())
    look.looks.get(timeout=20)
    lookout.forget([subject().found.key, "unknown"])
    assert lookout.sighting(subject().found.key) is None
    lookout.add(subject(2))
    while look.looks.get(timeout=20).found.inode != 2:
        pass
    while look.looks.get(timeout=20).found.inode != 2:
        pass
    assert lookout.sighting(subject(2).found.key) is not None


def test_who_waits_for_the_first_looks_waits_no_longer_than_it_likes(
    opened: Callable[[Look], Lookout],
) -> None:
    """A look may hang on a process that cannot be read."""
    release: Queue[None] = Queue()

    def hang(_: Subject) -> Sighting:
        release.get(timeout=20)
        return KNOWN

    lookout = opened(hang)
    lookout.add(subject())
    lookout.wait_for_first(0.01)
    assert lookout.sighting(subject().found.key) is None
    release.put(None)
    lookout.wait_for_first(20)
    assert lookout.sighting(subject().found.key) == KNOWN
