"""Every query of every SQL file fits the schema: names, types and parameters."""

import re

import psycopg
import pytest

from aggregator.store.queries import queries

_PARAMETER = re.compile(rb"%\((\w+)\)s")
_UTILITY = re.compile(rb"\A(--[^\n]*\n)*\s*(COPY|LOCK|CREATE|SET)\b")
"""Statements that PostgreSQL cannot PREPARE; the tests of their callers execute them."""

PREPARABLE = sorted(name for name, text in queries().items() if not _UTILITY.match(text))


def numbered(text: bytes) -> bytes:
    """Turn named parameters into PostgreSQL's."""
    names = list(dict.fromkeys(_PARAMETER.findall(text)))
    replaced = _PARAMETER.sub(lambda match: b"$%d" % (names.index(match[1]) + 1), text)
    return replaced.replace(b"%%", b"%")


@pytest.mark.parametrize("name", PREPARABLE)
def test_a_query_can_be_prepared(migrated_database_url: str, name: str) -> None:
    """Against the migrated schema."""
    with psycopg.connect(migrated_database_url) as connection:
        connection.execute(b"PREPARE it AS " + numbered(queries()[name]))


def test_few_statements_cannot_be_prepared() -> None:
    """Each of these is executed by some other test."""
    assert set(queries()) - set(PREPARABLE) == {
        "begin_snapshot",
        "copy_usage",
        "create_public_schema",
        "create_schema_migration",
        "create_timescale",
    }
