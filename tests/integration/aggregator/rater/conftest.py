"""A pipeline: usage goes in over the wire, bills come out of the database."""

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
from tests.integration.aggregator.rater.pipeline import Pipeline


@pytest.fixture
def metrics() -> Metrics:
    """Counts of this test alone."""
    return Metrics()


@pytest.fixture
def database(database_url: str) -> Iterator[psycopg.Connection[TupleRow]]:
    """A look into the database from outside."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def pool(rater_pool: Pool) -> Pool:
    """Sessions of the rater."""
    return rater_pool


@pytest_asyncio.fixture
async def pipeline(
    *,
    ingest_pool: Pool,
    pool: Pool,
    api_pool: Pool,
    metrics: Metrics,
    database: psycopg.Connection[TupleRow],
    service_url: str,
) -> AsyncIterator[Pipeline]:
    """From the wire to the bill."""
    settings = Settings(grpc=GrpcSettings(port=0), ingest=IngestSettings(linger_seconds=0))
    async with IngestServer(ingest_pool, settings, metrics, utc_now) as ingest:
        yield Pipeline(
            ingest=ingest,
            pool=pool,
            api_pool=api_pool,
            metrics=metrics,
            database=database,
            service_url=service_url,
        )
