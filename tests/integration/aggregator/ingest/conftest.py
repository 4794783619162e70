"""A running ingest on the test's own database."""

from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest
import pytest_asyncio
from psycopg.rows import TupleRow

from aggregator.clock import utc_now
from aggregator.ingest.server import IngestServer
from aggregator.metrics import Metrics
from aggregator.settings import GrpcSettings, IngestSettings, Settings
from aggregator.store.pool import Pool


@pytest.fixture
def metrics() -> Metrics:
    """Counts of this test alone."""
    return Metrics()


@pytest.fixture
def settings() -> Settings:
    """A port of the kernel's choice; impatient, so that tests need not wait."""
    return Settings(
        grpc=GrpcSettings(port=0),
        ingest=IngestSettings(linger_seconds=0, busy_after_seconds=0.2, retry_after_seconds=0.1),
    )


@pytest.fixture
def pool(ingest_pool: Pool) -> Pool:
    """Sessions of ingest."""
    return ingest_pool


@pytest_asyncio.fixture
async def ingest(pool: Pool, settings: Settings, metrics: Metrics) -> AsyncIterator[IngestServer]:
    """The server that agents connect to."""
    async with IngestServer(pool, settings, metrics, utc_now) as server:
        yield server


@pytest_asyncio.fixture
async def second_ingest(
    pool: Pool, settings: Settings, metrics: Metrics
) -> AsyncIterator[IngestServer]:
    """Another aggregator on the same database."""
    async with IngestServer(pool, settings, metrics, utc_now) as server:
        yield server


@pytest.fixture
def database(database_url: str) -> Iterator[psycopg.Connection[TupleRow]]:
    """A look into the database from outside."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection
