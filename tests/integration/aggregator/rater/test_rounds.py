"""Every group is rated exactly once, whatever happens to the rounds."""

import asyncio
from datetime import timedelta

import psycopg
import pytest

from aggregator.clock import to_ms, utc_now
from aggregator.model import PRICE_LOCK, RATER_LOCK, IngestGroupId
from aggregator.rater import Group, Rater, RaterError, choose, rate_round
from aggregator.settings import RaterSettings
from proto.metering.v1 import metering_pb2 as pb
from tests.integration.aggregator.agents import deliver, records_of, wait_until
from tests.integration.aggregator.rater.pipeline import Pipeline, midnight
from tests.integration.aggregator.sessions import kill_waiting, waiting

HOUR = timedelta(hours=1)


async def test_a_job_is_seen_before_it_has_used_anything(pipeline: Pipeline) -> None:
    """A group that holds definitions only makes the items, at zero."""
    start = midnight()
    pipeline.use(start, start + HOUR, 5)
    (bill,) = await pipeline.bill()
    assert [bill.usage, bill.fee] == [0, 0]
    assert bill.ratio_id is None
    assert not bill.is_mixed
    assert (bill.started_at, bill.ended_at) == (start, start)


async def test_rounds_add_up(pipeline: Pipeline) -> None:
    """The same hour in sixty batches and as many rounds; again rates nothing."""
    start = midnight()
    pipeline.ratio("cpu", "2")
    use = pipeline.use(start, start + HOUR, 3)
    for minute in range(60):
        begin = start + timedelta(minutes=minute)
        part = type(use)(
            meter=use.meter, start=begin, end=begin + timedelta(minutes=1), allocated=3
        )
        await pipeline.send(part)
        if minute % 7 == 0:
            await pipeline.rate(max_records=1)
    await pipeline.rate(max_records=10)
    assert await pipeline.rate() == 0
    (bill,) = pipeline.bills()
    assert [bill.usage, bill.fee] == [3, 6]
    assert not bill.is_mixed
    assert len(pipeline.charges()) == 1


async def test_a_job_is_shown_as_stopped_only_with_its_whole_bill(pipeline: Pipeline) -> None:
    """Who polls for the end and then reads the fee must not read a part of it."""
    start = midnight()
    use = pipeline.use(start, start + HOUR, 3)
    (run,) = pipeline.spool.runs
    frame = pipeline.spool.batch(records_of(use), ends=[(run, start + HOUR)])
    await deliver(pipeline.ingest.port, pipeline.spool, [frame])
    settled = "SELECT ended_at, settled_at IS NOT NULL FROM run"
    assert pipeline.database.execute(settled).fetchall() == [(start + HOUR, False)]
    await pipeline.rate()
    assert pipeline.database.execute(settled).fetchall() == [(start + HOUR, True)]


async def test_several_meters_of_an_item_make_one_bill(pipeline: Pipeline) -> None:
    """Two devices: the quota of both, the sum of their usage."""
    start = midnight()
    run = pipeline.spool.run(started_at=start)
    uses = [
        pipeline.use(start, start + HOUR, 126_000, type_="gpu", model="H200", run=run)
        for _ in range(2)
    ]
    for number, meter in enumerate(pipeline.spool.meters.values()):
        meter.device = f"GPU-{number}"
        meter.group_quota = 252_000
    (bill,) = await pipeline.bill(*uses)
    assert bill.usage == 2
    assert pipeline.database.execute("SELECT quota FROM bill").fetchone() == (252_000,)


async def test_usage_that_ends_in_the_future_waits(pipeline: Pipeline) -> None:
    """A price may still be set for that time; what is past is rated meanwhile."""
    start = midnight()
    past = pipeline.use(start, start + HOUR, 1)
    await pipeline.send(past)
    ahead_ms = to_ms(utc_now()) // 60_000 * 60_000 + 60_000
    ahead = pb.Records(
        base_ms=ahead_ms, meter=[past.meter], start_ms=[0], length_ms=[60_000], allocated=[60_000],
        used=[0], effective=[60_000], observed_ms=[0],
    )  # fmt: skip
    await deliver(pipeline.ingest.port, pipeline.spool, [pipeline.spool.batch(ahead)])
    assert await pipeline.rate() == 60
    waiting = pipeline.database.execute("SELECT count(*) FROM ingest_group WHERE rated_at IS NULL")
    assert waiting.fetchone() == (1,)


async def test_no_price_changes_while_a_round_runs(pipeline: Pipeline) -> None:
    """Who changes one holds the lock; the rater waits and sees the change."""
    start = midnight()
    await pipeline.send(pipeline.use(start, start + HOUR, 1))
    with pipeline.database.transaction():
        pipeline.database.execute("SELECT pg_advisory_xact_lock(%s)", (PRICE_LOCK,))
        round_ = asyncio.create_task(pipeline.rate())
        await wait_until(lambda: waiting(pipeline.database) == 1)
        pipeline.ratio("cpu", "7", start)
    assert await round_ == 60
    assert pipeline.bills()[0].fee == 7


async def test_one_rater_at_a_time(pipeline: Pipeline) -> None:
    """Another one finds nothing to do while the first works."""
    start = midnight()
    await pipeline.send(pipeline.use(start, start + HOUR, 1))
    with pipeline.database.transaction():
        pipeline.database.execute("SELECT pg_advisory_xact_lock(%s)", (RATER_LOCK,))
        assert await pipeline.rate() == 0
    assert await pipeline.rate() == 60


async def test_two_raters_rate_each_group_once(pipeline: Pipeline) -> None:
    """However they interleave."""
    start = midnight()
    for number in range(10):
        await pipeline.send(pipeline.use(start, start + HOUR, 1, job_id=f"j{number}"))
    await asyncio.gather(*(pipeline.rate(max_records=60) for _ in range(4)))
    await pipeline.rate()
    assert [bill.usage for bill in pipeline.bills()] == [1] * 10


async def test_a_round_that_dies_has_done_nothing(pipeline: Pipeline) -> None:
    """The next one does all of it, once."""
    start = midnight()
    await pipeline.send(pipeline.use(start, start + HOUR, 1))
    with pipeline.database.transaction():
        pipeline.database.execute("LOCK TABLE charge IN ACCESS EXCLUSIVE MODE")
        round_ = asyncio.create_task(pipeline.rate())
        await wait_until(lambda: kill_waiting(pipeline.database) == 1)
        with pytest.raises(psycopg.OperationalError):
            await round_
    assert pipeline.bills() == []
    await pipeline.rate()
    assert [bill.usage for bill in pipeline.bills()] == [1]


async def test_a_charge_without_its_bill_is_undone(pipeline: Pipeline) -> None:
    """Money must not be in one and missing in the other."""
    start = midnight()
    use = pipeline.use(start, start + HOUR, 1)
    await pipeline.bill()
    pipeline.database.execute("DELETE FROM bill")
    await pipeline.send(use)
    with pytest.raises(RaterError, match="1 items were charged and 0 bills"):
        await rate_round(pipeline.pool, pipeline.metrics, max_records=1000)
    assert pipeline.charges() == []


async def test_the_rater_goes_on_after_a_failure(pipeline: Pipeline) -> None:
    """It says so, and tries again."""
    start = midnight()
    await pipeline.send(pipeline.use(start, start + HOUR, 1))
    pipeline.database.execute("ALTER TABLE charge RENAME TO elsewhere")
    settings = RaterSettings(interval_seconds=0.01)
    task = asyncio.create_task(Rater(pipeline.pool, settings, pipeline.metrics).run())
    value = pipeline.metrics.registry.get_sample_value
    try:
        await wait_until(lambda: (value("nodemeter_aggregator_rater_errors_total") or 0) > 0)
        pipeline.database.execute("ALTER TABLE elsewhere RENAME TO charge")
        await wait_until(lambda: value("nodemeter_aggregator_rated_records_total") == 60)
    finally:
        task.cancel()
        await asyncio.wait([task])
    assert [bill.usage for bill in pipeline.bills()] == [1]


def group(number: int, records: int) -> Group:
    """A group that waits."""
    return Group(
        ingest_group_id=IngestGroupId(number),
        record_count=records,
        min_started_at=None,
        max_ended_at=None,
    )


def test_a_round_takes_at_least_one_group_and_not_too_much() -> None:
    """Oldest first."""
    waiting = [group(1, 10), group(2, 10), group(3, 10)]
    assert choose(waiting, max_records=20) == waiting[:2]
    assert choose(waiting, max_records=1) == waiting[:1]
    assert choose([], max_records=1) == []


def test_a_round_does_not_read_what_lies_between_distant_groups() -> None:
    """A group that had to wait is rated by itself."""
    waiting = [group(1, 10), group(1000, 10), group(1001, 10)]
    assert choose(waiting, max_records=100) == waiting[:1]
    assert choose(waiting[1:], max_records=100) == waiting[1:]
