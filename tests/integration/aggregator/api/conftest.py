"""The application, served on the test's own database."""

from collections.abc import AsyncGenerator

import psycopg
import pytest
import pytest_asyncio

from aggregator.clock import utc_now
from aggregator.ingest.server import IngestServer
from aggregator.metrics import Metrics
from aggregator.settings import GrpcSettings, IngestSettings, Settings
from aggregator.store.pool import Pool
from tests.integration.aggregator.api.client import Api, served
from tests.integration.aggregator.rater.pipeline import Pipeline


@pytest_asyncio.fixture
async def api(pool: Pool) -> AsyncGenerator[Api]:
    """Served with the default settings: open to this machine, as admin."""
    async with served(pool) as api:
        yield api


@pytest.fixture
def metrics() -> Metrics:
    """Counts of this test alone."""
    return Metrics()


@pytest_asyncio.fixture
async def pipeline(
    *,
    ingest_pool: Pool,
    rater_pool: Pool,
    pool: Pool,
    metrics: Metrics,
    database_url: str,
    service_url: str,
) -> AsyncGenerator[Pipeline]:
    """From the wire to the bill, beside what is served."""
    settings = Settings(grpc=GrpcSettings(port=0), ingest=IngestSettings(linger_seconds=0))
    with psycopg.connect(database_url, autocommit=True) as connection:
        async with IngestServer(ingest_pool, settings, metrics, utc_now) as ingest:
            yield Pipeline(
                ingest=ingest,
                pool=rater_pool,
                api_pool=pool,
                metrics=metrics,
                database=connection,
                service_url=service_url,
            )
