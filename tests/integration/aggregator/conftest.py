"""A pool and a way to put rows, on the test's own migrated database."""

from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest
import pytest_asyncio

from aggregator.billing.database import Database
from aggregator.store.pool import Pool, open_pool
from tests.integration.aggregator.rows import Rows


@pytest.fixture
def rows(database_url: str) -> Iterator[Rows]:
    """Inserts rows as ingest and the rater would have."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield Rows(connection)


@pytest_asyncio.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    """An open pool on the test's database."""
    pool = await open_pool(database_url, max_size=4)
    try:
        yield pool
    finally:
        await pool.close()


@pytest.fixture
def database(pool: Pool) -> Database:
    """The use cases' way to the test's database."""
    return Database(pool)
