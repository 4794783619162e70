from pathlib import Path

import pytest

from aggregator.store.embedded import EmbeddedError, software, unpack
from aggregator.store.embedded.software import Software, choose, installed, is_refused


def install(root: Path, major: int, timescaledb: str | None) -> None:
    programs = root / f"usr/lib/postgresql/{major}/bin"
    programs.mkdir(parents=True)
    (programs / "postgres").touch()
    extensions = root / f"usr/share/postgresql/{major}/extension"
    extensions.mkdir(parents=True)
    if timescaledb is not None:
        control = f"# comment\ndefault_version = '{timescaledb}'\n"
        (extensions / "timescaledb.control").write_text(control)


@pytest.mark.parametrize(
    ("version", "refused"),
    [("2.24.9", False), ("2.25.0", True), ("2.26.1", True), ("2.26.2", False), ("2.19.3", False)],
)
def test_versions_with_wrong_results_are_refused(version: str, refused: bool) -> None:  # noqa: FBT001
    """TimescaleDB 2.25.0 to 2.26.1 answer some queries wrongly."""
    assert is_refused(version) is refused


def test_a_postgresql_without_timescaledb_does_not_count(tmp_path: Path) -> None:
    """Debian 12 has PostgreSQL 15 alone; that one is of no use."""
    install(tmp_path, 15, None)
    assert installed(tmp_path) == []


def test_the_newest_installed_timescaledb_is_chosen(tmp_path: Path) -> None:
    """A system that has it needs no download; a refused version is passed over."""
    install(tmp_path, 16, "2.19.3")
    install(tmp_path, 17, "2.20.0")
    install(tmp_path, 18, "2.25.1")
    chosen = choose([tmp_path / "folder"], major=None, root=tmp_path)
    assert chosen == Software(
        binaries=tmp_path / "usr/lib/postgresql/17/bin", major=17, timescaledb="2.20.0"
    )


def test_existing_data_keeps_its_postgresql(tmp_path: Path) -> None:
    """A data directory of version 16 is not opened with 17 because that is newer."""
    install(tmp_path, 16, "2.19.3")
    install(tmp_path, 17, "2.20.0")
    assert choose([tmp_path / "folder"], major=16, root=tmp_path).major == 16


def test_data_of_a_vanished_postgresql_is_said_to_be_so(tmp_path: Path) -> None:
    """The message names the version that is missing."""
    with pytest.raises(EmbeddedError, match="PostgreSQL 14"):
        choose([tmp_path / "folder"], major=14, root=tmp_path)


def test_without_any_way_the_message_names_every_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Installing, unpacking and docker, each with its command; and why unpacking failed."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EmbeddedError) as caught:
        choose([tmp_path / "folder"], major=None, root=tmp_path)
    message = str(caught.value)
    assert "no apt-get" in message
    for way in ("apt install postgresql-17-timescaledb", "unpack", "docker run"):
        assert way in message


def test_a_whole_folder_is_used_as_it_is(tmp_path: Path, software_dir: Path) -> None:
    """The first folder that is whole wins; nothing is downloaded."""
    unpack.ensure_unpacked(software_dir)
    chosen = choose([tmp_path / "none", software_dir], major=None, root=tmp_path)
    assert chosen.binaries == unpack.binaries_in(software_dir)
    assert not (tmp_path / "none").exists()


def test_the_ways_are_told_in_lines_that_fit_a_terminal() -> None:
    """The text is read in a terminal."""
    assert all(len(line) <= 100 for line in software.HOW_TO_GET_ONE.splitlines())
