"""The storage sampler: what the last whole walk found, for as long as it means something."""

import logging
import os
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.config import Reader
from agent.model import MeterKey, Reading, ReadingKind, ResourceType, Run, RunKey
from agent.samplers.storage import StorageSampler, open_storage_sampler
from agent.samplers.storage.walk import Limits
from agent.samplers.storage.walks import Walks, Wanted
from agent.sections.storage import StorageSettings, ask_storage
from tests.unit.agent.cgrouptrees import CgroupTree
from tests.unit.agent.conftest import wait_until
from tests.unit.agent.jobs.contexts import Machine

SECOND = 1000
INTERVAL = 300 * SECOND
MIB = 1 << 20


def run_at(*paths: Path, key: str = "run", ended_at_ms: int | None = None) -> Run:
    return Run(
        key=RunKey(key),
        provider="files",
        job_id=key,
        job_name=key,
        started_at_ms=0,
        ended_at_ms=ended_at_ms,
        quotas={ResourceType.STORAGE: 0},
        storage_paths=tuple(map(str, paths)),
    )


class Bench:
    """Walks whose rounds and whose clock are the test's."""

    def __init__(self) -> None:
        self.now_ms = 1_000_000
        limits = Limits(entries=1000, seconds=60)
        self.walks = Walks(limits, INTERVAL, lambda: self.now_ms * 1_000_000)

    def note(self, run: Run) -> bool:
        return self.walks.note(run.key, Wanted(run.storage_paths))

    def kib(self, run: Run) -> int | None:
        held = self.walks.held(run.key, self.now_ms)
        return held.kib if held else None


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """A folder with a megabyte."""
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "file").write_bytes(b"x" * MIB)
    return tmp_path / "job"


def test_a_job_is_walked_when_it_is_new_and_once_an_interval(bench: Bench, job: Path) -> None:
    """Rounds in between have nothing to do."""
    run = run_at(job)
    assert bench.walks.round() == 0
    assert bench.note(run)
    assert not bench.note(run)
    assert bench.kib(run) is None
    assert bench.walks.round() == 1
    assert 1024 <= (bench.kib(run) or 0) < 1100
    bench.now_ms += INTERVAL - 1
    assert bench.walks.round() == 0
    bench.now_ms += 1
    assert bench.walks.round() == 1


def test_an_answer_holds_for_two_intervals(bench: Bench, job: Path) -> None:
    """After that nothing is known."""
    run = run_at(job)
    bench.note(run)
    bench.walks.round()
    bench.now_ms += 2 * INTERVAL
    assert bench.kib(run)
    bench.now_ms += 1
    assert bench.kib(run) is None


def test_a_walk_that_failed_keeps_the_last_whole_answer_for_its_time(
    bench: Bench, job: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told once, with the path, and once when it is over."""
    caplog.set_level(logging.INFO)
    run = run_at(job)
    bench.note(run)
    bench.walks.round()
    known = bench.kib(run)
    away = job.rename(job.parent / "away")
    for _ in range(2):
        bench.now_ms += INTERVAL
        bench.walks.round()
        assert bench.kib(run) == known
    bench.now_ms += INTERVAL
    bench.walks.round()
    assert bench.kib(run) is None
    assert bench.walks.failures() == {run.key: f"{job}: No such file or directory"}
    away.rename(job)
    bench.now_ms += INTERVAL
    bench.walks.round()
    assert bench.kib(run) == known
    assert bench.walks.failures() == {}
    assert [record.message for record in caplog.records] == [
        "storage is not metered",
        "storage is metered again",
    ]
    assert str(job) in str(vars(caplog.records[0])["reason"])


def test_one_job_that_cannot_be_walked_does_not_stop_the_others(bench: Bench, job: Path) -> None:
    """Each has its own answer; too many entries are one's own fault."""
    for number in range(1001):
        (job / str(number)).touch()
    small = job.parent / "small"
    small.mkdir()
    large, other = run_at(job, key="large"), run_at(small, key="other")
    bench.note(large)
    bench.note(other)
    assert bench.walks.round() == 2
    assert bench.kib(large) is None
    assert bench.kib(other) is not None
    assert "more than 1000 entries" in bench.walks.failures()[large.key]


def test_other_paths_are_another_answer(bench: Bench, job: Path, tmp_path: Path) -> None:
    """What the old ones held is not what the new ones hold."""
    bench.note(run_at(job))
    bench.walks.round()
    new = run_at(job, tmp_path / "other")
    (tmp_path / "other").mkdir()
    assert bench.note(new)
    assert bench.kib(new) is None
    assert bench.walks.round() == 1
    assert bench.kib(new)


def test_a_forgotten_job_is_not_walked(bench: Bench, job: Path) -> None:
    """And when its walk is under way, that leaves nothing behind."""
    run = run_at(job)
    bench.note(run)
    bench.walks.forget(run.key)
    assert bench.walks.round() == 0
    bench.note(run)
    bench.walks._walk(run.key, Wanted(("/elsewhere",)), bench.now_ms, None)
    assert bench.walks.failures() == {}


def test_closing_ends_the_round(bench: Bench, job: Path) -> None:
    """An agent that stops begins no further walk."""
    bench.note(run_at(job))
    bench.walks.close()
    assert bench.walks.round() == 0


@pytest.fixture
def sampler(tmp_path: Path) -> Iterator[StorageSampler]:
    machine = Machine(CgroupTree(tmp_path / "cgroup", "v2"), "")
    sampler = open_storage_sampler(machine.context())
    assert isinstance(sampler, StorageSampler)
    yield sampler
    sampler.close()


def levels(sampler: StorageSampler, *runs: Run) -> Callable[[], list[str]]:
    return lambda: [key.run for key in sampler.sample(runs)]


def test_every_sample_repeats_the_level_in_kib(sampler: StorageSampler, job: Path) -> None:
    """A level that is not repeated would hold for a minute only."""
    run, idle = run_at(job), replace(run_at(), key=RunKey("idle"))
    assert sampler.sample([idle]) == {}
    wait_until(levels(sampler, run, idle))
    first, second = sampler.sample([run, idle]), sampler.sample([run, idle])
    assert first == second
    key = MeterKey(run.key, ResourceType.STORAGE, None)
    assert list(first) == [key]
    blocks = sum(path.stat().st_blocks for path in (job, job / "file"))
    assert first[key] == Reading(kind=ReadingKind.LEVEL, value=blocks // 2)
    assert sampler.problems() == {}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's files")
def test_a_plain_user_is_told_only_of_what_is_his(sampler: StorageSampler, job: Path) -> None:
    """The agent may read what he may not, and would tell him its size on his bill."""
    (job / "theirs").mkdir()
    (job / "theirs" / "file").write_bytes(b"x" * MIB)
    for path in (job, job / "file"):
        os.chown(path, 2, -1)
    his = replace(run_at(job), own_word_of=2)
    spying = replace(run_at(job / "theirs", key="spying"), own_word_of=2)
    wait_until(levels(sampler, his, spying))
    blocks = sum(path.stat().st_blocks for path in (job, job / "file"))
    assert [reading.value for reading in sampler.sample([his]).values()] == [blocks // 2]
    wait_until(sampler.problems)
    assert sampler.problems()[spying.key].endswith(
        "is another user's; only root's files may name it"
    )
    assert sampler.sample([spying]) == {}


def test_a_new_job_does_not_wait_for_the_interval(sampler: StorageSampler, job: Path) -> None:
    """The second one's first walk is at once, too."""
    wait_until(levels(sampler, run_at(job)))
    wait_until(levels(sampler, run_at(job, key="second")))


def test_an_ended_job_is_walked_no_more(sampler: StorageSampler, job: Path) -> None:
    """Its last level holds to the end."""
    wait_until(levels(sampler, run_at(job)))
    assert sampler.sample([run_at(job, ended_at_ms=5)]) == {}
    assert sampler.sample([run_at(job)]) == {}
    sampler.forget([RunKey("run"), RunKey("unknown")])


def test_a_path_that_cannot_be_walked_is_a_problem(sampler: StorageSampler, job: Path) -> None:
    """No reading, and a message that names it."""
    run = run_at(job / "nowhere")
    sampler.sample([run])
    wait_until(sampler.problems)
    assert sampler.problems() == {run.key: f"{job}/nowhere: No such file or directory"}
    assert sampler.sample([run]) == {}


def test_a_saved_tree_has_no_storage(tmp_path: Path) -> None:
    """Its paths are another machine's: this one's must not be walked for them."""
    machine = Machine(CgroupTree(tmp_path / "cgroup", "v2"), "")
    assert open_storage_sampler(machine.context(is_live=False, root=str(tmp_path))) is None


def test_the_settings_have_bounds() -> None:
    """Minutes between walks, not milliseconds."""
    assert ask_storage(Reader({}, {})) == StorageSettings()
    text = "[storage]\ninterval_seconds = 5\nmax_entries = 0\nmax_seconds = 10000"
    reader = Reader(tomllib.loads(text), {})
    assert ask_storage(reader) == StorageSettings()
    assert len(reader.problems()) == 3
