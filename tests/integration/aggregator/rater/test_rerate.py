"""Re-rating: previewed, ordered with a reason, appended, resumed; nothing is ever edited."""

import asyncio
from datetime import datetime, timedelta

import psycopg
import pytest

from aggregator.billing.adjustments import Adjustment, AdjustmentFilter, list_adjustments
from aggregator.billing.audit import Author
from aggregator.billing.closing import BacklogError
from aggregator.billing.database import Database
from aggregator.billing.rerating import (
    Order,
    OrderError,
    Rerate,
    list_rerates,
    order_rerate,
    preview_rerate,
)
from aggregator.clock import utc_now
from aggregator.model import Period
from aggregator.rater import Rater
from aggregator.rerater import rerate_pending, rerate_round
from aggregator.settings import RaterSettings
from tests.integration.aggregator.agents import wait_until
from tests.integration.aggregator.rater.pipeline import Pipeline, midnight
from tests.integration.aggregator.rater.test_closed_bytes import answers
from tests.integration.aggregator.rater.test_periods import close, last_month
from tests.integration.aggregator.sessions import kill_waiting

HOUR = timedelta(hours=1)
CLERK = Author(actor="clerk", reason="contract 17 came late")


def hours(start: datetime, count: int, key: str | None = None) -> Order:
    """An order for some hours."""
    return Order(range=Period(start=start, end=start + count * HOUR), key=key)


async def order(pipeline: Pipeline, wanted: Order) -> Rerate:
    """Order it; the rater has not begun."""
    return await order_rerate(Database(pipeline.api_pool), wanted, CLERK)


async def rerate(pipeline: Pipeline, wanted: Order, *, limit: int = 1000) -> int:
    """Order it and do it; the lines appended."""
    await order(pipeline, wanted)
    return await rerate_pending(pipeline.pool, pipeline.metrics, limit=limit)


async def lines(pipeline: Pipeline) -> list[Adjustment]:
    """Every adjustment."""
    async with list_adjustments(Database(pipeline.api_pool), AdjustmentFilter()) as rows:
        return list(await rows.chunk())


async def preview(pipeline: Pipeline, wanted: Order) -> list[tuple[str, float, float, float]]:
    """What an order would do, by job."""
    async with preview_rerate(Database(pipeline.api_pool), wanted) as rows:
        return [(row.job_id, row.before, row.after, row.difference) for row in await rows.chunk()]


def reprice(pipeline: Pipeline, key: str, value: str, start: datetime, end: datetime) -> int:
    """Put another price over all that a key has declared."""
    pipeline.database.execute("UPDATE ratio SET ends_at = starts_at WHERE key = %s", (key,))
    return pipeline.ratio(key, value, start, end)


async def test_a_correction_takes_back_and_books_again(pipeline: Pipeline) -> None:
    """The dry run says by how much; the originals stay, the bill is that of the new price."""
    start = midnight()
    old = pipeline.ratio("cpu", "1")
    await pipeline.bill(pipeline.use(start, start + 3 * HOUR, 2))
    charges = pipeline.charges()
    new = reprice(pipeline, "cpu", "5", start, start + 2 * HOUR)
    wanted = hours(start, 2)
    assert await preview(pipeline, wanted) == [("job-1", 4, 20, 16)]
    assert await lines(pipeline) == []
    assert await rerate(pipeline, wanted) == 4
    assert pipeline.charges() == charges
    (bill,) = pipeline.bills()
    assert [bill.fee, bill.usage] == [22, 6]
    assert bill.is_mixed
    found = await lines(pipeline)
    assert [(each.kind, each.usage, each.fee) for each in found] == [
        ("reversal", -2, -2),
        ("rerated", 2, 10),
    ] * 2
    assert {each.hour for each in found} == {start, start + HOUR}
    assert old != new


async def test_doing_it_again_does_nothing(pipeline: Pipeline) -> None:
    """What has the price in force keeps it, whatever led there."""
    start = midnight()
    pipeline.ratio("cpu", "1")
    await pipeline.bill(pipeline.use(start, start + HOUR, 2))
    reprice(pipeline, "cpu", "5", start, start + HOUR)
    assert await rerate(pipeline, hours(start, 1)) == 2
    assert await rerate(pipeline, hours(start, 1)) == 0
    assert await preview(pipeline, hours(start, 1)) == []
    (bill,) = pipeline.bills()
    assert bill.fee == 10
    assert not bill.is_mixed


async def test_unpriced_usage_is_priced_by_an_earlier_start(pipeline: Pipeline) -> None:
    """It is unpriced no more, and under one version, as if it always had been."""
    start = midnight()
    await pipeline.bill(pipeline.use(start + HOUR / 4, start + 2 * HOUR, 4))
    price = pipeline.ratio("cpu", "3", start)
    await rerate(pipeline, hours(start, 2))
    (bill,) = pipeline.bills()
    assert [bill.fee, bill.unpriced] == [21, 0]
    assert (bill.ratio_id, bill.is_mixed) == (price, False)


async def test_a_closed_period_is_corrected_in_the_open_one(pipeline: Pipeline) -> None:
    """No byte of any answer about it changes; the lines name the hour of the usage."""
    period = last_month()
    start = period.end - 2 * HOUR
    pipeline.ratio("cpu", "1")
    await pipeline.bill(pipeline.use(start, period.end + HOUR, 2))
    await close(pipeline, period)
    before = await answers(pipeline, period)
    reprice(pipeline, "cpu", "4", start, period.end + HOUR)
    assert await rerate(pipeline, hours(start, 3)) == 6
    assert await answers(pipeline, period) == before
    assert pipeline.bills()[0].fee == 24
    found = await lines(pipeline)
    own = [each for each in found if each.hour == each.used_hour]
    assert [each.used_hour for each in own] == [period.end] * 2
    assert {each.hour for each in found if each not in own} == {
        found[-1].booked_at.replace(minute=0, second=0, microsecond=0)
    }
    assert {each.used_period for each in found} == {
        f"{period.start:%Y-%m}",
        f"{period.end:%Y-%m}",
    }


async def test_late_usage_that_is_an_adjustment_is_rated_again_too(pipeline: Pipeline) -> None:
    """Also of a meter that has nothing else."""
    period = last_month()
    pipeline.ratio("cpu", "1")
    await pipeline.bill(pipeline.use(period.end - 3 * HOUR, period.end - 2 * HOUR, 1))
    await close(pipeline, period)
    await pipeline.bill(pipeline.use(period.end - HOUR, period.end, 1, job_id="late"))
    reprice(pipeline, "cpu", "10", period.start, period.end)
    assert await rerate(pipeline, hours(period.end - HOUR, 1)) == 2
    assert {bill.job_id: bill.fee for bill in pipeline.bills()} == {"job-1": 1, "late": 10}


async def test_only_what_a_key_covers_is_rated_again(pipeline: Pipeline) -> None:
    """The others keep what they have, though they have another price now."""
    start = midnight()
    pipeline.ratio("cpu", "1")
    pipeline.ratio("mem", "1")
    cpu = pipeline.use(start, start + HOUR, 1)
    await pipeline.bill(cpu, pipeline.use(start, start + HOUR, 1024, type_="mem", job_id="m"))
    for key in ("cpu", "mem"):
        reprice(pipeline, key, "2", start, start + HOUR)
    await rerate(pipeline, hours(start, 1, "mem"))
    assert {bill.job_id: bill.fee for bill in pipeline.bills()} == {"job-1": 1, "m": 2}


async def test_an_order_goes_on_where_it_was_when_it_was_killed(pipeline: Pipeline) -> None:
    """A round that dies has done nothing; each charge is booked again once."""
    start = midnight()
    pipeline.ratio("cpu", "1")
    uses = [pipeline.use(start, start + HOUR, 1, job_id=f"j{n}") for n in range(6)]
    await pipeline.bill(*uses)
    reprice(pipeline, "cpu", "2", start, start + HOUR)
    added = await order(pipeline, hours(start, 1))
    assert (added.percent, added.finished_at) == (0, None)
    assert await rerate_round(pipeline.pool, pipeline.metrics, limit=2) == 4
    with pipeline.database.transaction():
        pipeline.database.execute("LOCK TABLE bill IN ACCESS EXCLUSIVE MODE")
        round_ = asyncio.create_task(rerate_round(pipeline.pool, pipeline.metrics, limit=2))
        await wait_until(lambda: kill_waiting(pipeline.database) == 1)
        with pytest.raises(psycopg.OperationalError):
            await round_
    (state,) = await list_rerates(Database(pipeline.api_pool), added.rerate_id)
    assert (state.charge_count, state.line_count, state.finished_at) == (2, 4, None)
    assert 0 < state.percent < 100
    assert await rerate_pending(pipeline.pool, pipeline.metrics, limit=2) == 8
    assert [bill.fee for bill in pipeline.bills()] == [2] * 6
    (state,) = await list_rerates(Database(pipeline.api_pool))
    assert (state.percent, state.charge_count, state.line_count) == (100, 6, 12)


async def test_the_rater_does_what_is_ordered_between_its_rounds(pipeline: Pipeline) -> None:
    """Usage that comes meanwhile is rated, too; nobody has to start anything."""
    start = midnight()
    pipeline.ratio("cpu", "1")
    await pipeline.bill(pipeline.use(start, start + HOUR, 1))
    reprice(pipeline, "cpu", "2", start, start + HOUR)
    await pipeline.send(pipeline.use(start, start + HOUR, 1, job_id="j2"))
    await order(pipeline, hours(start, 1))
    rater = Rater(pipeline.pool, RaterSettings(interval_seconds=0.01), pipeline.metrics)
    task = asyncio.create_task(rater.run())
    try:
        await wait_until(lambda: [bill.fee for bill in pipeline.bills()] == [2, 2])
    finally:
        task.cancel()
        await asyncio.wait([task])
    assert pipeline.metrics.registry.get_sample_value(
        "nodemeter_aggregator_rerated_lines_total"
    ) == len(await lines(pipeline))


async def test_several_meters_of_an_item_in_several_rounds(pipeline: Pipeline) -> None:
    """The item is mixed as long as one of them has the old price."""
    start = midnight()
    old = pipeline.ratio("gpu", "1")
    run = pipeline.spool.run(started_at=start)
    uses = [
        pipeline.use(start, start + HOUR, 126_000, type_="gpu", model="H200", run=run)
        for _ in range(2)
    ]
    for number, meter in enumerate(pipeline.spool.meters.values()):
        meter.device, meter.group_quota = f"GPU-{number}", 252_000
    await pipeline.bill(*uses)
    new = reprice(pipeline, "gpu", "2", start, start + HOUR)
    await order(pipeline, hours(start, 1))
    for version, fee in ((None, 3), (new, 4)):
        await rerate_round(pipeline.pool, pipeline.metrics, limit=1)
        (bill,) = pipeline.bills()
        assert bill.ratio_id == version
        assert bill.fee == fee
    assert old != new


async def test_a_period_is_not_closed_while_it_is_rated_again(pipeline: Pipeline) -> None:
    """Half of a correction must not be frozen."""
    period = last_month()
    pipeline.ratio("cpu", "1")
    await pipeline.bill(pipeline.use(period.end - HOUR, period.end, 1))
    await order(pipeline, hours(period.end - HOUR, 1))
    with pytest.raises(BacklogError, match="re-rating"):
        await close(pipeline, period)
    await rerate_pending(pipeline.pool, pipeline.metrics)
    await close(pipeline, period)


@pytest.mark.parametrize(
    ("start", "count", "key", "field"),
    [
        (timedelta(minutes=1), 1, None, "from"),
        (timedelta(minutes=1, hours=-1), 1, None, "from"),
        (timedelta(0), 0, None, "to"),
        (timedelta(days=9), 1, None, "from"),
        (timedelta(0), 24 * 9, None, "to"),
        (timedelta(0), 1, "gpu", "key"),
        (timedelta(0), 1, "tokens", "key"),
        (timedelta(0), 1, "cpu\x00", "key"),
    ],
)
async def test_an_order_that_cannot_be_is_refused(
    pipeline: Pipeline, start: timedelta, count: int, key: str | None, field: str
) -> None:
    """Off the hour, empty, in the future, of an unknown key; nothing is applied."""
    pipeline.ratio("cpu", "1")
    pipeline.ratio("tokens", "1")
    wanted = hours(midnight() + start, count, key)
    with pytest.raises(OrderError) as refused:
        await order(pipeline, wanted)
    assert refused.value.field == field
    with pytest.raises(OrderError):
        await preview(pipeline, wanted)
    assert await list_rerates(Database(pipeline.api_pool)) == []


async def test_an_order_has_a_reason(pipeline: Pipeline) -> None:
    """It is kept for ever."""
    wanted = hours(midnight(), 1)
    with pytest.raises(OrderError, match="is required"):
        await order_rerate(Database(pipeline.api_pool), wanted, Author(actor="clerk"))
    added = await order(pipeline, wanted)
    assert (added.created_by, added.reason) == ("clerk", "contract 17 came late")
    assert added.created_at <= utc_now()
