"""A node that goes on in another stream is billed once: nothing again, nothing less."""

from contextlib import AsyncExitStack
from datetime import datetime, timedelta

import psycopg
import pytest
from psycopg.rows import TupleRow

from aggregator.ingest.server import IngestServer
from aggregator.metrics import Metrics
from aggregator.rater import rate_pending
from aggregator.store.pool import Pool
from proto.metering.v1 import metering_pb2 as pb
from tests.integration.aggregator.agents import (
    Spool,
    Use,
    bare,
    connected,
    deliver,
    recent,
    records_of,
    wait_until,
)
from tests.integration.aggregator.sessions import waiting

Database = psycopg.Connection[TupleRow]
MINUTE = timedelta(minutes=1)
START = recent()
MS = 60_000


def told(
    spool: Spool,
    start: datetime,
    end: datetime,
    *,
    quota: int = 500,
    used: int | None = None,
    ends: bool = False,
) -> pb.Batch:
    """A frame of the job that began at START, from one instant to another."""
    if not spool.meters:
        spool.meter(spool.run(started_at=START), quota=quota, started_at=START)
    use = Use(meter=1, start=start, end=end, allocated=quota, used=used)
    return spool.batch(records_of(use), ends=[(1, end)] if ends else ())


def at(minutes: float) -> datetime:
    """So many minutes after the start of the job."""
    return START + minutes * MINUTE


def spans(database: Database) -> list[tuple[float, float]]:
    """Where usage is, in minutes after the start, joined where it touches."""
    joined: list[tuple[float, float]] = []
    for start, end in database.execute(
        "SELECT started_at, ended_at FROM usage WHERE meter_id > 0 ORDER BY started_at, ended_at"
    ).fetchall():
        first, last = (start - START) / MINUTE, (end - START) / MINUTE
        if joined and joined[-1][1] == first:
            joined[-1] = (joined[-1][0], last)
        else:
            joined.append((first, last))
    return joined


def total(database: Database, column: str = "allocated") -> int:
    """Sum a column of all jobs' usage."""
    rows = database.execute(
        "SELECT sum(allocated), sum(used), sum(effective), sum(observed_ms)"
        " FROM usage WHERE meter_id > 0"
    ).fetchone()
    assert rows is not None
    return int(rows[["allocated", "used", "effective", "observed_ms"].index(column)])


def quarantined(database: Database) -> list[tuple[str, int]]:
    """Reasons and records of what was set aside."""
    return [
        (reason, count)
        for reason, count in database.execute(
            "SELECT reason, record_count FROM quarantine ORDER BY quarantine_id"
        ).fetchall()
    ]


@pytest.mark.parametrize("is_rated", [False, True])
async def test_a_deleted_spool_bills_no_live_run_again(
    ingest: IngestServer, database: Database, rater_pool: Pool, metrics: Metrics, *, is_rated: bool
) -> None:
    """The new one tells the run from its start: ten minutes are known, 2.5 are new."""
    old, new = Spool(), Spool()
    await deliver(ingest.port, old, [told(old, at(0), at(10))])
    if is_rated:
        await rate_pending(rater_pool, metrics)
    await deliver(ingest.port, new, [told(new, at(0), at(12.5))])
    assert spans(database) == [(0, 12.5)]
    assert total(database) == 500 * 12.5 * MS
    assert quarantined(database) == [("already_metered", 10)]
    assert metrics.registry.get_sample_value("nodemeter_aggregator_takeovers_total") == 1
    assert metrics.registry.get_sample_value("nodemeter_aggregator_fresh_spools_total") == 1
    await rate_pending(rater_pool, metrics)
    (row,) = database.execute("SELECT billed, length_ms FROM bill").fetchall()
    assert row == (500 * 12.5 * MS, 12.5 * MS)


async def test_a_record_that_lies_across_the_floor_is_cut_there(
    ingest: IngestServer, database: Database
) -> None:
    """Its quota x time exactly, of what was used the share of the time."""
    old, new = Spool(), Spool()
    await deliver(ingest.port, old, [told(old, at(0), at(0.25))])
    await deliver(ingest.port, new, [told(new, at(0), at(1), used=1_000)])
    assert spans(database) == [(0, 1)]
    assert total(database, "allocated") == 500 * MS
    assert total(database, "used") == 500 * 0.25 * MS + 1_000 * 0.75 * MS
    assert total(database, "effective") == 500 * 0.25 * MS + 1_000 * 0.75 * MS
    assert total(database, "observed_ms") == MS
    (row,) = database.execute("SELECT payload FROM quarantine").fetchall()
    kept = pb.Batch.FromString(row[0])
    assert list(kept.records.length_ms) == [MS], "what is set aside is as it came"
    assert [run.job_id for run in kept.runs] == ["job-1"]


async def test_each_type_and_device_has_its_own_floor(
    ingest: IngestServer, database: Database
) -> None:
    """Of one GPU the old stream told less than of the other one: the rest is taken."""
    old, new = Spool(), Spool()
    for spool in (old, new):
        run = spool.run(started_at=START)
        for device in ("GPU-1", "GPU-2"):
            spool.meter(
                run, "gpu", quota=126_000, group_quota=252_000, started_at=START,
                model="H200", device=device,
            )  # fmt: skip
    some = [Use(meter=n, start=at(0), end=at(2 * n), allocated=126_000) for n in (1, 2)]
    every = [Use(meter=n, start=at(0), end=at(5), allocated=126_000) for n in (1, 2)]
    await deliver(ingest.port, old, [old.batch(records_of(*some))])
    await deliver(ingest.port, new, [new.batch(records_of(*every))])
    assert total(database) == 2 * 126_000 * 5 * MS
    assert quarantined(database) == [("already_metered", 2 + 4)]


async def test_what_the_old_stream_still_sends_is_set_aside(
    ingest: IngestServer, second_ingest: IngestServer, database: Database
) -> None:
    """Two agents with one identity at two aggregators: whose Hello is later has the run."""
    old, new = Spool(), Spool()
    async with connected(ingest.port) as first, connected(second_ingest.port) as second:
        await first.welcome(old)
        await first.deliver(told(old, at(0), at(10)))
        await second.welcome(new)
        await second.deliver(told(new, at(0), at(11)))
        late = told(old, at(10), at(12), ends=True)
        await first.say(bare(late))
        refusal = await first.rejected()
        assert (refusal.reason, refusal.sequence) == (pb.Reject.REASON_NEED_DEFINITIONS, 2)
        await first.deliver(late)
        await second.deliver(bare(told(new, at(11), at(12))))
    assert spans(database) == [(0, 12)]
    assert database.execute("SELECT ended_at FROM run").fetchall() == [(None,)]
    assert quarantined(database)[-1] == ("already_metered", 2)


async def test_an_old_spool_that_comes_back_goes_on_and_doubles_nothing(
    ingest: IngestServer, database: Database
) -> None:
    """Its disk was mounted again: it has the run from then on, after all that is known."""
    old, new = Spool(), Spool()
    await deliver(ingest.port, old, [told(old, at(0), at(5))])
    await deliver(ingest.port, new, [told(new, at(0), at(10))])
    await deliver(ingest.port, old, [told(old, at(5), at(20))])
    assert spans(database) == [(0, 20)]
    assert total(database) == 500 * 20 * MS


async def test_what_was_under_way_when_a_run_moved_is_asked_for_again(
    ingest: IngestServer, second_ingest: IngestServer, database: Database
) -> None:
    """Several batches, one question; then all in order, and nothing twice."""
    old, new = Spool(), Spool()
    async with connected(ingest.port) as client:
        await client.welcome(old)
        await client.deliver(told(old, at(0), at(1)))
        await deliver(second_ingest.port, new, [told(new, at(0), at(2))])
        batches = [told(old, at(minute), at(minute + 1)) for minute in range(1, 6)]
        for batch in batches:
            await client.say(bare(batch))
        assert (await client.rejected()).reason == pb.Reject.REASON_NEED_DEFINITIONS
        await client.deliver(*batches)
    assert spans(database) == [(0, 2)]


async def test_the_end_that_the_other_stream_said_is_open_again(
    ingest: IngestServer, database: Database
) -> None:
    """Who tells the run says when it ends, and never before what is durable of it."""
    clone, original = Spool(), Spool()
    await deliver(ingest.port, clone, [told(clone, at(0), at(5), ends=True)])
    await deliver(ingest.port, original, [told(original, at(0), at(7))])
    assert database.execute("SELECT ended_at FROM run").fetchall() == [(None,)]
    batch = original.batch(ends=[(1, at(3))])
    await deliver(ingest.port, original, [batch])
    assert database.execute("SELECT ended_at FROM run").fetchall() == [(at(5),)]


async def test_a_restored_database_takes_the_replay(
    ingest: IngestServer, database: Database
) -> None:
    """Back to before the takeover: it happens again, and the same is durable."""
    old, new = Spool(), Spool()
    await deliver(ingest.port, old, [told(old, at(0), at(5))])
    batches = [told(new, at(0), at(8)), told(new, at(8), at(9))]
    database.execute("CREATE TABLE backup AS SELECT * FROM claim")
    await deliver(ingest.port, new, batches)
    before = spans(database), total(database)
    database.execute("DELETE FROM usage WHERE started_at >= %s", [at(5)])
    database.execute("DELETE FROM claim_floor")
    database.execute("DELETE FROM claim")
    database.execute("INSERT INTO claim SELECT * FROM backup")
    database.execute("DELETE FROM batch WHERE stream_id = %s", [_uuid(new)])
    database.execute("DELETE FROM quarantine")
    database.execute("UPDATE stream SET acked_through = 0 WHERE stream_id = %s", [_uuid(new)])
    await deliver(ingest.port, new, batches)
    assert (spans(database), total(database)) == before == ([(0, 9)], 500 * 9 * MS)


def _uuid(spool: Spool) -> str:
    return spool.stream_id.hex()


async def test_the_accounts_of_a_node_are_kept_by_one_stream(
    ingest: IngestServer, database: Database, rater_pool: Pool, metrics: Metrics
) -> None:
    """All of a device together: where the old one told that it was busy, it is not idle."""
    old, new = Spool(), Spool()
    for spool in (old, new):
        for account in ("capacity", "idle"):
            run = spool.account(account, started_at=START)
            spool.meter(run, "gpu", quota=126_000, started_at=START, model="H200", device="GPU-1")
    capacity = Use(meter=1, start=at(0), end=at(10), allocated=126_000)
    idle = Use(meter=2, start=at(0), end=at(4), allocated=126_000)
    await deliver(ingest.port, old, [old.batch(records_of(capacity, idle))])
    await rate_pending(rater_pool, metrics)
    again = [Use(meter=n, start=at(5), end=at(12), allocated=126_000) for n in (1, 2)]
    await deliver(ingest.port, new, [new.batch(records_of(*again))])
    await rate_pending(rater_pool, metrics)
    rows = database.execute(
        "SELECT account, sum(allocated) FROM node_account JOIN node_meter USING (meter_id)"
        " GROUP BY 1 ORDER BY 1"
    ).fetchall()
    assert rows == [("capacity", 126_000 * 12 * MS), ("idle", 126_000 * (4 + 2) * MS)]


async def test_many_nodes_with_new_spools_at_once_are_told_apart(
    ingest: IngestServer, database: Database, database_url: str
) -> None:
    """Beside nodes that go on as before, all in one group of the committer."""
    old = [Spool(node=f"n{number}") for number in range(8)]
    new = [Spool(node=spool.node) for spool in old[:4]]
    for spool in old:
        await deliver(ingest.port, spool, [told(spool, at(0), at(5))])
    async with AsyncExitStack() as stack:
        clients = [
            (await stack.enter_async_context(connected(ingest.port)), spool)
            for spool in [*new, *old[4:]]
        ]
        for client, spool in clients:
            await client.welcome(spool)
        with psycopg.connect(database_url) as blocker:
            blocker.execute("SELECT FROM stream FOR UPDATE")  # what comes next waits, together
            for client, spool in clients:
                await client.say(told(spool, at(0) if spool in new else at(5), at(7)))
            await wait_until(lambda: waiting(database) > 0)
        for client, spool in clients:
            await client.acked(spool.sequence)
    assert total(database) == 8 * 500 * 7 * MS


async def test_the_welcome_names_the_digest_of_its_mark(
    ingest: IngestServer, database: Database
) -> None:
    """Nothing durable, a batch, a gap: only of a batch is there one."""
    spool = Spool()
    batch = told(spool, at(0), at(1))
    async with connected(ingest.port) as client:
        assert (await client.welcome(spool)).acked_digest == b""
        await client.deliver(batch)
    async with connected(ingest.port) as client:
        assert (await client.welcome(spool)).acked_digest == batch.digest
        await client.say(pb.Gap(first=2, last=3, reason="lost"))
        await client.acked(3)
    async with connected(ingest.port) as client:
        assert (await client.welcome(spool)).acked_digest == b""
    assert spans(database) == [(0, 1)]
