import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from aggregator.store.embedded import EmbeddedError
from aggregator.store.embedded.place import state_dir_of

IS_ROOT = os.geteuid() == 0


@pytest.fixture
def checkout() -> Iterator[Path]:
    """A folder that everyone can enter; pytest's own are their owner's alone."""
    folder = Path(tempfile.mkdtemp(prefix="nodemeter-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def test_a_checkout_that_the_account_can_enter_keeps_its_state_inside(
    checkout: Path, tmp_path: Path
) -> None:
    """State lies in `.run`, and is found there again."""
    place = state_dir_of(checkout, elsewhere=tmp_path)
    assert place == checkout / ".run"
    assert state_dir_of(checkout, elsewhere=tmp_path) == place
    assert list(tmp_path.iterdir()) == []


def test_a_checkout_closed_to_the_account_points_elsewhere(checkout: Path, tmp_path: Path) -> None:
    """Root's closed checkout gets a place of its own; a plain user runs the server as itself."""
    checkout.chmod(0o700)
    place = state_dir_of(checkout, elsewhere=tmp_path)
    assert state_dir_of(checkout, elsewhere=tmp_path) == place
    assert (checkout / ".run").resolve() == place
    assert (place.parent == tmp_path) is IS_ROOT


def test_two_closed_checkouts_do_not_share_a_place(checkout: Path, tmp_path: Path) -> None:
    """The name holds a hash of the checkout's path."""
    places: set[Path] = set()
    for name in ("a", "b"):
        (checkout / name).mkdir(mode=0o700)
        places.add(state_dir_of(checkout / name, elsewhere=tmp_path))
    assert len(places) == 2


def test_state_that_the_account_cannot_reach_is_never_left_behind_silently(
    checkout: Path, tmp_path: Path
) -> None:
    """A `.run` that an earlier run filled is used by its owner, and refused where it is closed."""
    (checkout / ".run").mkdir()
    checkout.chmod(0o700)
    if IS_ROOT:
        with pytest.raises(EmbeddedError, match="NODEMETER_STATE_DIR"):
            state_dir_of(checkout, elsewhere=tmp_path)
    else:
        assert state_dir_of(checkout, elsewhere=tmp_path) == checkout / ".run"


def test_a_pointer_to_a_place_that_was_removed_makes_it_again(
    checkout: Path, tmp_path: Path
) -> None:
    """Deleting the state is a way to start afresh."""
    (checkout / ".run").symlink_to(tmp_path / "gone")
    assert state_dir_of(checkout, elsewhere=tmp_path) == tmp_path / "gone"
    assert (tmp_path / "gone").is_dir()
