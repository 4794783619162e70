"""Exactly once: what is acked is durable, once, whatever agents and connections do."""

from datetime import timedelta

import psycopg
from psycopg.rows import TupleRow

from aggregator.ingest.server import IngestServer
from tests.integration.aggregator.agents import Spool, Use, deliver, recent, records_of

Database = psycopg.Connection[TupleRow]


def one_hour(spool: Spool, *, quota: int = 500) -> tuple[int, Use]:
    """A job of one hour."""
    start = recent()
    run = spool.run(started_at=start)
    meter = spool.meter(run, quota=quota, started_at=start)
    return meter, Use(meter=meter, start=start, end=start + timedelta(hours=1), allocated=quota)


def totals(database: Database) -> tuple[int, int]:
    """Records stored, and the sum of what they say was allocated."""
    row = database.execute("SELECT count(*), coalesce(sum(allocated), 0) FROM usage").fetchone()
    assert row is not None
    return int(row[0]), int(row[1])


async def test_a_batch_is_stored_and_acked(ingest: IngestServer, database: Database) -> None:
    """The ack comes, and every record, definition and mark is there."""
    spool = Spool()
    _, use = one_hour(spool)
    await deliver(ingest.port, spool, [spool.batch(records_of(use))])
    assert totals(database) == (60, 500 * 3_600_000)
    assert database.execute("SELECT acked_through, epoch FROM stream").fetchone() == (1, 1)
