"""The application, served on the test's own database."""

from collections.abc import AsyncGenerator

import pytest_asyncio

from aggregator.store.pool import Pool
from tests.integration.aggregator.api.client import Api, served


@pytest_asyncio.fixture
async def api(pool: Pool) -> AsyncGenerator[Api]:
    """Served with the default settings: open to this machine, as admin."""
    async with served(pool) as api:
        yield api
