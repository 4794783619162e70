import pytest

from aggregator.store.embedded.debian import (
    PackageName,
    debians_own,
    libraries_of,
    parse_depends,
    parse_list,
    parse_sources,
    render_sources,
)

BOOKWORM = """\
Types: deb
# a comment
URIs: http://deb.debian.org/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://deb.debian.org/debian-security
Suites: bookworm-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""

THIRD_PARTIES = """\
deb https://download.docker.com/linux/debian bookworm stable
deb [signed-by=/keys/pgdg.gpg] https://apt.postgresql.org/pub/repos/apt bookworm-pgdg main
deb https://packages.cloud.google.com/apt cloud-sdk-bookworm main
deb https://deb.nodesource.com/node_20.x nodistro main
"""


def test_debians_entries_move_to_the_release_and_keep_their_key() -> None:
    """Main, updates and security all follow, and who signs them does not change."""
    own = debians_own(parse_sources(BOOKWORM), release="trixie")
    assert [entry.fields["Suites"] for entry in own] == ["trixie trixie-updates", "trixie-security"]
    assert {entry.fields["Components"] for entry in own} == {"main"}
    assert all(entry.signed_with_debians_key() for entry in own)


def test_third_parties_are_left_out() -> None:
    """Nothing but Debian's own archive may decide what PostgreSQL is."""
    entries = [*parse_list(THIRD_PARTIES), *parse_sources(BOOKWORM)]
    own = debians_own(entries, release="trixie")
    assert [entry.fields["URIs"] for entry in own] == [
        "http://deb.debian.org/debian",
        "http://deb.debian.org/debian-security",
    ]


def test_an_address_like_debians_with_another_key_gives_way() -> None:
    """A vendor's `…/debian bookworm main` does not count beside entries signed by Debian."""
    vendor = "deb https://packages.example.com/x/debian/ bookworm main"
    own = debians_own([*parse_list(vendor), *parse_sources(BOOKWORM)], release="trixie")
    assert all(entry.signed_with_debians_key() for entry in own)
    assert len(debians_own(parse_list(vendor), release="trixie")) == 1


@pytest.mark.parametrize(
    "line",
    [
        "# deb http://deb.debian.org/debian bookworm main",
        "deb-src http://deb.debian.org/debian bookworm main",
        "deb http://deb.debian.org/debian bookworm-backports main",
        "deb http://deb.debian.org/debian bookworm contrib",
        "deb http://mirror.example.org/ubuntu noble main",
        "deb http://mirror.example.org/debian ./",
        "not a line of apt's",
    ],
)
def test_what_offers_no_debian_packages_is_no_source(line: str) -> None:
    """Comments, sources, backports, other components and other systems are not taken."""
    assert debians_own(parse_list(line), release="trixie") == []


def test_a_classic_line_keeps_its_options() -> None:
    """Architecture, trust and key say how a mirror may be used; they stay."""
    line = (
        "deb [arch=amd64,arm64 check-valid-until=no] http://mirror.example.org/debian/ stable main"
    )
    (own,) = debians_own(parse_list(line), release="trixie")
    rendered = render_sources([own], keyring="/keys/debian.gpg")
    assert "Architectures: amd64 arm64\n" in rendered
    assert "Check-Valid-Until: no\n" in rendered
    assert "Suites: trixie\n" in rendered
    assert "Signed-By: /keys/debian.gpg\n" in rendered


def test_an_entry_keeps_its_own_key_though_another_is_offered() -> None:
    """An administrator's mirror has the administrator's key, inline or in a file."""
    inline = BOOKWORM.replace(
        "/usr/share/keyrings/debian-archive-keyring.gpg", "\n -----BEGIN PGP-----\n .\n abc", 1
    )
    first, second = parse_sources(inline)
    rendered = render_sources([first], keyring="/keys/debian.gpg")
    assert "-----BEGIN PGP-----\n .\n abc" in rendered
    assert "/keys/debian.gpg" not in rendered
    assert second.signed_with_debians_key()


@pytest.mark.parametrize("word", ["no", "No", "false"])
def test_a_disabled_entry_is_no_source(word: str) -> None:
    """`Enabled: no` means what it says."""
    assert parse_sources(f"Enabled: {word}\n{BOOKWORM}")[0].fields["Suites"] == "bookworm-security"


def test_a_cloud_images_mirror_list_counts_as_debians() -> None:
    """Debian's cloud images name their mirrors in a file of that form."""
    text = BOOKWORM.replace(
        "http://deb.debian.org/debian\n", "mirror+file:///etc/apt/mirrors/debian.list\n"
    )
    assert len(debians_own(parse_sources(text), release="trixie")) == 2


def test_only_libraries_below_the_roots_are_taken() -> None:
    """Scripts, locales and what jit would need stay away; alternatives are all followed."""
    graph = parse_depends(
        """\
postgresql-17
  Depends: postgresql-common
  Depends: libllvm19
 |Depends: libfoo1
  Depends: libbar2
  PreDepends: libc6
libfoo1
  Depends: zlib1g
postgresql-common
  Depends: libperl5
libc6
libbar2
zlib1g
  Depends: <libvirtual>
<libvirtual>
    libreal
libllvm19
libperl5
"""
    )
    assert libraries_of([PackageName("postgresql-17")], graph, without=["libllvm"]) == [
        "libbar2",
        "libc6",
        "libfoo1",
        "postgresql-17",
        "zlib1g",
    ]
