"""Chunks are there before they are needed, and go when their usage is old and rated."""

import asyncio
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from psycopg import errors
from psycopg.rows import TupleRow

from aggregator.clock import utc_now
from aggregator.maintenance import Maintenance
from aggregator.metrics import Metrics
from aggregator.settings import RetentionSettings
from aggregator.store.chunks import add_chunks, drop_expired_chunks
from aggregator.store.pool import Pool
from tests.integration.aggregator.agents import wait_until
from tests.integration.aggregator.sessions import waiting

Database = psycopg.Connection[TupleRow]
DAY = timedelta(days=1)


def ranges(database: Database, table: str) -> list[tuple[datetime, datetime]]:
    """The chunks of a hypertable."""
    rows = database.execute(
        "SELECT range_start, range_end FROM timescaledb_information.chunks"
        " WHERE hypertable_name = %s ORDER BY range_start",
        (table,),
    ).fetchall()
    return [(row[0], row[1]) for row in rows]


def add_usage(database: Database, started_at: datetime, *, is_rated: bool) -> None:
    """A record and its ingest group."""
    row = database.execute(
        "INSERT INTO ingest_group"
        " (created_at, record_count, min_started_at, max_ended_at, rated_at)"
        " VALUES (now(), 1, %s, %s, %s) RETURNING ingest_group_id",
        (started_at, started_at, utc_now() if is_rated else None),
    ).fetchone()
    assert row is not None
    database.execute(
        "INSERT INTO usage VALUES (1, %s, %s, 1, 1, 1, 1, %s)", (started_at, started_at, row[0])
    )


async def test_chunks_of_the_next_days_are_made_and_hold_nothing(
    pool: Pool, database: Database
) -> None:
    """Again makes none; what makes them is never seen."""
    midnight = utc_now().replace(hour=0, minute=0, second=0, microsecond=0)
    assert await add_chunks(pool) == 7
    assert await add_chunks(pool) == 0
    usage = ranges(database, "usage")
    assert usage == [(midnight + day * DAY, midnight + (day + 1) * DAY) for day in range(3)]
    charge = ranges(database, "charge")
    assert charge[0][0] <= midnight < charge[0][1] == charge[1][0]
    assert ranges(database, "node_account") == charge
    for table in (b"usage", b"charge", b"node_account"):
        assert database.execute(b"SELECT count(*) FROM " + table).fetchone() == (0,)


async def test_old_usage_goes_by_the_chunk_when_it_is_rated(pool: Pool, database: Database) -> None:
    """Not before its last day is over, and nothing of the charges."""
    for age in (20, 9, 8, 6):
        add_usage(database, utc_now() - age * DAY, is_rated=True)
    assert await drop_expired_chunks(pool, usage_days=7) == 3
    assert await drop_expired_chunks(pool, usage_days=7) == 0
    assert database.execute("SELECT count(*) FROM usage").fetchone() == (1,)


async def test_usage_that_is_not_rated_is_never_dropped(pool: Pool, database: Database) -> None:
    """However old; nor what is as old or newer."""
    add_usage(database, utc_now() - 30 * DAY, is_rated=True)
    add_usage(database, utc_now() - 20 * DAY, is_rated=False)
    add_usage(database, utc_now() - 15 * DAY, is_rated=True)
    assert await drop_expired_chunks(pool, usage_days=7) == 1
    assert database.execute("SELECT count(*) FROM usage").fetchone() == (2,)


async def test_late_usage_cannot_slip_in_while_chunks_are_dropped(
    pool: Pool, database: Database
) -> None:
    """An ingest that is under way is waited for, and what it brought is seen."""
    add_usage(database, utc_now() - 30 * DAY, is_rated=True)
    with database.transaction():
        add_usage(database, utc_now() - 30 * DAY, is_rated=False)
        drop = asyncio.create_task(drop_expired_chunks(pool, usage_days=7))
        await wait_until(lambda: waiting(database) == 1)
    assert await drop == 0
    assert database.execute("SELECT count(*) FROM usage").fetchone() == (2,)


async def test_dropping_does_not_hold_up_a_long_ingest(pool: Pool, database: Database) -> None:
    """It gives up after a while; another time will do."""
    add_usage(database, utc_now() - 30 * DAY, is_rated=True)
    with database.transaction():
        add_usage(database, utc_now(), is_rated=False)
        with pytest.raises(errors.LockNotAvailable):
            await drop_expired_chunks(pool, usage_days=7)
    assert await drop_expired_chunks(pool, usage_days=7) == 1


async def test_maintenance_does_all_of_it(pool: Pool, database: Database) -> None:
    """And counts what it did."""
    metrics = Metrics()
    add_usage(database, datetime(2026, 1, 1, tzinfo=UTC), is_rated=True)
    await Maintenance(pool, RetentionSettings(), metrics).once()
    assert len(ranges(database, "usage")) == 3
    value = metrics.registry.get_sample_value
    assert value("nodemeter_aggregator_dropped_chunks_total") == 1
    assert value("nodemeter_aggregator_unpriced_items") == 0


async def test_maintenance_goes_on_after_a_failure(pool: Pool, database: Database) -> None:
    """It counts it and tries again, in time."""
    metrics = Metrics()
    database.execute("ALTER TABLE bill RENAME TO elsewhere")
    task = asyncio.create_task(Maintenance(pool, RetentionSettings(), metrics).run())
    value = metrics.registry.get_sample_value
    try:
        await wait_until(lambda: value("nodemeter_aggregator_maintenance_errors_total") == 1)
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.wait([task])
