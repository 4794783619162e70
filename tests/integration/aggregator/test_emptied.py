"""A database that is emptied while all of us runs: said once, with the remedy, and survived."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress

import psycopg
import pytest
import pytest_asyncio

from aggregator.clock import utc_now
from aggregator.ingest.server import IngestServer
from aggregator.metrics import Metrics
from aggregator.rater import Rater
from aggregator.settings import GrpcSettings, IngestSettings, RaterSettings, Settings
from aggregator.store.embedded import SERVICE_LOGIN
from aggregator.store.migrate import migrate
from aggregator.store.pool import Pool
from proto.metering.v1 import metering_pb2 as pb
from tests.integration.aggregator.agents import (
    Spool,
    Use,
    connected,
    deliver,
    recent,
    records_of,
    wait_until,
)
from tests.integration.aggregator.api.client import Api, served


@pytest.fixture
def metrics() -> Metrics:
    """Counts of this test alone."""
    return Metrics()


@pytest_asyncio.fixture
async def ingest(ingest_pool: Pool, metrics: Metrics) -> AsyncIterator[IngestServer]:
    """What agents connect to."""
    settings = Settings(grpc=GrpcSettings(port=0), ingest=IngestSettings(linger_seconds=0))
    async with IngestServer(ingest_pool, settings, metrics, utc_now) as server:
        yield server


@pytest_asyncio.fixture
async def api(pool: Pool) -> AsyncIterator[Api]:
    """What users ask."""
    async with served(pool) as api:
        yield api


@pytest_asyncio.fixture(autouse=True)
async def _rater(rater_pool: Pool, metrics: Metrics) -> AsyncIterator[None]:
    """In a hurry."""
    rater = Rater(rater_pool, RaterSettings(interval_seconds=0.01), metrics)
    task = asyncio.create_task(rater.run())
    yield
    task.cancel()
    await asyncio.wait([task])


async def test_an_emptied_database_is_said_once_and_recovered_from(
    ingest: IngestServer,
    api: Api,
    metrics: Metrics,
    database_url: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nothing is acked meanwhile; once there is a schema again, all is as it was."""
    caplog.set_level(logging.INFO)
    start = recent()
    spool = Spool()
    use = Use(
        meter=spool.meter(spool.run(started_at=start), started_at=start),
        start=start,
        end=start.replace(minute=30),
        allocated=500,
    )
    batch = spool.batch(records_of(use))
    async with connected(ingest.port) as client:
        await client.welcome(spool)
        await asyncio.to_thread(empty, database_url)
        await client.say(batch)
        assert is_told_of_schema(await client.rejected())
    rounds = errors_of(metrics)
    for _ in range(3):
        async with connected(ingest.port) as client:
            await client.say(spool.hello())
            assert is_told_of_schema(await client.rejected())
        for path in ("/readyz", "/api/Bills", "/api/admin/v1/ratios"):
            answer = await api.get(path)
            assert answer.status == 503
            assert "restart nodemeter-aggregator" in answer.json()["detail"]
            assert "restore a backup" in answer.json()["detail"]
    await wait_until(lambda: errors_of(metrics) > rounds + 3)
    assert said(caplog, logging.ERROR) == {
        "commit": 1,
        "hello": 1,
        "rate": 1,
        "request_database": 1,
    }

    await asyncio.to_thread(migrate, database_url, login=SERVICE_LOGIN)
    await until(api, "/readyz", '{"status":"ready"}')
    await deliver(ingest.port, spool, [batch])
    await until(api, "/api/Bills", '"usage":250,')
    again = [each for each in caplog.records if each.message == "the database serves again"]
    assert {vars(each)["action"] for each in again} == set(said(caplog, logging.ERROR))


async def until(api: Api, path: str, text: str) -> None:
    """Ask again and again, until the answer holds that."""
    async with asyncio.timeout(30):
        while text not in (await api.get(path)).text:  # noqa: ASYNC110  rows set no event
            await asyncio.sleep(0.01)


def empty(url: str) -> None:
    """As somebody does who takes it for another one; call it in a thread of its own.

    It waits for the transactions of the parts that run on the loop, and may lose against them.
    """
    with psycopg.connect(url, autocommit=True) as connection:
        while True:
            with suppress(psycopg.errors.DeadlockDetected):
                connection.execute("DROP SCHEMA public CASCADE")
                return


def is_told_of_schema(refusal: pb.Reject) -> bool:
    """Whether an agent is to come back, and can say why."""
    return refusal.reason == pb.Reject.REASON_BUSY and "tables are missing" in refusal.detail


def errors_of(metrics: Metrics) -> float:
    """Rounds of the rater that failed."""
    return metrics.registry.get_sample_value("nodemeter_aggregator_rater_errors_total") or 0


def said(caplog: pytest.LogCaptureFixture, level: int) -> Counter[str]:
    """How often each part complained."""
    return Counter(vars(each)["action"] for each in caplog.records if each.levelno >= level)
