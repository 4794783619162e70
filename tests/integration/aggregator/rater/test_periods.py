"""What is told of a closed period is booked into the open one; the closed one never changes."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from aggregator.billing.adjustments import Adjustment, AdjustmentFilter, list_adjustments
from aggregator.billing.audit import Author
from aggregator.billing.closing import BacklogError, PeriodError, close_period
from aggregator.billing.database import Database
from aggregator.billing.periods import ClosedPeriod, get_period, list_periods
from aggregator.clock import utc_now
from aggregator.model import PERIOD_LOCK, Period
from aggregator.rating.month import month_at
from tests.integration.aggregator.agents import wait_until
from tests.integration.aggregator.rater.pipeline import Pipeline
from tests.integration.aggregator.sessions import waiting

HOUR = timedelta(hours=1)
CLERK = Author(actor="clerk", reason="invoices")


def last_month() -> Period:
    """A month that has been over for an hour at least, and whose end can still be metered."""
    return month_at(month_at(utc_now() - HOUR).start - HOUR)


async def close(pipeline: Pipeline, period: Period, *, wait_seconds: float = 0) -> ClosedPeriod:
    """Close a period as an administrator does who knows what of it has no price."""
    return await close_period(
        Database(pipeline.api_pool),
        period,
        CLERK,
        wait_seconds=wait_seconds,
        is_unpriced_allowed=True,
    )


async def adjustments(pipeline: Pipeline) -> list[Adjustment]:
    """Every adjustment."""
    async with list_adjustments(Database(pipeline.api_pool), AdjustmentFilter()) as rows:
        return list(await rows.chunk())


async def test_late_usage_of_a_closed_period_is_an_adjustment(pipeline: Pipeline) -> None:
    """At the price of its own time, in the hour of now; the closed month stays as it was."""
    period = last_month()
    start = period.end - 2 * HOUR
    pipeline.ratio("cpu", "1", ends_at=period.end)
    pipeline.ratio("cpu", "9", period.end)
    use = pipeline.use(start, start + HOUR, 3)
    await pipeline.bill(use)
    closed = await close(pipeline, period)
    charges = pipeline.charges()
    late = pipeline.use(start + HOUR, period.end, 3, job_id="late")
    bills = await pipeline.bill(late)
    assert pipeline.charges() == charges
    assert {bill.job_id: bill.fee for bill in bills} == {"job-1": 3, "late": 3}
    (line,) = await adjustments(pipeline)
    assert (line.kind, line.used_hour, line.usage, line.fee) == ("late", start + HOUR, 3, 3)
    assert line.hour == line.booked_at.replace(minute=0, second=0, microsecond=0)
    assert (line.used_period, line.period) == (closed_name(closed), f"{line.booked_at:%Y-%m}")
    again = await get_period(Database(pipeline.api_pool), period, verify=True)
    assert again.recomputed == closed.digest


def closed_name(closed: ClosedPeriod) -> str:
    """Its name."""
    return f"{closed.starts_at:%Y-%m}"


async def test_usage_across_the_end_of_a_closed_period_is_parted(pipeline: Pipeline) -> None:
    """What lies before the boundary is an adjustment, what lies after it a charge."""
    period = last_month()
    await pipeline.bill(pipeline.use(period.end - 5 * HOUR, period.end - 4 * HOUR, 1))
    await close(pipeline, period)
    before = len(pipeline.charges())
    use = pipeline.use(period.end - HOUR / 6, period.end + HOUR / 12, 60, job_id="night")
    bill = next(bill for bill in await pipeline.bill(use) if bill.job_id == "night")
    assert bill.usage == 15
    (line,) = await adjustments(pipeline)
    assert line.usage == 10
    assert [billed / 3_600_000 for *_, billed in pipeline.charges()[before:]] == [5]


async def test_a_close_waits_until_the_rater_has_caught_up(pipeline: Pipeline) -> None:
    """And says what it waits for when that takes too long."""
    period = last_month()
    await pipeline.send(pipeline.use(period.end - HOUR, period.end, 1))
    with pytest.raises(BacklogError, match="1 groups wait"):
        await close(pipeline, period)
    closing = asyncio.create_task(close(pipeline, period, wait_seconds=60))
    await asyncio.sleep(0)
    await pipeline.rate()
    closed = await closing
    assert (closed.charge_count, closed.item_count, closed.adjustment_count) == (1, 1, 0)
    assert (closed.closed_by, closed.reason) == ("clerk", "invoices")


async def test_a_close_waits_for_a_round_and_a_round_for_a_close(pipeline: Pipeline) -> None:
    """Whoever adds charges holds the period; so none is added while it is closed."""
    period = last_month()
    await pipeline.bill(pipeline.use(period.end - HOUR, period.end, 1))
    with pipeline.database.transaction():
        pipeline.database.execute("SELECT pg_advisory_xact_lock_shared(%s)", (PERIOD_LOCK,))
        closing = asyncio.create_task(close(pipeline, period))
        await wait_until(lambda: waiting(pipeline.database) == 1)
    await closing
    await pipeline.send(pipeline.use(period.end, period.end + HOUR / 60, 1, job_id="j2"))
    with pipeline.database.transaction():
        pipeline.database.execute("SELECT pg_advisory_xact_lock(%s)", (PERIOD_LOCK,))
        round_ = asyncio.create_task(pipeline.rate())
        await wait_until(lambda: waiting(pipeline.database) == 1)
    assert await round_ == 1


async def test_a_close_is_idempotent(pipeline: Pipeline) -> None:
    """Again gives the first one, also after late usage."""
    period = last_month()
    await pipeline.bill(pipeline.use(period.end - HOUR, period.end, 1))
    closed = await close(pipeline, period)
    await pipeline.bill(pipeline.use(period.end - 2 * HOUR, period.end - HOUR, 1, job_id="late"))
    assert await close(pipeline, period) == closed


async def test_what_cannot_be_closed_is_refused(pipeline: Pipeline) -> None:
    """What is not over, what comes after an open one, what lies before a closed one."""
    now = utc_now()
    with pytest.raises(PeriodError, match="is not over"):
        await close(pipeline, month_at(now))
    period = last_month()
    earlier = month_at(period.start - HOUR)
    pipeline.database.execute(
        "INSERT INTO charge VALUES (%s, 1, 0, gen_random_uuid(), %s, %s, 1, 1, 1, 1, 1, 1, 0)",
        (earlier.start, earlier.start, earlier.start + HOUR),
    )
    with pytest.raises(PeriodError, match=f"{earlier.start:%Y-%m} is still open"):
        await close(pipeline, period)
    await close(pipeline, earlier)
    await close(pipeline, period)
    with pytest.raises(PeriodError, match="all before that is closed"):
        await close(pipeline, month_at(earlier.start - HOUR))


async def test_periods_are_listed_from_the_first_usage_on(pipeline: Pipeline) -> None:
    """Closed, open, running."""
    period = last_month()
    await pipeline.bill(pipeline.use(period.end - HOUR, period.end, 1))
    states = await list_periods(Database(pipeline.api_pool))
    assert [(state.is_over, state.closed is not None) for state in states] == [
        (True, False),
        (False, False),
    ]
    await close(pipeline, period)
    first, _ = await list_periods(Database(pipeline.api_pool))
    assert first.closed is not None
    assert first.range == period


async def test_the_digest_tells_of_any_change(pipeline: Pipeline) -> None:
    """Of a single unit in a single charge."""
    period = last_month()
    await pipeline.bill(pipeline.use(period.end - HOUR, period.end, 1))
    closed = await close(pipeline, period)
    pipeline.database.execute("UPDATE charge SET amount = amount + 1")
    found = await get_period(Database(pipeline.api_pool), period, verify=True)
    assert found.recomputed not in {None, closed.digest}


async def test_an_empty_period_can_be_closed(pipeline: Pipeline) -> None:
    """It freezes that nothing was used."""
    closed = await close(
        pipeline,
        Period(start=datetime(2020, 1, 1, tzinfo=UTC), end=datetime(2020, 2, 1, tzinfo=UTC)),
    )
    assert (closed.charge_count, closed.item_count) == (0, 0)
