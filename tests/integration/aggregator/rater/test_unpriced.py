"""A month with usage that has no price is not closed by oversight."""

from datetime import datetime, timedelta

import pytest

from aggregator.billing.closing import UnpricedError, close_period
from aggregator.billing.database import Database
from tests.integration.aggregator.rater.pipeline import Pipeline
from tests.integration.aggregator.rater.test_periods import CLERK, last_month
from tests.integration.aggregator.rater.test_rerate import hours, rerate

HOUR = timedelta(hours=1)


def minute(instant: datetime) -> str:
    """As it is told."""
    return f"{instant:%Y-%m-%dT%H:%MZ}"


async def test_usage_without_a_price_is_told_before_it_stays_without(pipeline: Pipeline) -> None:
    """By key, with what prices it; what was taken back, and usage of closed months, is none."""
    period = last_month()
    start = period.end - 3 * HOUR
    pipeline.ratio("mem", "1")
    await pipeline.bill(
        pipeline.use(start, period.end, 3, job_id="a", model="EPYC"),
        pipeline.use(start + HOUR, period.end, 126_000, job_id="a", type_="gpu", model="H 200"),
        pipeline.use(start, period.end, 3, job_id="b", model="Xeon"),
        pipeline.use(start, period.end, 3, job_id="b", type_="mem"),
    )
    database = Database(pipeline.api_pool)
    with pytest.raises(UnpricedError) as refusal:
        await close_period(database, period, CLERK, wait_seconds=0)
    cpu, gpu = refusal.value.found
    assert str(cpu) == f"cpu: 18 m-hours of 2 items, from {minute(start)} to {minute(period.end)}"
    assert str(gpu).startswith("gpu:H 200: 2 device-hours of 1 item, from")
    assert f"ratios set 'gpu:H 200' PRICE --from {minute(start + HOUR)}" in str(refusal.value)
    pipeline.ratio("cpu", "1")
    pipeline.ratio("gpu", "1")
    await rerate(pipeline, hours(start, 3))
    await close_period(database, period, CLERK, wait_seconds=0)
