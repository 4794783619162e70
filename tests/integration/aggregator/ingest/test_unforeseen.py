"""A fault of ours that one item brings to light costs that item, and nobody else anything."""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import replace

import psycopg
import pytest
from psycopg.rows import TupleRow

from aggregator.clock import to_ms, utc_now
from aggregator.ingest.commit import Committer
from aggregator.ingest.decode import decode
from aggregator.ingest.definition import TimeBounds
from aggregator.ingest.hello import Bounds, Registrar
from aggregator.ingest.session import Session
from aggregator.ingest.settle import BatchItem, PulseItem
from aggregator.metrics import Metrics
from aggregator.settings import IngestSettings
from aggregator.store.pool import Pool
from proto.metering.v1 import metering_pb2 as pb
from tests.integration.aggregator.agents import Spool, Use, recent, records_of

Database = psycopg.Connection[TupleRow]


async def welcomed(pool: Pool, spools: list[Spool]) -> list[Session]:
    """A connection of each."""
    registrar = Registrar(pool, Bounds(nodes=100, new_streams=100))
    runs = asyncio.create_task(registrar.run())
    try:
        welcomes = [await registrar.welcome(spool.hello()) for spool in spools]
    finally:
        runs.cancel()
    return [Session(identity=each.identity, expected=1) for each in welcomes]


def item_of(session: Session, spool: Spool, ends: Mapping[int, int] | None = None) -> BatchItem:
    """A batch of thirty minutes; `ends`: what decoding should never have let through."""
    start = recent()
    meter = spool.meter(spool.run(started_at=start), started_at=start)
    use = Use(meter=meter, start=start, end=start.replace(minute=30), allocated=500)
    batch = spool.batch(records_of(use))
    bounds = TimeBounds(oldest_ms=0, newest_ms=to_ms(utc_now()))
    decoded = decode(batch, cluster="c1", known=session.known, bounds=bounds, is_whole=True)
    return BatchItem(
        session=session,
        decoded=replace(decoded, run_ends=ends) if ends else decoded,
        raw=batch.SerializeToString(),
    )


async def commit(pool: Pool, metrics: Metrics, *items: BatchItem | PulseItem) -> None:
    """All of them in one group."""
    committer = Committer(pool, IngestSettings(linger_seconds=0), metrics, utc_now)
    for item in items:
        await committer.room.enter(1, timeout_seconds=1)
        committer.put([item], 1)
    committer.stop()
    await committer.run()


async def test_an_item_that_cannot_be_stored_is_set_aside_and_its_company_is_taken(
    pool: Pool, database: Database, metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    """Each is acked; the log has the traceback, and says whose batch it was."""
    spools = [Spool(node=name) for name in ("good", "bad", "other")]
    sessions = await welcomed(pool, spools)
    good, bad, other = (
        item_of(session, spool, {99: 0} if spool.node == "bad" else None)
        for session, spool in zip(sessions, spools, strict=True)
    )
    await commit(pool, metrics, good, bad, other)
    rows = database.execute("SELECT reason, record_count, payload FROM quarantine").fetchall()
    assert [row[:2] for row in rows] == [("not_storable", 30)]
    assert pb.Batch.FromString(rows[0][2]) == pb.Batch.FromString(bad.raw)
    assert database.execute("SELECT count(*) FROM usage").fetchone() == (60,)
    assert database.execute("SELECT acked_through FROM stream").fetchall() == [(1,)] * 3
    assert not any(session.outbox.is_closed for session in sessions)
    logged = [each for each in caplog.records if each.levelno >= logging.ERROR]
    assert {each.exc_info[0] for each in logged if each.exc_info} == {KeyError}
    assert [vars(each)["node"] for each in logged if "reason" in vars(each)] == ["bad"]
    errors = metrics.registry.get_sample_value("nodemeter_aggregator_ingest_errors_total")
    assert errors == 2  # with its company, and alone


async def test_what_cannot_be_set_aside_costs_its_own_connection_alone(
    pool: Pool, database: Database, metrics: Metrics
) -> None:
    """A sign of life has nothing that could be kept."""
    spools = [Spool(node=name) for name in ("good", "bad")]
    good, bad = await welcomed(pool, spools)
    nobody = PulseItem(session=replace(bad, identity=replace(bad.identity, node_id="x")))  # type: ignore[arg-type]
    await commit(pool, metrics, item_of(good, spools[0]), nobody)
    assert database.execute("SELECT count(*) FROM usage").fetchone() == (30,)
    assert (good.outbox.is_closed, nobody.session.outbox.is_closed) == (False, True)


async def test_a_value_that_psycopg_cannot_send_is_no_outage(
    pool: Pool, database: Database, metrics: Metrics
) -> None:
    """The database was not even asked: the same would happen for ever."""
    spool = Spool()
    (session,) = await welcomed(pool, [spool])
    item = item_of(session, spool)
    unsendable = replace(item, decoded=replace(item.decoded, digest=object()))  # type: ignore[arg-type]
    await commit(pool, metrics, unsendable)
    assert database.execute("SELECT reason FROM quarantine").fetchall() == [("not_storable",)]
