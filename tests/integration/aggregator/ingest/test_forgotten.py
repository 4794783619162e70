"""Digests do not grow for ever, and what is forgotten harms nobody."""

import psycopg
from psycopg.rows import TupleRow

from aggregator.ingest.server import IngestServer
from aggregator.metrics import Metrics
from aggregator.rater import rate_pending
from aggregator.store.digests import forget_digests
from aggregator.store.pool import Pool
from proto.metering.v1 import metering_pb2 as pb
from tests.integration.aggregator.agents import Spool, connected, deliver
from tests.integration.aggregator.ingest.test_exactly_once import ONE_HOUR, one_hour, stored

Database = psycopg.Connection[TupleRow]


def sequences(database: Database) -> list[int]:
    """Those whose digests are there."""
    rows = database.execute("SELECT sequence FROM batch ORDER BY 1").fetchall()
    return [sequence for (sequence,) in rows]


async def test_old_digests_are_forgotten_and_their_replays_acked(
    ingest: IngestServer,
    database: Database,
    maintenance_pool: Pool,
    rater_pool: Pool,
    metrics: Metrics,
) -> None:
    """Not that of the mark, which a Welcome names, nor those of the last weeks."""
    spool = Spool()
    batches = [spool.batch(one_hour(spool)), spool.batch(), spool.batch(), spool.batch()]
    await deliver(ingest.port, spool, batches)
    assert await forget_digests(maintenance_pool) == 0
    database.execute("UPDATE batch SET received_at = now() - INTERVAL '36 days'")
    assert await forget_digests(maintenance_pool) == 0, "nothing of it is rated"
    await rate_pending(rater_pool, metrics)
    database.execute("UPDATE batch SET received_at = now() WHERE sequence = 3")
    assert await forget_digests(maintenance_pool, at_once=1) == 2
    assert sequences(database) == [3, 4]
    async with connected(ingest.port) as client:
        welcome = await client.welcome(spool)
        assert (welcome.acked_through, welcome.acked_digest) == (4, batches[3].digest)
        await client.deliver(batches[0])
        other = pb.Batch(sequence=3, digest=b"x" * 32)
        await client.say(other)
        assert (await client.rejected()).reason == pb.Reject.REASON_CONFLICT
    assert stored(database) == ONE_HOUR
