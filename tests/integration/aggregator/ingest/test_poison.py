"""One poison record neither blocks a node nor vanishes; nor does anything else that is wrong."""

from datetime import timedelta

import psycopg
import pytest
from psycopg.rows import TupleRow

from aggregator.clock import to_ms, utc_now
from aggregator.ingest.server import IngestServer
from aggregator.metrics import Metrics
from proto.metering.v1 import metering_pb2 as pb
from tests.integration.aggregator.agents import (
    Client,
    Spool,
    Use,
    bare,
    connected,
    deliver,
    recent,
    records_of,
    sealed,
)

Database = psycopg.Connection[TupleRow]
MINUTE = timedelta(minutes=1)


def ten_minutes(spool: Spool, job_id: str = "job-1") -> pb.Records:
    """Ten records of a job; defines it."""
    start = recent()
    run = spool.run(job_id, started_at=start)
    meter = spool.meter(run, started_at=start)
    return records_of(Use(meter=meter, start=start, end=start + 10 * MINUTE, allocated=500))


def stored(database: Database) -> int:
    """Records stored."""
    row = database.execute("SELECT count(*) FROM usage").fetchone()
    assert row is not None
    return int(row[0])


def kept(database: Database) -> list[tuple[str, int, pb.Batch]]:
    """What is in quarantine, parsed."""
    rows = database.execute(
        "SELECT reason, record_count, payload FROM quarantine ORDER BY quarantine_id"
    ).fetchall()
    return [(reason, count, pb.Batch.FromString(payload)) for reason, count, payload in rows]


async def test_a_poison_record_is_set_aside_and_its_neighbours_are_taken(
    ingest: IngestServer, database: Database, metrics: Metrics
) -> None:
    """The sequence is settled, and what is kept is readable by itself."""
    spool = Spool()
    records = ten_minutes(spool)
    records.allocated[3] = -1
    records.length_ms[7] = 0
    batch = spool.batch(records)
    await deliver(ingest.port, spool, [batch])
    assert stored(database) == 8
    parts = kept(database)
    assert [(reason, count) for reason, count, _ in parts] == [("negative", 1), ("zero_length", 1)]
    for _, _, part in parts:
        assert list(part.runs) == list(batch.runs)
        assert list(part.meters) == list(batch.meters)
        assert (part.sequence, part.digest) == (batch.sequence, batch.digest)
    assert parts[0][2].records.allocated == [-1]
    quarantined = metrics.registry.get_sample_value(
        "nodemeter_aggregator_quarantined_records_total", {"reason": "negative"}
    )
    assert quarantined == 1


async def test_a_poison_record_without_definitions_is_asked_for_whole(
    ingest: IngestServer, database: Database
) -> None:
    """So that what is kept can be read by itself."""
    spool = Spool()
    records = ten_minutes(spool)
    first = spool.batch(records)
    records.used[0] = -5
    second = spool.batch(records)
    async with connected(ingest.port) as client:
        await client.welcome(spool)
        await client.deliver(first)
        await client.say(bare(second))
        assert (await client.rejected()).reason == pb.Reject.REASON_NEED_DEFINITIONS
        await client.deliver(second)
    assert stored(database) == 19
    ((reason, count, part),) = kept(database)
    assert (reason, count) == ("negative", 1)
    assert list(part.meters) == list(second.meters)


async def test_a_number_that_even_the_whole_frame_does_not_define_is_set_aside(
    ingest: IngestServer, database: Database
) -> None:
    """Once asked, once answered; no node is asked for ever."""
    spool = Spool()
    records = ten_minutes(spool)
    records.meter[4] = 99
    batch = spool.batch(records, ends=[(77, utc_now())])
    async with connected(ingest.port) as client:
        await client.welcome(spool)
        await client.say(batch)
        assert (await client.rejected()).reason == pb.Reject.REASON_NEED_DEFINITIONS
        await client.deliver(batch)
    assert stored(database) == 9
    assert [(reason, count) for reason, count, _ in kept(database)] == [
        ("unknown_meter", 1),
        ("unknown_run", 0),
    ]


async def test_columns_of_unequal_length_set_the_whole_batch_aside(
    ingest: IngestServer, database: Database
) -> None:
    """Nobody can say which record is which; the stream goes on."""
    spool = Spool()
    records = ten_minutes(spool)
    records.used.pop()
    broken = spool.batch(records)
    await deliver(ingest.port, spool, [broken, spool.batch()])
    assert stored(database) == 0
    assert kept(database) == [("unequal_columns", 10, broken)]


@pytest.mark.parametrize("name", ["nul\0nul", "line\nline", "escape\x1b[31m", "x" * 257, ""])
async def test_a_foreign_string_poisons_nothing_but_itself(
    ingest: IngestServer, database: Database, name: str
) -> None:
    """A job whose name cannot be stored is kept aside; the others of the batch are billed."""
    spool = Spool()
    bad, good = ten_minutes(spool, "bad"), ten_minutes(spool, "good")
    spool.runs[1].job_name = name
    bad.MergeFrom(good)
    await deliver(ingest.port, spool, [spool.batch(bad)])
    assert stored(database) == 10
    assert database.execute("SELECT job_name FROM run").fetchall() == [("good",)]
    ((reason, count, part),) = kept(database)
    assert (reason, count) == ("bad_string", 10)
    assert [run.job_name for run in part.runs] == [name]


@pytest.mark.parametrize(
    ("offset", "reason"),
    [
        (timedelta(days=-36), "bad_time"),
        (timedelta(days=3650), "bad_time"),
        (timedelta(days=365 * 5000), "bad_time"),
    ],
)
async def test_instants_that_cannot_be_believed_are_set_aside(
    ingest: IngestServer, database: Database, offset: timedelta, reason: str
) -> None:
    """A clock ten years fast, a backlog older than anything: kept, not billed."""
    spool = Spool()
    records = ten_minutes(spool)
    records.base_ms += to_ms(recent() + offset) - to_ms(recent())
    await deliver(ingest.port, spool, [spool.batch(records)])
    assert stored(database) == 0
    assert [(why, count) for why, count, _ in kept(database)] == [(reason, 10)]


async def test_a_base_that_would_overflow_is_set_aside(
    ingest: IngestServer, database: Database
) -> None:
    """Checked before anything is added to it."""
    spool = Spool()
    for base_ms in (2**63 - 1, -(2**63)):
        records = ten_minutes(spool)
        records.base_ms = base_ms
        await deliver(ingest.port, spool, [spool.batch(records)])
    assert [(why, count) for why, count, _ in kept(database)] == [("bad_time", 10)] * 2


async def test_what_the_database_alone_refuses_goes_to_quarantine(
    ingest: IngestServer, database: Database
) -> None:
    """A rule that we missed costs the batch that breaks it, not its group."""
    database.execute("ALTER TABLE run ADD CONSTRAINT missed CHECK (job_name <> 'poison')")
    poisoned, healthy = Spool(node="n1"), Spool(node="n2")
    bad = poisoned.batch(ten_minutes(poisoned, "poison"))
    after = poisoned.batch(ten_minutes(poisoned, "fine"), runs=[2], meters=[2])
    good = healthy.batch(ten_minutes(healthy, "healthy"))
    async with connected(ingest.port) as one, connected(ingest.port) as other:
        await one.welcome(poisoned)
        await other.welcome(healthy)
        await one.say(bad)
        await other.say(good)
        await one.deliver(after)
        await other.acked(1)
    assert stored(database) == 20
    assert kept(database) == [("refused_by_database", 10, bad)]


async def test_what_cannot_be_parsed_ends_the_call_with_the_reason(
    ingest: IngestServer,
) -> None:
    """And costs nobody else anything."""
    spool = Spool()
    async with connected(ingest.port) as client:
        await client.welcome(spool)
        await client.say_raw(b"\xff\xff\xff")
        refusal = await client.rejected()
        assert refusal.reason == pb.Reject.REASON_INVALID
        assert "parsed" in refusal.detail
        assert await client.receive() is None
    await deliver(ingest.port, spool, [spool.batch(ten_minutes(spool))])


@pytest.mark.parametrize(
    "message",
    [
        pb.Batch(sequence=0),
        pb.Batch(sequence=2**64 - 1),
        pb.Gap(first=0, last=3),
        pb.Gap(first=3, last=2),
        pb.Gap(first=1, last=2**64 - 1),
        pb.Hello(node="again"),
    ],
    ids=str,
)
async def test_a_message_that_makes_no_sense_ends_the_call(
    ingest: IngestServer, message: pb.Hello | pb.Batch | pb.Gap
) -> None:
    """There is no sequence that it could settle."""
    async with connected(ingest.port) as client:
        await client.welcome(Spool())
        await client.say(message)
        assert (await client.rejected()).reason == pb.Reject.REASON_INVALID
        assert await client.receive() is None


async def test_a_batch_whose_digest_is_none_is_set_aside_once(
    ingest: IngestServer, database: Database
) -> None:
    """It is still told from others, should it come again."""
    spool = Spool()
    batch = spool.batch(ten_minutes(spool))
    batch.digest = b"short"
    await deliver(ingest.port, spool, [batch])
    await deliver(ingest.port, spool, [batch])
    assert [(why, count) for why, count, _ in kept(database)] == [("bad_digest", 10)]


async def test_a_message_that_is_too_large_is_refused_by_its_size(
    ingest: IngestServer, database: Database
) -> None:
    """Before it is in memory; the limit is in the Welcome."""
    spool = Spool()
    async with connected(ingest.port) as client:
        limit = (await client.welcome(spool)).max_message_bytes
        await client.say_raw(bytes(limit + 1))
        with pytest.raises(Exception, match="RESOURCE_EXHAUSTED"):
            await _drain(client)
    assert stored(database) == 0


async def _drain(client: Client) -> None:
    while await client.receive() is not None:
        pass


async def test_a_definition_that_changes_its_mind_is_set_aside(
    ingest: IngestServer, database: Database
) -> None:
    """One number, two meanings: neither is believed."""
    spool = Spool()
    records = ten_minutes(spool)
    batch = spool.batch(records)
    twin = batch.meters.add()
    twin.CopyFrom(batch.meters[0])
    twin.quota += 1
    await deliver(ingest.port, spool, [sealed(batch)])
    assert stored(database) == 0
    ((reason, count, part),) = kept(database)
    assert (reason, count, len(part.meters)) == ("redefined", 10, 2)
