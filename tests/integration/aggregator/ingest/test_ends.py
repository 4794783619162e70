"""How connections end, and what may happen at their edges."""

import asyncio

import psycopg
import pytest
from psycopg.rows import TupleRow

from aggregator.ingest import servicer
from aggregator.ingest.server import IngestServer
from proto.metering.v1 import metering_pb2 as pb
from tests.integration.aggregator.agents import Client, Spool, connected

Database = psycopg.Connection[TupleRow]


async def refused(client: Client, reason: pb.Reject.Reason) -> pb.Reject:
    """See the call end with a reason."""
    refusal = await client.rejected()
    assert refusal.reason == reason
    assert await client.receive() is None
    return refusal


async def test_a_mark_that_was_moved_elsewhere_ends_the_connection(
    ingest: IngestServer, database: Database
) -> None:
    """A database restored under us: the agent is told where to go on, and says Hello again."""
    spool = Spool()
    async with connected(ingest.port) as client:
        await client.welcome(spool)
        await client.deliver(spool.batch(), spool.batch())
        database.execute("UPDATE stream SET acked_through = 0")
        await client.say(spool.batch())
        refusal = await refused(client, pb.Reject.REASON_EXPECTED_SEQUENCE)
    assert refusal.expected == 1


async def test_a_repeat_of_what_a_restore_forgot_ends_the_connection(
    ingest: IngestServer, database: Database
) -> None:
    """It is not durable any more, so it is no repeat."""
    spool = Spool()
    first = spool.batch()
    async with connected(ingest.port) as client:
        await client.welcome(spool)
        await client.deliver(first)
        database.execute("UPDATE stream SET acked_through = 0")
        await client.say(first)
        refusal = await refused(client, pb.Reject.REASON_EXPECTED_SEQUENCE)
    assert refusal.expected == 1


@pytest.mark.parametrize("message", [b"\xff\xff", b""])
async def test_a_hello_that_cannot_be_read_is_answered(
    ingest: IngestServer, message: bytes
) -> None:
    """With a reason, not with a broken call."""
    async with connected(ingest.port) as client:
        await client.say_raw(message)
        await refused(client, pb.Reject.REASON_INVALID)


async def test_who_says_nothing_is_not_waited_for_for_ever(
    ingest: IngestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand half-open calls cost nothing for long."""
    monkeypatch.setattr(servicer, "_HELLO_SECONDS", 0.05)
    async with connected(ingest.port) as client:
        await refused(client, pb.Reject.REASON_INVALID)


async def test_who_comes_while_we_stop_is_told_to_come_back(ingest: IngestServer) -> None:
    """And those who are there get their last answers first."""
    ingest._servicer.stop_reading()
    async with connected(ingest.port) as client:
        await client.say(Spool().hello())
        await refused(client, pb.Reject.REASON_BUSY)


async def test_more_devices_than_any_node_has_are_refused(ingest: IngestServer) -> None:
    """They would be kept for ever."""
    hello = Spool().hello()
    for number in range(2000):
        hello.capacity.devices.add(type="gpu", id=str(number), model="m")
    async with connected(ingest.port) as client:
        await client.say(hello)
        await refused(client, pb.Reject.REASON_INVALID)


async def test_agents_that_vanish_while_they_wait_leave_nothing_behind(
    ingest: IngestServer, database: Database
) -> None:
    """Neither a Hello nor a batch of a call that was cut stops the others."""
    with database.transaction():
        database.execute("LOCK TABLE node, stream IN ACCESS EXCLUSIVE MODE")
        for number in range(5):
            async with connected(ingest.port) as client:
                await client.say(Spool(node=f"gone{number}").hello())
                await asyncio.sleep(0)
    spool = Spool()
    async with connected(ingest.port) as client:
        await client.welcome(spool)
        await client.deliver(spool.batch())
