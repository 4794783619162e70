import signal
import subprocess
import sys
from pathlib import Path

import pytest

from aggregator.quickstart.links import linked_configs


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    """A virtual environment in which nothing was started yet."""
    return tmp_path / "venv"


def pointed(prefix: Path) -> set[Path]:
    """Where the commands are led."""
    folder = prefix / "etc/nodemeter"
    return {link.readlink() for link in folder.iterdir() if link.is_symlink()}


def files_of(state: Path) -> set[Path]:
    return {state / "agent.toml", state / "aggregator.toml"}


def test_the_commands_find_a_run_until_it_ends(tmp_path: Path, prefix: Path) -> None:
    """Both files; afterwards no link is left to lead anywhere."""
    with linked_configs(tmp_path / "first", prefix):
        assert pointed(prefix) == files_of(tmp_path / "first")
    assert pointed(prefix) == set()


def test_a_second_run_leaves_the_links_of_the_first_alone(tmp_path: Path, prefix: Path) -> None:
    """While it runs and when it ends; and it can say whose they are."""
    with linked_configs(tmp_path / "first", prefix):
        with linked_configs(tmp_path / "second", prefix) as second:
            assert not second.hold()
            assert second.holder() == str(tmp_path / "first")
            assert pointed(prefix) == files_of(tmp_path / "first")
        assert pointed(prefix) == files_of(tmp_path / "first")


def test_the_run_that_goes_on_takes_the_links_of_one_that_ended(
    tmp_path: Path, prefix: Path
) -> None:
    """Whoever is still there when the first has ended is what the commands mean."""
    with linked_configs(tmp_path / "second", prefix) as holding:
        with linked_configs(tmp_path / "first", prefix) as waiting:
            holding.release()
            assert waiting.holder() is None
            assert waiting.hold()
            assert pointed(prefix) == files_of(tmp_path / "first")
            assert not holding.hold()
        assert pointed(prefix) == set()


def test_what_a_killed_run_left_is_replaced(tmp_path: Path, prefix: Path) -> None:
    """The kernel says that nobody holds it any more."""
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path / "killed"), str(prefix)],
        stdout=subprocess.PIPE,
    ) as killed:
        assert killed.stdout is not None
        assert killed.stdout.readline()
        assert pointed(prefix) == files_of(tmp_path / "killed")
        killed.send_signal(signal.SIGKILL)
    with linked_configs(tmp_path / "next", prefix):
        assert pointed(prefix) == files_of(tmp_path / "next")


KILLED = """
import sys, time
from pathlib import Path
from aggregator.quickstart.links import linked_configs
with linked_configs(Path(sys.argv[1]), Path(sys.argv[2])):
    print("linked", flush=True)
    time.sleep(600)
"""


def test_a_link_that_was_pointed_elsewhere_stays(tmp_path: Path, prefix: Path) -> None:
    """Only what is ours is removed."""
    link = prefix / "etc/nodemeter/agent.toml"
    with linked_configs(tmp_path / "first", prefix):
        link.unlink()
        link.symlink_to("/srv/agent.toml")
    assert pointed(prefix) == {Path("/srv/agent.toml")}


def test_an_environment_that_cannot_be_written_gets_no_links(tmp_path: Path) -> None:
    """The run itself goes on; it says how to name its files."""
    (tmp_path / "etc").write_text("in the way")
    with linked_configs(tmp_path / "first", tmp_path) as links:
        assert not links.hold()
        assert links.holder() is None
    assert [path.name for path in tmp_path.iterdir()] == ["etc"]
