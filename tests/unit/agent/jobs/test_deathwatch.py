"""The death watch: an end is heard at the instant, whatever a run consists of."""

import os
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from agent.cgroups import Hierarchies, find_hierarchies
from agent.jobs.deathwatch import DeathWatch
from agent.model import Run, RunKey
from agent.procfs import ProcFs
from tests.descriptors import open_descriptors
from tests.unit.agent.conftest import CGROUP_ROOT, RealCgroup

NOW_MS = 1_770_350_400_000
KEY = RunKey("files:a@1")
RUN = Run(key=KEY, provider="files", job_id="a", job_name="a", started_at_ms=NOW_MS, quotas={})

Sleeper = subprocess.Popen[bytes]


class Watch:
    """A death watch whose clock stands, and whether it asked for a look."""

    def __init__(self, hierarchies: Hierarchies) -> None:
        self.woken = threading.Event()
        self.deaths = DeathWatch(hierarchies, ProcFs(), now_ms=lambda: NOW_MS, wake=self.woken.set)

    def hears_the_end(self) -> bool:
        return self.woken.wait(20) and self.deaths.ended_at_ms(KEY) == NOW_MS

    def is_silent(self) -> bool:
        return not self.woken.wait(0.1) and self.deaths.ended_at_ms(KEY) is None


@pytest.fixture
def watch() -> Watch:
    return Watch(find_hierarchies(CGROUP_ROOT))


@pytest.fixture
def sleepers() -> Iterator[list[Sleeper]]:
    started = [subprocess.Popen(["sleep", "600"]) for _ in range(2)]
    yield started
    for sleeper in started:
        sleeper.kill()
        sleeper.wait()


def end(sleeper: Sleeper) -> None:
    sleeper.kill()
    sleeper.wait()


def test_a_list_of_processes_ends_with_the_last_one(watch: Watch, sleepers: list[Sleeper]) -> None:
    """Not with the first; one that is gone already is no fault."""
    first, second = sleepers
    run = replace(RUN, pids=(first.pid, second.pid, (1 << 22) - 1))
    watch.deaths.watch(run)
    watch.deaths.watch(run)
    end(first)
    assert watch.is_silent()
    end(second)
    assert watch.hears_the_end()


@pytest.mark.parametrize("is_first", [True, False])
def test_a_cgroup_ends_with_its_last_process(
    watch: Watch, sleepers: list[Sleeper], real_cgroup: RealCgroup, *, is_first: bool
) -> None:
    """While another one lives there is no end; that it is removed at once changes nothing."""
    first, _ = sleepers if is_first else sleepers[::-1]
    for sleeper in sleepers:
        real_cgroup.add(sleeper.pid)
    watch.deaths.watch(replace(RUN, cgroup=real_cgroup.name))
    end(first)
    assert watch.is_silent()
    real_cgroup.remove()
    assert watch.hears_the_end()


def test_a_cgroup_that_fills_again_ends_again(
    watch: Watch, sleepers: list[Sleeper], real_cgroup: RealCgroup
) -> None:
    """Who sees it alive has it watched anew; what was heard before is no end of it."""
    first, second = sleepers
    run = replace(RUN, cgroup=real_cgroup.name)
    real_cgroup.add(first.pid)
    watch.deaths.watch(run)
    end(first)
    assert watch.hears_the_end()
    real_cgroup.add(second.pid)
    watch.woken.clear()
    watch.deaths.watch(run)
    assert watch.is_silent()
    end(second)
    assert watch.hears_the_end()


def test_a_run_that_is_forgotten_leaves_nothing(watch: Watch, sleepers: list[Sleeper]) -> None:
    """No descriptor, and no end that could be another run's."""
    run = replace(RUN, pids=tuple(sleeper.pid for sleeper in sleepers))
    before = open_descriptors("[pidfd]")
    watch.deaths.watch(run)
    assert open_descriptors("[pidfd]") == before + 2
    watch.deaths.forget(KEY)
    assert open_descriptors("[pidfd]") == before
    end(sleepers[0])
    end(sleepers[1])
    assert watch.is_silent()


def test_what_cannot_be_watched_is_not(
    watch: Watch, sleepers: list[Sleeper], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part of a list would tell of an end that is none: then nobody is waited for."""
    held = os.pidfd_open(sleepers[0].pid)
    fds = [held]

    def open_one(_pid: int) -> int:
        if not fds:
            raise OSError(24, "no descriptor left")
        return fds.pop()

    monkeypatch.setattr(os, "pidfd_open", open_one)
    watch.deaths.watch(replace(RUN, pids=tuple(sleeper.pid for sleeper in sleepers)))
    end(sleepers[0])
    assert watch.is_silent()
    watch.deaths.watch(replace(RUN, key=RunKey("b"), pids=tuple(range(2, 3000))))
    assert watch.deaths.ended_at_ms(RunKey("b")) is None
