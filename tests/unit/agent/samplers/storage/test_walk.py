"""Walking a tree: what `du` says of it, and never a part of the truth."""

import ctypes
import os
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.clock import SystemTime
from agent.errors import SamplerError
from agent.samplers.storage.walk import Limits, Walk, outermost
from tests.descriptors import open_descriptors

NO_LIMITS = Limits(entries=1_000_000, seconds=60)


def go_on(_seconds: float) -> bool:
    return False


def walked(*paths: Path | str, limits: Limits = NO_LIMITS) -> int:
    walk = Walk(limits, SystemTime().monotonic_ns, go_on)
    return walk.bytes_below([str(path) for path in paths])


def du(*paths: Path) -> int:
    command = ["du", "-sxc", "--block-size=1", "--", *map(str, paths)]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return int(lines.splitlines()[-1].split()[0])


def fill(path: Path, size: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(os.urandom(size))
    return path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Files of several sizes, folders in folders, an empty one."""
    for number in range(30):
        fill(tmp_path / "job" / f"d{number % 5}" / f"e{number % 3}" / f"f{number}", number * 700)
    (tmp_path / "job" / "empty").mkdir()
    return tmp_path / "job"


def test_a_tree_holds_what_du_says(tree: Path) -> None:
    """Allocated blocks of files and folders."""
    assert walked(tree) == du(tree) > 0


def test_a_file_is_a_path_too(tree: Path) -> None:
    """By itself."""
    file = fill(tree / "big", 100_000)
    assert walked(file) == du(file) >= 100_000


def test_a_sparse_file_holds_what_is_allocated(tree: Path) -> None:
    """A gigabyte of nothing is next to nothing."""
    with (tree / "sparse").open("wb") as file:
        file.truncate(1 << 30)
    assert walked(tree) == du(tree) < 1 << 20


def test_a_file_with_several_names_counts_once(tree: Path) -> None:
    """Also where its names are in different paths of the job."""
    file = fill(tree / "one", 200_000)
    before = walked(tree)
    for number in range(3):
        os.link(file, tree / f"twin{number}")
    assert walked(tree) == before
    other = tree.parent / "other"
    other.mkdir()
    os.link(file, other / "twin")
    assert (
        walked(tree, other)
        == du(tree, other)
        == before + walked(other) - file.stat().st_blocks * 512
    )


def test_links_are_not_followed(tree: Path) -> None:
    """Neither to files nor to folders, nor in a circle."""
    outside = fill(tree.parent / "outside" / "big", 500_000)
    before = walked(tree)
    (tree / "file").symlink_to(outside)
    (tree / "folder").symlink_to(outside.parent)
    (tree / "d0" / "up").symlink_to("..")
    assert walked(tree) == du(tree) <= before + 3 * 4096


def test_a_path_that_is_a_link_is_refused(tree: Path) -> None:
    """It holds nothing itself, which is not what was meant."""
    link = tree.parent / "link"
    link.symlink_to(tree)
    with pytest.raises(SamplerError, match=f"{link}: is a symbolic link; name what it points to"):
        walked(link)


def test_a_path_that_is_not_there_is_no_zero(tmp_path: Path) -> None:
    """Not mounted yet, or never made: not known."""
    with pytest.raises(SamplerError, match=r"nowhere: No such file or directory"):
        walked(tmp_path / "nowhere")


def test_other_file_systems_are_not_entered(tree: Path) -> None:
    """What is mounted below a path is not the path's."""
    mounted = tree / "mounted"
    mounted.mkdir()
    command = ["mount", "-t", "tmpfs", "none", str(mounted)]
    if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        fill(mounted / "big", 300_000)
        assert du(mounted) >= 300_000
        assert walked(tree) == du(tree)
        assert walked(mounted) == du(mounted)
    finally:
        subprocess.run(["umount", str(mounted)], check=True)


def walked_as_nobody(*paths: Path) -> int | str:
    """What a thread finds, or why not, that may read no more than anybody may."""
    found: list[int | str] = []

    def walk() -> None:
        if os.geteuid() == 0:
            ctypes.CDLL(None).setfsuid(65534)  # of this thread alone, and root's power with it
        try:
            found.append(walked(*paths))
        except SamplerError as error:
            found.append(str(error))

    thread = threading.Thread(target=walk)
    thread.start()
    thread.join()
    return found[0]


def test_what_cannot_be_read_makes_no_part_of_an_answer() -> None:
    """A folder that is closed to the agent, named in the message."""
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        top.chmod(0o755)
        fill(top / "open" / "big", 100_000)
        closed = top / "closed"
        closed.mkdir(0o000)
        assert walked_as_nobody(top) == f"{closed}: Permission denied"
        closed.chmod(0o755)
        assert walked_as_nobody(top) == du(top)


def test_a_path_that_is_too_long_makes_none_either(tmp_path: Path) -> None:
    """Folders in folders until no path names them: they cannot hide what they hold."""
    fd = os.open(tmp_path, os.O_RDONLY)
    for _ in range(21):
        os.mkdir("d" * 200, dir_fd=fd)
        inner = os.open("d" * 200, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(fd)
    try:
        with pytest.raises(SamplerError, match="d: File name too long"):
            walked(tmp_path)
    finally:
        subprocess.run(["rm", "-rf", str(tmp_path / ("d" * 200))], check=True)


def test_a_tree_that_is_too_large_is_given_up(tree: Path) -> None:
    """A hundred entries and no more, whatever a user puts there."""
    count = len(list(tree.rglob("*"))) + 1
    assert walked(tree, limits=Limits(entries=count, seconds=60)) == du(tree)
    with pytest.raises(SamplerError, match=rf"/job/.*: there are more than {count - 1} entries"):
        walked(tree, limits=Limits(entries=count - 1, seconds=60))


def test_a_walk_that_takes_too_long_is_given_up(tree: Path) -> None:
    """By a clock of its own; it is looked at every 500 entries."""
    (tree / "many").mkdir()
    for number in range(1200):
        (tree / "many" / str(number)).touch()
    times = iter(range(10_000))
    walk = Walk(Limits(entries=10_000, seconds=2), lambda: next(times) * 1_000_000_000, go_on)
    with pytest.raises(SamplerError, match=r"/many/\d+: not done after 2 s"):
        walk.bytes_below([str(tree)])


def test_a_walk_rests_four_times_as_long_as_it_works(tree: Path) -> None:
    """And never longer than a second at a time; it ends when it is told to."""
    (tree / "many").mkdir()
    for number in range(1600):
        (tree / "many" / str(number)).touch()
    pauses: list[float] = []
    instants = iter([0, 1_000_000, 1_000_000, 601_000_000, 601_000_000, 700_000_000])

    def rest(seconds: float) -> bool:
        pauses.append(seconds)
        return len(pauses) == 3

    walk = Walk(NO_LIMITS, lambda: next(instants), rest)
    with pytest.raises(SamplerError, match="the agent ends"):
        walk.bytes_below([str(tree)])
    assert pauses == [0.004, 1.0, 0.396]


def test_a_tree_that_changes_under_the_walk_is_no_failure(tmp_path: Path) -> None:
    """What vanishes meanwhile is not held any more."""
    fill(tmp_path / "stays" / "big", 100_000)
    ending = threading.Event()

    def churn() -> None:
        number = 0
        while not ending.is_set():
            number += 1
            folder = tmp_path / f"job{number % 7}"
            with suppress(FileExistsError):
                fill(folder / "inner" / "file", 5000)
                (folder / "inner" / "file").unlink()
                (folder / "inner").rmdir()
                folder.rmdir()

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(200):
            assert 100_000 <= walked(tmp_path) <= 300_000
    finally:
        ending.set()
        thread.join()


def below(folder: Path, *, is_top: bool = False) -> Iterator[str]:
    """The names that a walk finds in one folder, one after the other."""
    walk = Walk(NO_LIMITS, SystemTime().monotonic_ns, go_on)
    return (name for name, _ in walk._entries_of(str(folder), is_top=is_top))


def test_what_vanishes_between_two_looks_is_passed_over(tmp_path: Path) -> None:
    """A file after its folder was listed, a folder after it was found; but not the path itself."""
    for number in range(3):
        (tmp_path / str(number)).touch()
    found = below(tmp_path)
    assert next(found) in "012"
    for path in tmp_path.iterdir():
        path.unlink()
    assert list(found) == []
    assert list(below(tmp_path / "gone")) == []
    with pytest.raises(SamplerError, match="gone: No such file"):
        list(below(tmp_path / "gone", is_top=True))


def test_a_folder_that_becomes_a_link_is_not_followed(tree: Path) -> None:
    """Whoever owns the tree could lead the walk anywhere."""
    link = tree / "link"
    link.symlink_to(tree / "d0")
    assert list(below(tree / "d0"))
    assert list(below(link)) == []


def test_no_descriptor_is_left(tree: Path) -> None:
    """Neither after a walk nor after one that was given up."""
    walked(tree)
    with pytest.raises(SamplerError):
        walked(tree, limits=Limits(entries=7, seconds=60))
    assert open_descriptors(tree) == 0


def test_what_is_below_another_path_is_left_out() -> None:
    """`/a` holds `/a/b` and not `/ab`."""
    assert outermost(["/a/b", "/ab", "/a", "/a/", "/c/d"]) == ["/a", "/ab", "/c/d"]
    assert outermost(["/a", "/"]) == ["/"]


def test_a_path_within_another_counts_once(tree: Path) -> None:
    """However it is written."""
    assert walked(tree, tree / "d0", f"{tree}/") == du(tree)


NAMES = st.lists(st.sampled_from("abc"), max_size=4).map(lambda names: "/" + "/".join(names))


@given(st.lists(NAMES, min_size=1, max_size=6))
def test_the_outermost_paths_cover_all_and_overlap_nowhere(paths: list[str]) -> None:
    """So the sum over them is the sum over the union."""
    kept = outermost(paths)
    for path in paths:
        above = [top for top in kept if f"{path}/".startswith(f"{top.rstrip('/')}/")]
        assert len(above) == 1
