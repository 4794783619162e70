"""Loads the SQL of `store/sql/*.sql`; Python never formats SQL.

A file is a sequence of blocks, each headed by `-- name: verb_object`. Names are unique
over all files. A block headed by `-- fragment: name` is no query: it is what `<<name>>` stands
for in the queries of its file, so that a condition that several share is written once. A
query is bytes, which psycopg takes as it is: no string is ever made into a query. Modules
look their queries up when they are imported, so a missing one fails at start and not under
load.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import NewType

Query = NewType("Query", bytes)

_HEADER = re.compile(r"^-- (name|fragment): ([a-z][a-z0-9_]*)\s*$", re.MULTILINE)
_PLACE = re.compile(r"<<([a-z][a-z0-9_]*)>>")


def query(name: str) -> Query:
    """Give the query of that name; KeyError if no file holds it."""
    return queries()[name]


@cache
def queries() -> Mapping[str, Query]:
    """All queries by name; ValueError if two have one name."""
    found: dict[str, Query] = {}
    folder = files("aggregator.store") / "sql"
    for file in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if file.name.endswith(".sql"):
            for name, text in parse(file.read_text(encoding="utf-8")):
                if name in found:
                    raise ValueError(f"two queries are named {name}")
                found[name] = Query(text.encode())
    return MappingProxyType(found)


def parse(text: str) -> Iterator[tuple[str, str]]:
    """Split a file into (name, SQL); what stands before the first header is commentary.

    KeyError if a query wants a fragment that the file does not hold.
    """
    pieces = _HEADER.split(text)[1:]
    blocks = list(zip(pieces[::3], pieces[1::3], pieces[2::3], strict=True))
    fragments = {name: body.strip() for kind, name, body in blocks if kind == "fragment"}

    def whole(text: str) -> str:
        return _PLACE.sub(lambda place: whole(fragments[place[1]]), text)

    for kind, name, body in blocks:
        if kind == "name":
            yield name, whole(body.strip())
