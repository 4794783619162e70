"""Several batches in one message count as if each had come by itself."""

from datetime import timedelta

import psycopg
import pytest
from psycopg.rows import TupleRow

from aggregator.ingest.receive import MAX_BATCHES
from aggregator.ingest.server import IngestServer
from aggregator.metrics import Metrics
from proto.metering.v1 import metering_pb2 as pb
from tests.integration.aggregator.agents import (
    Spool,
    Use,
    bare,
    connected,
    recent,
    records_of,
    sealed,
)

Database = psycopg.Connection[TupleRow]
MINUTE = timedelta(minutes=1)


def minutes(spool: Spool, count: int) -> list[pb.Batch]:
    """One batch a minute of a job with 500 m; all define it."""
    start = recent()
    meter = spool.meter(spool.run(started_at=start), started_at=start)
    return [
        spool.batch(
            records_of(
                Use(
                    meter=meter,
                    start=start + place * MINUTE,
                    end=start + (place + 1) * MINUTE,
                    allocated=500,
                )
            )
        )
        for place in range(count)
    ]


def stored(database: Database) -> list[int]:
    """The minutes that are stored, from the first on."""
    rows = database.execute("SELECT started_at FROM usage ORDER BY started_at").fetchall()
    return [(at - recent()) // MINUTE for (at,) in rows]


async def test_they_are_stored_and_acked_as_one_by_one(
    ingest: IngestServer, database: Database, metrics: Metrics
) -> None:
    """With definitions and without, each with its digest; the Welcome says that they may come."""
    spool = Spool()
    batches = minutes(spool, 12)
    async with connected(ingest.port) as client:
        welcome = await client.welcome(spool)
        assert welcome.max_batches == MAX_BATCHES
        await client.say_together(*batches[:2])
        await client.acked(2)
        await client.say_together(*[bare(each) for each in batches[2:11]])
        await client.deliver(bare(batches[11]))
    assert stored(database) == [*range(12)]
    rows = database.execute("SELECT sequence, digest FROM batch ORDER BY sequence").fetchall()
    assert rows == [(each.sequence, each.digest) for each in batches]
    assert metrics.registry.get_sample_value("nodemeter_aggregator_batches_total") == 12


async def test_one_that_must_be_sent_whole_holds_back_what_follows_only(
    ingest: IngestServer, database: Database
) -> None:
    """Poison among good ones: it is asked for by its number, set aside, and costs no other."""
    spool = Spool()
    batches = minutes(spool, 6)
    batches[3].records.used[0] = -5
    sealed(batches[3])
    async with connected(ingest.port) as client:
        await client.welcome(spool)
        await client.deliver(batches[0])
        await client.say_together(*[bare(each) for each in batches[1:]])
        refusal = await client.rejected()
        assert (refusal.reason, refusal.sequence) == (pb.Reject.REASON_NEED_DEFINITIONS, 4)
        await client.say_together(*batches[3:])
        await client.acked(6)
    assert stored(database) == [0, 1, 2, 4, 5]
    rows = database.execute("SELECT reason, sequence FROM quarantine").fetchall()
    assert rows == [("negative", 4)]


async def test_what_was_durable_is_told_from_what_is_new(
    ingest: IngestServer, database: Database
) -> None:
    """A message with a replay, a conflict and the next sequences: each is what it is."""
    spool = Spool()
    batches = minutes(spool, 6)
    other = pb.Batch()
    other.CopyFrom(batches[1])
    other.records.used[0] += 1
    sealed(other)
    async with connected(ingest.port) as client:
        await client.welcome(spool)
        await client.say_together(*batches[:3])
        await client.acked(3)
        await client.say_together(batches[0], other, *[bare(each) for each in batches[3:5]])
        refusal = await client.rejected()
        assert (refusal.reason, refusal.sequence) == (pb.Reject.REASON_CONFLICT, 2)
        await client.deliver(bare(batches[5]))
    assert stored(database) == [*range(6)]
    assert database.execute("SELECT reason FROM quarantine").fetchall() == [("sequence_reused",)]


async def test_a_skip_among_them_is_told_and_what_came_before_is_taken(
    ingest: IngestServer, database: Database
) -> None:
    """As the agent is told: it goes on from there."""
    spool = Spool()
    batches = minutes(spool, 5)
    async with connected(ingest.port) as client:
        await client.welcome(spool)
        await client.deliver(batches[0])
        skipping = [batches[1], batches[3], batches[4]]
        await client.say_together(*[bare(each) for each in skipping])
        refusal = await client.rejected()
        assert (refusal.reason, refusal.expected) == (pb.Reject.REASON_EXPECTED_SEQUENCE, 3)
        await client.say_together(*[bare(each) for each in batches[2:]])
        await client.acked(5)
    assert stored(database) == [*range(5)]


@pytest.mark.parametrize("what", ["none", "many", "malformed"])
async def test_a_message_that_breaks_the_rules_ends_the_call_with_the_reason(
    ingest: IngestServer, database: Database, what: str
) -> None:
    """Nothing of it is taken; who sent it goes on one by one."""
    spool = Spool()
    good = minutes(spool, 1)[0].SerializeToString()
    packed = {"none": [], "many": [good] * (MAX_BATCHES + 1), "malformed": [good, b"\xff"]}[what]
    async with connected(ingest.port) as client:
        await client.welcome(spool)
        message = pb.AgentMessage(batches=pb.Batches(batches=packed))
        await client.say_raw(message.SerializeToString())
        refusal = await client.rejected()
        assert (refusal.reason, refusal.sequence) == (pb.Reject.REASON_INVALID, 0)
        assert "batch" in refusal.detail
        assert await client.receive() is None
    assert stored(database) == []


async def test_they_count_in_the_room_by_their_number(
    ingest: IngestServer, database: Database, metrics: Metrics
) -> None:
    """A message of many small ones costs more than its bytes; all of it is given back."""
    spool = Spool()
    async with connected(ingest.port) as client:
        await client.welcome(spool)
        for _ in range(5):
            batches = [spool.batch() for _ in range(MAX_BATCHES)]
            await client.say_together(*batches)
            await client.acked(batches[-1].sequence)
    assert database.execute("SELECT acked_through FROM stream").fetchone() == (5 * MAX_BATCHES,)
    assert metrics.registry.get_sample_value("nodemeter_aggregator_ingest_queued_bytes") == 0
