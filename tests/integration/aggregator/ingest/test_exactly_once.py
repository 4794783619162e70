"""Exactly once: what is acked is durable, once, whatever agents and connections do."""

import asyncio
from datetime import timedelta

import psycopg
from psycopg.rows import TupleRow

from aggregator.clock import to_ms, utc_now
from aggregator.ingest.server import IngestServer
from aggregator.metrics import Metrics
from proto.metering.v1 import metering_pb2 as pb
from tests.integration.aggregator.agents import (
    Spool,
    Use,
    bare,
    connected,
    deliver,
    recent,
    records_of,
    sealed,
    wait_until,
)

Database = psycopg.Connection[TupleRow]
HOUR = timedelta(hours=1)


def one_hour(spool: Spool, job_id: str = "job-1") -> pb.Records:
    """An hour of a job with 500 m, 60 records; defines it."""
    start = recent()
    run = spool.run(job_id, started_at=start)
    meter = spool.meter(run, started_at=start)
    return records_of(Use(meter=meter, start=start, end=start + HOUR, allocated=500))


def stored(database: Database) -> tuple[int, int]:
    """Records, and the sum of what they say was allocated."""
    row = database.execute("SELECT count(*), coalesce(sum(allocated), 0) FROM usage").fetchone()
    assert row is not None
    return int(row[0]), int(row[1])


def mark(database: Database) -> int:
    """Where the only stream's mark stands."""
    row = database.execute("SELECT acked_through FROM stream").fetchone()
    assert row is not None
    return int(row[0])


ONE_HOUR = (60, 500 * 3_600_000)


async def test_a_batch_is_stored_and_acked(ingest: IngestServer, database: Database) -> None:
    """The ack comes, and every record, definition and mark is there."""
    spool = Spool()
    await deliver(ingest.port, spool, [spool.batch(one_hour(spool))])
    assert stored(database) == ONE_HOUR
    assert database.execute("SELECT acked_through, epoch FROM stream").fetchone() == (1, 1)
    assert database.execute("SELECT job_id, username, ended_at FROM run").fetchall() == [
        ("job-1", "alice", None)
    ]
    assert database.execute("SELECT record_count FROM ingest_group").fetchall() == [(60,)]


async def test_a_replayed_batch_is_acked_again_and_stored_once(
    ingest: IngestServer, database: Database, metrics: Metrics
) -> None:
    """On the same connection and on a new one."""
    spool = Spool()
    batch = spool.batch(one_hour(spool))
    async with connected(ingest.port) as client:
        await client.welcome(spool)
        await client.deliver(batch)
        await client.deliver(batch)
    await deliver(ingest.port, spool, [batch])
    assert stored(database) == ONE_HOUR
    assert metrics.registry.get_sample_value("nodemeter_aggregator_replays_total") == 2


async def test_a_replay_right_behind_its_original_is_the_same_batch(
    ingest: IngestServer, database: Database
) -> None:
    """Even in one group, before the original is durable."""
    spool = Spool()
    batch = spool.batch(one_hour(spool))
    async with connected(ingest.port) as client:
        await client.welcome(spool)
        for _ in range(5):
            await client.say(batch)
        await client.deliver(spool.batch())
    assert stored(database) == ONE_HOUR
    assert mark(database) == 2


async def test_a_sequence_with_other_content_is_a_conflict(
    ingest: IngestServer, database: Database, metrics: Metrics
) -> None:
    """What was durable stays, the other is kept once in quarantine, the stream goes on."""
    spool = Spool()
    records = one_hour(spool)
    await deliver(ingest.port, spool, [spool.batch(records)])
    other = pb.Records()
    other.CopyFrom(records)
    other.allocated[0] += 1
    spool.sequence = 0
    conflicting = spool.batch(other)
    async with connected(ingest.port) as client:
        await client.welcome(spool)
        for _ in range(2):
            await client.say(conflicting)
            refusal = await client.rejected()
            assert (refusal.reason, refusal.sequence) == (pb.Reject.REASON_CONFLICT, 1)
        await client.deliver(spool.batch())
    assert stored(database) == ONE_HOUR
    rows = database.execute("SELECT reason, record_count, payload FROM quarantine").fetchall()
    assert [(row[0], row[1]) for row in rows] == [("sequence_reused", 60)]
    assert pb.Batch.FromString(rows[0][2]) == conflicting
    assert metrics.registry.get_sample_value("nodemeter_aggregator_conflicts_total") == 2


async def test_a_skipped_sequence_is_asked_for_and_what_follows_is_ignored(
    ingest: IngestServer, database: Database
) -> None:
    """One refusal, not one per batch; then all of them in order."""
    spool = Spool()
    batches = [spool.batch(one_hour(spool, f"job-{n}")) for n in range(4)]
    async with connected(ingest.port) as client:
        await client.welcome(spool)
        for batch in batches[1:]:
            await client.say(batch)
        refusal = await client.rejected()
        assert (refusal.reason, refusal.expected) == (pb.Reject.REASON_EXPECTED_SEQUENCE, 1)
        await client.deliver(*batches)
    assert stored(database) == (240, 4 * ONE_HOUR[1])


async def test_a_newer_connection_fences_the_older(
    ingest: IngestServer, database: Database
) -> None:
    """The older one's batch is refused and its call ended; the newer one's is taken."""
    spool = Spool()
    batch = spool.batch(one_hour(spool))
    async with connected(ingest.port) as older, connected(ingest.port) as newer:
        assert (await older.welcome(spool)).epoch == 1
        assert (await newer.welcome(spool)).epoch == 2
        await older.say(batch)
        assert (await older.rejected()).reason == pb.Reject.REASON_FENCED
        assert await older.receive() is None
        await newer.deliver(batch)
    assert stored(database) == ONE_HOUR


async def test_a_gap_is_recorded_and_moves_the_mark(
    ingest: IngestServer, database: Database, metrics: Metrics
) -> None:
    """What the node lost is on record; the next sequence after it is taken."""
    spool = Spool()
    async with connected(ingest.port) as client:
        await client.welcome(spool)
        await client.deliver(spool.batch())
        await client.say(pb.Gap(first=2, last=5, reason="torn\ntail"))
        await client.acked(5)
        spool.sequence = 5
        await client.deliver(spool.batch(one_hour(spool)))
    gaps = database.execute("SELECT first_sequence, last_sequence, reason FROM stream_gap")
    assert gaps.fetchall() == [(2, 5, "torn?tail")]
    assert mark(database) == 6
    assert metrics.registry.get_sample_value("nodemeter_aggregator_gap_sequences_total") == 4


async def test_a_gap_over_what_is_durable_claims_only_the_rest(
    ingest: IngestServer, database: Database
) -> None:
    """A node may have lost the ack, too; saying a gap again changes nothing."""
    spool = Spool()
    async with connected(ingest.port) as client:
        await client.welcome(spool)
        await client.deliver(spool.batch(), spool.batch())
        for _ in range(2):
            await client.say(pb.Gap(first=1, last=4, reason="lost"))
            await client.acked(4)
    gaps = database.execute("SELECT first_sequence, last_sequence FROM stream_gap").fetchall()
    assert gaps == [(3, 4)]


async def test_what_was_committed_but_not_acked_is_known_at_the_next_hello(
    ingest: IngestServer, database: Database
) -> None:
    """The connection is cut between commit and ack; the mark says what is durable."""
    spool = Spool()
    batch = spool.batch(one_hour(spool))
    async with connected(ingest.port) as client:
        await client.welcome(spool)
        await client.say(batch)
        await wait_until(lambda: mark(database) == 1)
    async with connected(ingest.port) as client:
        assert (await client.welcome(spool)).acked_through == 1
        await client.deliver(batch)
    assert stored(database) == ONE_HOUR


async def test_definitions_may_be_left_out_once_they_are_acked(
    ingest: IngestServer, database: Database
) -> None:
    """On the connection that acked them; on another they are asked for."""
    spool = Spool()
    first = spool.batch(one_hour(spool))
    second = spool.batch(first.records)
    third = spool.batch(first.records)
    async with connected(ingest.port) as client:
        await client.welcome(spool)
        await client.deliver(first)
        await client.deliver(bare(second))
    async with connected(ingest.port) as client:
        await client.welcome(spool)
        await client.say(bare(third))
        refusal = await client.rejected()
        assert refusal.reason == pb.Reject.REASON_NEED_DEFINITIONS
        assert (refusal.sequence, refusal.expected) == (3, 3)
        await client.deliver(third)
    assert stored(database) == (180, 3 * ONE_HOUR[1])
    assert database.execute("SELECT count(*) FROM meter").fetchone() == (1,)


async def test_a_definition_is_one_row_however_often_it_comes(
    ingest: IngestServer, database: Database
) -> None:
    """From two streams of one node, too: its spool was lost and it numbers anew."""
    first, second = Spool(), Spool(machine_id="m1")
    batch = first.batch(one_hour(first))
    again = second.batch(one_hour(second))
    await deliver(ingest.port, first, [batch, first.batch(batch.records)])
    await deliver(ingest.port, second, [again])
    assert database.execute("SELECT count(*) FROM run").fetchone() == (1,)
    assert database.execute("SELECT count(*) FROM meter").fetchone() == (1,)
    assert database.execute("SELECT count(*) FROM price_class").fetchone() == (1,)
    assert database.execute("SELECT username FROM billing_user").fetchall() == [("alice",)]


async def test_the_end_of_a_run_is_kept_as_first_said_and_its_numbers_are_forgotten(
    ingest: IngestServer, database: Database
) -> None:
    """A long connection does not grow; a late use of the number costs one question."""
    spool = Spool()
    records = one_hour(spool)
    ended_at = recent() + HOUR
    first = spool.batch(records, ends=[(1, ended_at)])
    late = spool.batch(records, ends=[(1, ended_at + HOUR / 2)])
    async with connected(ingest.port) as client:
        await client.welcome(spool)
        await client.deliver(first)
        await client.say(bare(late))
        assert (await client.rejected()).reason == pb.Reject.REASON_NEED_DEFINITIONS
        await client.deliver(late)
    assert database.execute("SELECT ended_at FROM run").fetchall() == [(ended_at,)]


async def test_devices_of_one_item_share_its_bill(ingest: IngestServer, database: Database) -> None:
    """Two devices of one model that begin together are one item; another model is another."""
    spool = Spool()
    start = recent()
    run = spool.run(started_at=start)
    for device, model in (("GPU-1", "H200"), ("GPU-2", "H200"), ("GPU-3", "A100")):
        spool.meter(
            run, "gpu", quota=126_000, group_quota=252_000, started_at=start,
            model=model, device=device,
        )  # fmt: skip
    await deliver(ingest.port, spool, [spool.batch()])
    found = database.execute(
        "SELECT model, count(*) FROM meter JOIN price_class USING (price_class_id)"
        " GROUP BY bill_id, model ORDER BY model"
    )
    assert found.fetchall() == [("A100", 1), ("H200", 2)]


async def test_usage_that_ends_in_the_future_keeps_nobody_waiting(
    ingest: IngestServer, database: Database
) -> None:
    """A node whose clock is fast gets an ingest group of its own; definitions need not wait."""
    spool = Spool()
    records = one_hour(spool)
    now_ms = to_ms(utc_now())
    ahead_ms = now_ms - now_ms % 60_000 + 60_000
    ahead = pb.Records(
        base_ms=ahead_ms, meter=[1], start_ms=[0], length_ms=[60_000], allocated=[0], used=[0],
        effective=[0], observed_ms=[0],
    )  # fmt: skip
    async with connected(ingest.port) as client:
        await client.welcome(spool)
        await client.deliver(spool.batch(ahead))
        await client.deliver(spool.batch(records))
    groups = database.execute(
        "SELECT record_count, max_ended_at > now() FROM ingest_group ORDER BY ingest_group_id"
    ).fetchall()
    assert groups == [(0, None), (1, True), (60, False)]
    defining = database.execute(
        "SELECT record_count FROM meter JOIN ingest_group USING (ingest_group_id)"
    )
    assert defining.fetchall() == [(0,)]


async def test_two_aggregators_share_one_database(
    ingest: IngestServer, second_ingest: IngestServer, database: Database
) -> None:
    """A stream may go on at the other one; definitions of both at once are one row each."""
    spools = [Spool(node=f"n{number}") for number in range(10)]
    batches = {
        spool.node: [spool.batch(one_hour(spool, f"job-{n}")) for n in range(4)] for spool in spools
    }
    async with asyncio.TaskGroup() as tasks:
        for number, spool in enumerate(spools):
            port = (ingest, second_ingest)[number % 2].port
            tasks.create_task(deliver(port, spool, batches[spool.node][:2]))
    async with asyncio.TaskGroup() as tasks:
        for number, spool in enumerate(spools):
            port = (second_ingest, ingest)[number % 2].port
            tasks.create_task(deliver(port, spool, batches[spool.node]))
    assert stored(database) == (2400, 40 * ONE_HOUR[1])
    assert database.execute("SELECT count(*) FROM meter").fetchone() == (40,)
    assert database.execute("SELECT count(*) FROM billing_user").fetchone() == (1,)


async def test_many_streams_are_stored_in_few_transactions(
    ingest: IngestServer, database: Database
) -> None:
    """Every record of every stream once; fewer groups than batches."""
    spools = [Spool(node=f"n{number}") for number in range(40)]

    async def play(spool: Spool) -> None:
        await deliver(ingest.port, spool, [spool.batch(one_hour(spool)) for _ in range(5)])

    async with asyncio.TaskGroup() as tasks:
        for spool in spools:
            tasks.create_task(play(spool))
    assert stored(database) == (40 * 5 * 60, 40 * 5 * ONE_HOUR[1])
    groups = database.execute("SELECT count(*), sum(record_count) FROM ingest_group").fetchone()
    assert groups is not None
    assert groups[0] < 100
    assert groups[1] == 40 * 5 * 60


async def test_a_stop_stores_and_acks_what_was_taken(
    ingest: IngestServer, database: Database
) -> None:
    """Whatever was acked is durable, and what is durable was acked, before the end."""
    spool = Spool()
    async with connected(ingest.port) as client:
        await client.welcome(spool)
        for number in range(20):
            await client.say(spool.batch(one_hour(spool, f"job-{number}")))
        await client.acked(1)
        await ingest.stop()
        acked = 1
        while (answer := await client.receive()) is not None:
            acked = max(acked, answer.ack.acked_through)
    assert mark(database) == acked
    assert stored(database)[0] == 60 * acked


async def test_a_heartbeat_shows_that_the_node_lives(
    ingest: IngestServer, database: Database
) -> None:
    """It moves last_seen_at and nothing else."""
    spool = Spool()
    async with connected(ingest.port) as client:
        await client.welcome(spool)
        database.execute("UPDATE node SET last_seen_at = now() - INTERVAL '1 hour'")
        await client.say(pb.Heartbeat())

        def is_seen() -> bool:
            row = database.execute(
                "SELECT last_seen_at > now() - INTERVAL '1 minute' FROM node"
            ).fetchone()
            return row == (True,)

        await wait_until(is_seen)
    assert mark(database) == 0


async def test_the_digest_is_over_the_stored_frame(
    ingest: IngestServer, database: Database
) -> None:
    """A replay without definitions is the same batch, since its digest says so."""
    spool = Spool()
    first = spool.batch(one_hour(spool))
    await deliver(ingest.port, spool, [first])
    await deliver(ingest.port, spool, [bare(first)])
    assert stored(database) == ONE_HOUR
    changed = sealed(bare(first))
    async with connected(ingest.port) as client:
        await client.welcome(spool)
        await client.say(changed)
        assert (await client.rejected()).reason == pb.Reject.REASON_CONFLICT
