"""Kept descriptors: one call per reading, and never a reading of something else."""

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.keptfiles import KeptFiles
from tests.descriptors import open_descriptors

OPEN_FILES = Path("/proc/self/fd")


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    paths = [tmp_path / str(index) for index in range(20)]
    for path in paths:
        path.write_text(path.name)
    return [str(path) for path in paths]


@pytest.fixture
def few_descriptors() -> Iterator[None]:
    """Leave room for five more open files."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(path.name) for path in OPEN_FILES.iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 6, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_file_is_read_anew_through_the_same_descriptor(files: list[str]) -> None:
    """A kernel file's content changes; its descriptor stays."""
    kept = KeptFiles(limit=10)
    assert kept.read(files[3]) == b"3"
    assert open_descriptors(files[3]) == 1
    Path(files[3]).write_text("other")
    assert kept.read(files[3]) == b"other"
    assert open_descriptors(files[3]) == 1
    kept.close()


def test_what_cannot_be_read_is_none(tmp_path: Path) -> None:
    """Gone, forbidden, a folder: all the same to a sampler, and never b""."""
    kept = KeptFiles()
    assert kept.read(str(tmp_path / "gone")) is None
    assert kept.read(str(tmp_path)) is None


def test_no_more_is_kept_than_the_limit(files: list[str]) -> None:
    """What does not fit is opened each time."""
    kept = KeptFiles(limit=5)
    for _ in range(2):
        assert [kept.read(path) for path in files] == [str(index).encode() for index in range(20)]
    assert sum(map(open_descriptors, files)) == 5
    kept.close()
    assert sum(map(open_descriptors, files)) == 0


@pytest.mark.usefixtures("few_descriptors")
def test_running_out_of_descriptors_loses_no_reading(files: list[str]) -> None:
    """At EMFILE half of what is kept is given back: the spool needs descriptors, too."""
    kept = KeptFiles(limit=1000)
    for _ in range(2):
        assert all(kept.read(path) is not None for path in files)
    with Path(files[0]).open("rb") as spare:
        assert spare.read() == b"0"
    kept.close()


def test_forgetting_closes(files: list[str]) -> None:
    """Forgetting is per file and may be repeated."""
    kept = KeptFiles(limit=5)
    kept.read(files[0])
    assert open_descriptors(files[0]) == 1
    kept.forget(files[0])
    kept.forget(files[0])
    assert open_descriptors(files[0]) == 0
