"""A slow or failing database: bounded memory, no ack, a hint, and nothing lost or doubled."""

from datetime import timedelta

import psycopg
import pytest
from psycopg.rows import TupleRow

from aggregator.ingest.server import IngestServer
from aggregator.metrics import Metrics
from aggregator.settings import GrpcSettings, IngestSettings, Settings
from proto.metering.v1 import metering_pb2 as pb
from tests.integration.aggregator.agents import (
    Client,
    Spool,
    Use,
    connected,
    recent,
    records_of,
    wait_until,
)
from tests.integration.aggregator.sessions import kill_waiting, waiting

Database = psycopg.Connection[TupleRow]
HOUR = timedelta(hours=1)
QUEUE_BYTES = 1 << 20


@pytest.fixture
def settings() -> Settings:
    """Room for little."""
    return Settings(
        grpc=GrpcSettings(port=0),
        ingest=IngestSettings(
            linger_seconds=0,
            busy_after_seconds=0.1,
            retry_after_seconds=0.05,
            max_queued_bytes=QUEUE_BYTES,
        ),
    )


def large_batches(spool: Spool, count: int) -> list[pb.Batch]:
    """About 200 kB each."""
    start = recent()
    run = spool.run(started_at=start)
    uses = [
        Use(
            meter=spool.meter(run, quota=number + 1, started_at=start),
            start=start,
            end=start + HOUR,
            allocated=number + 1,
        )
        for number in range(100)
    ]
    records = records_of(*uses)
    return [spool.batch(records) for _ in range(count)]


def queued_bytes(metrics: Metrics) -> float:
    """What waits for the database."""
    value = metrics.registry.get_sample_value("nodemeter_aggregator_ingest_queued_bytes")
    assert value is not None
    return value


async def test_while_the_database_stands_still_agents_are_held_back(
    ingest: IngestServer, database: Database, metrics: Metrics
) -> None:
    """Memory is bounded and the agent is told to come back; then all of it is stored once."""
    spool = Spool()
    batches = large_batches(spool, 20)
    async with connected(ingest.port) as client:
        await client.welcome(spool)
        with database.transaction():
            database.execute("SELECT FROM stream FOR UPDATE")
            for batch in batches:
                await client.say(batch)
            refusal = await client.rejected()
            assert refusal.reason == pb.Reject.REASON_BUSY
            assert refusal.retry_after_ms == 50
            assert 1 < refusal.expected <= len(batches)
            assert queued_bytes(metrics) <= QUEUE_BYTES
        await resend(client, batches, refusal.expected)
    row = database.execute("SELECT count(*), count(DISTINCT ingest_group_id) FROM usage").fetchone()
    assert row is not None
    assert row[0] == 20 * 6000


async def resend(client: Client, batches: list[pb.Batch], expected: int) -> None:
    """Do as told until all is acked."""
    while True:  # a repeated batch may be refused when all are taken and none is acked yet
        for batch in batches[expected - 1 :]:
            await client.say(batch)
        while True:
            answer = await client.receive()
            assert answer is not None
            if answer.HasField("reject"):
                assert answer.reject.reason == pb.Reject.REASON_BUSY
                expected = answer.reject.expected
                break
            if answer.ack.acked_through == len(batches):
                return


async def test_an_unknown_outcome_is_resolved_by_the_mark(
    ingest: IngestServer, database: Database, metrics: Metrics
) -> None:
    """The database's process dies in the transaction: the call ends, the next Hello knows."""
    spool = Spool()
    (batch,) = large_batches(spool, 1)
    async with connected(ingest.port) as client:
        await client.welcome(spool)
        with database.transaction():
            database.execute("SELECT FROM stream FOR UPDATE")
            await client.say(batch)
            await wait_until(lambda: kill_waiting(database) == 1)
        refusal = await client.rejected()
        assert refusal.reason == pb.Reject.REASON_BUSY
        assert await client.receive() is None
    async with connected(ingest.port) as client:
        assert (await client.welcome(spool)).acked_through == 0
        await client.deliver(batch)
    assert database.execute("SELECT count(*) FROM usage").fetchone() == (6000,)
    assert metrics.registry.get_sample_value("nodemeter_aggregator_ingest_errors_total") == 1


async def test_a_deadlock_is_tried_again_and_nobody_notices(
    ingest: IngestServer, database: Database, metrics: Metrics
) -> None:
    """The database chose our transaction as the victim: it is undone, known to be so."""
    database.execute("SET deadlock_timeout = '1h'")
    spool = Spool()
    async with connected(ingest.port) as client:
        await client.welcome(spool)
        database.execute("UPDATE node SET last_seen_at = now() - INTERVAL '1 day'")
        with database.transaction():
            database.execute("SELECT FROM node FOR UPDATE")
            await client.say(spool.batch())
            await wait_until(lambda: waiting(database) == 1)
            # It holds the stream and waits for the node; we hold the node and want the stream.
            database.execute("SELECT FROM stream FOR UPDATE")
        await client.acked(1)
    assert metrics.registry.get_sample_value("nodemeter_aggregator_ingest_errors_total") == 0
    assert database.execute("SELECT acked_through FROM stream").fetchone() == (1,)


async def test_a_hello_is_told_to_come_back_when_the_database_fails(
    ingest: IngestServer, database: Database
) -> None:
    """Not refused for ever, and not left without an answer."""
    database.execute("ALTER TABLE node RENAME TO elsewhere")
    async with connected(ingest.port) as client:
        await client.say(Spool().hello())
        refusal = await client.rejected()
        assert refusal.reason == pb.Reject.REASON_BUSY
        assert refusal.retry_after_ms == 50
        assert await client.receive() is None
    database.execute("ALTER TABLE elsewhere RENAME TO node")
    async with connected(ingest.port) as client:
        await client.welcome(Spool())


async def test_a_database_that_cannot_be_written_to_poisons_nothing(
    ingest: IngestServer, database: Database
) -> None:
    """A missing table is the database's fault: nothing goes to quarantine for it."""
    spool = Spool()
    (batch,) = large_batches(spool, 1)
    async with connected(ingest.port) as client:
        await client.welcome(spool)
        database.execute("ALTER TABLE ingest_group RENAME TO elsewhere")
        await client.say(batch)
        assert (await client.rejected()).reason == pb.Reject.REASON_BUSY
        assert await client.receive() is None
    database.execute("ALTER TABLE elsewhere RENAME TO ingest_group")
    async with connected(ingest.port) as client:
        await client.welcome(spool)
        await client.deliver(batch)
    assert database.execute("SELECT count(*) FROM quarantine").fetchone() == (0,)
