"""A database that was emptied while we run: nothing is acked, nobody gives anything up."""

import asyncio

import psycopg
from psycopg.rows import TupleRow

from aggregator.ingest.server import IngestServer
from aggregator.store.migrate import migrate
from proto.metering.v1 import metering_pb2 as pb
from tests.integration.aggregator.agents import Spool, connected

Database = psycopg.Connection[TupleRow]


async def test_a_connection_that_outlives_its_stream_says_hello_again(
    ingest: IngestServer, database: Database, database_url: str
) -> None:
    """Fenced it would give its backlog up; acked it would be lost."""
    spool = Spool()
    async with connected(ingest.port) as client:
        await client.welcome(spool)
        await client.deliver(spool.batch())
        await asyncio.to_thread(database.execute, "DROP SCHEMA public CASCADE")
        await asyncio.to_thread(migrate, database_url)
        await client.say(spool.batch())
        refusal = await client.rejected()
        assert refusal.reason == pb.Reject.REASON_BUSY
        assert await client.receive() is None
    assert (await welcomed(ingest.port, spool)).acked_through == 0


async def welcomed(port: int, spool: Spool) -> pb.Welcome:
    """Come back as often as one is told to: the sessions that knew the old schema are renewed."""
    while True:
        async with connected(port) as client:
            await client.say(spool.hello())
            answer = await client.receive()
            assert answer is not None
            if answer.HasField("welcome"):
                return answer.welcome
            assert answer.reject.reason == pb.Reject.REASON_BUSY
