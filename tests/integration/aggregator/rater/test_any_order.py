"""Order and repetition do not matter: the same bytes, however the records come."""

import random
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql

from aggregator.clock import utc_now
from aggregator.ingest.server import IngestServer
from aggregator.metrics import Metrics
from aggregator.rater import rate_pending
from aggregator.settings import GrpcSettings, IngestSettings, Settings
from aggregator.store.embedded import Server
from aggregator.store.grants import Role
from aggregator.store.pool import Pool, open_pool
from tests.integration.aggregator.agents import Spool, Use, deliver, records_of
from tests.integration.aggregator.api.client import served

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
DEVICE = 126_000
QUESTIONS = (
    "/api/Bills",
    "/api/Usages",
    "/api/admin/v1/usages",
    "/api/Bills?granularity=hour",
    "/api/admin/v1/usages?method=usage",
)
PRICES = """
    INSERT INTO ratio (key, type, value, starts_at, ends_at, created_at, created_by) VALUES
        ('cpu', 'cpu', 0.1, %(at)s::timestamptz - INTERVAL '9 days', %(at)s, now(), 'test'),
        ('cpu', 'cpu', 0.3, %(at)s, NULL, now(), 'test'),
        ('gpu', 'gpu', 2.5, %(at)s::timestamptz - INTERVAL '37 minutes', NULL, now(), 'test')
"""


@pytest.fixture
def urls(timescaledb: Server, migrated_template: str) -> Iterator[list[str]]:
    """Databases with nothing in them."""
    names = [sql.Identifier(f"test_{uuid4().hex[:12]}") for _ in range(3)]
    with psycopg.connect(timescaledb.url_of("postgres"), autocommit=True) as connection:
        for name in names:
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                    name, sql.Identifier(migrated_template)
                )
            )
        yield [timescaledb.url_of(name.as_string().strip('"')) for name in names]
        for name in names:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


def uses_of(spool: Spool, start: datetime) -> list[Use]:
    """What jobs do in the hours from `start` on, and just so a day later; a batch for each."""
    found: list[Use] = []
    for number in range(3):
        run = spool.run(f"j{number}", started_at=start)
        for type_, quota, device in (("cpu", 500 + number, None), ("gpu", DEVICE // 7, "GPU-1")):
            meter = spool.meter(
                run, type_, quota=quota, started_at=start, model=device and "H200", device=device
            )
            found += [
                Use(meter=meter, start=at, end=at + HOUR / 6, allocated=quota, used=number * 300)
                for day in (start, start + DAY)
                for at in (day, day + HOUR / 6, day + HOUR * 11 / 12)
            ]
    return found


async def answers(url: str, uses: Sequence[Use], spool: Spool, *, twice: bool) -> list[bytes]:
    """What is billed when the uses come in this order, rated now and then."""
    ingesting = await open_pool(url, role=Role.INGEST, max_size=4)
    rating = await open_pool(url, role=Role.RATER, max_size=2)
    asking = await open_pool(url, role=Role.API, max_size=3)
    settings = Settings(grpc=GrpcSettings(port=0), ingest=IngestSettings(linger_seconds=0))
    try:
        async with IngestServer(ingesting, settings, Metrics(), utc_now) as ingest:
            for number, use in enumerate(uses):
                frame = spool.batch(records_of(use))
                for _ in range(1 + twice):
                    await deliver(ingest.port, spool, [frame])
                if twice and number % 5 == 0:
                    await rate_pending(rating, Metrics(), max_records=7)
            await rate_pending(rating, Metrics())
        return await asked(asking)
    finally:
        for pool in (ingesting, rating, asking):
            await pool.close()


async def asked(pool: Pool) -> list[bytes]:
    """The bytes of every list."""
    async with served(pool) as api:
        return [(await api.get(question)).body for question in QUESTIONS]


async def test_every_batch_twice_shuffled_and_half_of_them_late(urls: list[str]) -> None:
    """Fresh usage comes at once, the other half a day late, after it or among it."""
    start = utc_now().replace(minute=0, second=0, microsecond=0) - DAY - 2 * HOUR
    with_prices(urls, start + HOUR)
    found: list[list[bytes]] = []
    for seed, url in enumerate(urls):
        spool = Spool(stream_id=UUID(int=7).bytes)
        uses = uses_of(spool, start)
        fresh = [use for use in uses if use.start >= start + DAY]
        late = [use for use in uses if use.end <= start + 2 * HOUR]
        assert len(fresh) == len(late) == len(uses) / 2
        if seed:
            random.Random(seed).shuffle(fresh)
            random.Random(seed).shuffle(late)
            uses = fresh + late if seed == 1 else braided(fresh, late)
        found.append(await answers(url, uses, spool, twice=seed > 0))
    assert found[1] == found[0]
    assert found[2] == found[0]
    assert found[0][0].count(b'"fee":0,') == 0


def braided(one: Sequence[Use], other: Sequence[Use]) -> list[Use]:
    """In turns."""
    return [use for pair in zip(one, other, strict=True) for use in pair]


def with_prices(urls: Sequence[str], at: datetime) -> None:
    """The same prices everywhere; one of them changes at an instant."""
    for url in urls:
        with psycopg.connect(url) as connection:
            connection.execute(PRICES, {"at": at})
