import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from aggregator.store.embedded import EmbeddedError
from aggregator.store.embedded.account import choose_account, plain_environment

IS_ROOT = os.geteuid() == 0


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that everyone can reach."""
    path = Path(tempfile.mkdtemp(prefix="nodemeter-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def test_root_gets_an_unprivileged_account_and_others_themselves() -> None:
    """PostgreSQL refuses root; every other user runs it as itself."""
    account = choose_account()
    assert account.uid != 0
    assert account.is_self is not IS_ROOT
    assert IS_ROOT or account.uid == os.geteuid()


def test_data_keeps_its_account() -> None:
    """A package that brings an account `postgres` later does not orphan what `nobody` made."""
    nobody = 65534
    assert (choose_account(data_owner=nobody).uid == nobody) is IS_ROOT


def test_data_of_a_vanished_account_is_said_to_be_so() -> None:
    """Root is told the number; another user cannot choose and is not asked."""
    if IS_ROOT:
        with pytest.raises(EmbeddedError, match="uid 54321"):
            choose_account(data_owner=54321)
    else:
        assert choose_account(data_owner=54321).is_self


def test_programs_run_as_the_account(folder: Path) -> None:
    """Its own uid, and none of root's groups."""
    account = choose_account()
    assert account.run(["id", "-u"], cwd=folder).strip() == str(account.uid)
    if IS_ROOT:
        assert account.run(["id", "-G"], cwd=folder).strip() == str(account.gid)


def test_a_program_that_fails_is_quoted(folder: Path) -> None:
    """The error ends with what the program said."""
    with pytest.raises(EmbeddedError, match=r"sh failed \(3\): no such luck"):
        choose_account().run(["sh", "-c", "echo no such luck >&2; exit 3"], cwd=folder)


def test_the_kernel_says_what_the_account_can_enter(folder: Path) -> None:
    """A folder closed to others is open to its owner alone."""
    account = choose_account()
    assert account.can_enter(folder)
    folder.chmod(0o700)
    assert account.can_enter(folder) is not IS_ROOT
    account.take(folder, mode=0o700)
    assert account.can_enter(folder)


def test_the_callers_settings_do_not_reach_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """PGDATA, PGPORT and the like would bend what is started; locale and zone are fixed."""
    monkeypatch.setenv("PGDATA", "/elsewhere")
    monkeypatch.setenv("LC_ALL", "tr_TR.UTF-8")
    environment = plain_environment()
    assert "PGDATA" not in environment
    assert environment["LC_ALL"] == "C"
    assert environment["TZ"] == "UTC"
