"""A migrated database that tests of one module only look at."""

from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import TupleRow

from aggregator.store.embedded import Server
from aggregator.store.pool import Pool


@pytest.fixture(scope="module")
def migrated_database_url(timescaledb: Server, migrated_template: str) -> Iterator[str]:
    """Nobody writes to it."""
    name = f"test_{uuid4().hex[:12]}"
    names = (sql.Identifier(name), sql.Identifier(migrated_template))
    with psycopg.connect(timescaledb.url_of("postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(*names))
        yield timescaledb.url_of(name)
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(names[0]))


@pytest.fixture
def pool(maintenance_pool: Pool) -> Pool:
    """Sessions of maintenance."""
    return maintenance_pool


@pytest.fixture
def database(database_url: str) -> Iterator[psycopg.Connection[TupleRow]]:
    """A look into the test's own database from outside."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection
