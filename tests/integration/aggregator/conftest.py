"""The services' pools and a way to put rows, on the test's own migrated database."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager

import psycopg
import pytest
import pytest_asyncio

from aggregator.billing.database import Database
from aggregator.store.grants import Role
from aggregator.store.pool import Pool, open_pool
from tests.integration.aggregator.rows import Rows


@pytest.fixture
def rows(database_url: str) -> Iterator[Rows]:
    """Inserts rows as ingest and the rater would have; as the owner, who may."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield Rows(connection)


@asynccontextmanager
async def _acting(url: str, role: Role) -> AsyncGenerator[Pool]:
    pool = await open_pool(url, role=role, max_size=4)
    try:
        yield pool
    finally:
        await pool.close()


@pytest_asyncio.fixture
async def ingest_pool(service_url: str) -> AsyncIterator[Pool]:
    """Sessions of ingest."""
    async with _acting(service_url, Role.INGEST) as pool:
        yield pool


@pytest_asyncio.fixture
async def rater_pool(service_url: str) -> AsyncIterator[Pool]:
    """Sessions of the rater."""
    async with _acting(service_url, Role.RATER) as pool:
        yield pool


@pytest_asyncio.fixture
async def api_pool(service_url: str) -> AsyncIterator[Pool]:
    """Sessions of the HTTP APIs."""
    async with _acting(service_url, Role.API) as pool:
        yield pool


@pytest_asyncio.fixture
async def maintenance_pool(service_url: str) -> AsyncIterator[Pool]:
    """Sessions of maintenance."""
    async with _acting(service_url, Role.MAINTENANCE) as pool:
        yield pool


@pytest.fixture
def pool(api_pool: Pool) -> Pool:
    """Sessions of the service that a folder's tests are of: here and in most, the APIs."""
    return api_pool


@pytest.fixture
def database(pool: Pool) -> Database:
    """The use cases' way to the test's database."""
    return Database(pool)
