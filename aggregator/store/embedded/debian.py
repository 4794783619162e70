"""Debian's package sources and dependencies as text: which entries, which packages.

Pure: parses what apt's files and `apt-cache depends` say, and renders what apt shall read.
It must not run a program or touch a file; `unpack` does.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NewType

PackageName = NewType("PackageName", str)

_RELEASES = frozenset(
    {"oldstable", "stable", "testing", "unstable", "sid"}
    | {"bullseye", "bookworm", "trixie", "forky"}
)
_POCKETS = frozenset({"", "-updates", "-security"})
_OWN_KEYRING = re.compile(r"debian-archive-keyring|debian-archive-.*-(stable|automatic)")
_OWN_ADDRESS = re.compile(r"/debian(-security)?(\.list)?/?$")
_ONE_LINE = re.compile(
    r"^deb\s+(?:\[(?P<options>[^]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)(?P<rest>.*)$"
)
_OPTION_FIELDS = {"arch": "Architectures", "lang": "Languages", "target": "Targets"}
_DEPENDS = re.compile(r"^[ |]+(?:Pre)?Depends: <?(?P<name>[^:>\s]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One entry of apt's sources, by its deb822 fields (names as Debian writes them)."""

    fields: Mapping[str, str]

    def words(self, field: str) -> Sequence[str]:
        """The field's words; none where the field is absent."""
        return self.fields.get(field, "").split()

    def signed_with_debians_key(self) -> bool:
        """Whether the entry names the keyring of Debian's own archive."""
        return bool(_OWN_KEYRING.search(self.fields.get("Signed-By", "")))


def parse_sources(text: str) -> list[Source]:
    """Read a deb822 file (`*.sources`). Disabled and source-only entries are left out."""
    stanzas = re.split(r"\n[ \t]*\n", _without_comments(text))
    entries = [Source(fields=_stanza_fields(stanza)) for stanza in stanzas if stanza.strip()]
    return [entry for entry in entries if _is_active(entry)]


def parse_list(text: str) -> list[Source]:
    """Read a classic file (`sources.list`, `*.list`): one `deb` line is one entry."""
    lines = (line.split("#", 1)[0].strip() for line in text.splitlines())
    return [_from_line(match) for line in lines if (match := _ONE_LINE.match(line))]


def debians_own(entries: Iterable[Source], *, release: str) -> list[Source]:
    """Debian's own entries with their release replaced, so that they offer `release`.

    An entry is Debian's own if it offers the component main of a Debian release at an address
    that ends as Debian's mirrors do; where some name Debian's keyring, only those count. Third
    parties, backports and proposed updates are left out.
    """
    own = [entry for entry in entries if _is_debians(entry)]
    signed = [entry for entry in own if entry.signed_with_debians_key()]
    return [_at_release(entry, release) for entry in signed or own]


def render_sources(entries: Iterable[Source], *, keyring: str | None) -> str:
    """Write entries as a deb822 file; those without a key get `keyring`."""
    stanzas: list[str] = []
    for entry in entries:
        fields = dict(entry.fields)
        if keyring is not None:
            fields.setdefault("Signed-By", keyring)
        stanzas.append("".join(f"{name}: {value}\n" for name, value in fields.items()))
    return "\n".join(stanzas)


def parse_depends(text: str) -> dict[PackageName, list[PackageName]]:
    """Read `apt-cache depends --recurse`: what each package depends on, alternatives included."""
    graph: dict[PackageName, list[PackageName]] = {}
    wanted: list[PackageName] = []
    for line in text.splitlines():
        if line[:1].isalnum():
            wanted = graph.setdefault(PackageName(line.strip()), [])
        elif match := _DEPENDS.match(line):
            wanted.append(PackageName(match["name"]))
    return graph


def libraries_of(
    roots: Collection[PackageName],
    graph: Mapping[PackageName, Sequence[PackageName]],
    *,
    without: Sequence[str],
) -> list[PackageName]:
    """The roots and every shared library below them, sorted; never a name that starts as `without`.

    Only libraries are followed: scripts, locales and account tools are for a system's own
    installation and do nothing in a folder.
    """
    todo, found = list(roots), set[PackageName]()
    while todo:
        name = todo.pop()
        if name in found or name not in graph:
            continue
        found.add(name)
        todo += [n for n in graph[name] if _is_library(n) and not n.startswith(tuple(without))]
    return sorted(found)


def _is_library(name: PackageName) -> bool:
    return name.startswith(("lib", "zlib"))


def _without_comments(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.startswith("#"))


def _stanza_fields(stanza: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    name = ""
    for line in stanza.splitlines():
        if line[:1].isspace() and name:
            fields[name] += "\n" + line
        elif ":" in line:
            key, value = line.split(":", 1)
            name = key.strip().title()
            fields[name] = value.strip()
    if "Uris" in fields:
        fields["URIs"] = fields.pop("Uris")
    return fields


def _is_active(entry: Source) -> bool:
    enabled = entry.fields.get("Enabled", "yes").strip().lower()
    return "deb" in entry.words("Types") and enabled not in {"no", "false", "0", "off"}


def _from_line(match: re.Match[str]) -> Source:
    fields = {
        "Types": "deb",
        "URIs": match["uri"],
        "Suites": match["suite"],
        "Components": match["rest"].strip(),
    }
    for option in (match["options"] or "").split():
        key, _, value = option.partition("=")
        fields[_OPTION_FIELDS.get(key, key.title())] = value.replace(",", " ")
    return Source(fields=fields)


def _is_debians(entry: Source) -> bool:
    return (
        "main" in entry.words("Components")
        and any(_OWN_ADDRESS.search(uri) for uri in entry.words("URIs"))
        and any(_pocket(suite) is not None for suite in entry.words("Suites"))
    )


def _pocket(suite: str) -> str | None:
    release, dash, rest = suite.partition("-")
    pocket = dash + rest
    return pocket if release in _RELEASES and pocket in _POCKETS else None


def _at_release(entry: Source, release: str) -> Source:
    pockets = dict.fromkeys(_pocket(suite) for suite in entry.words("Suites"))
    suites = [release + pocket for pocket in pockets if pocket is not None]
    changes = {"Types": "deb", "Suites": " ".join(suites), "Components": "main"}
    return Source(fields={**entry.fields, **changes})
