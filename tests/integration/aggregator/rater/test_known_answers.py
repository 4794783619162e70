"""The known answers of rating, through the real pipeline: records in over the wire, bill out."""

from datetime import timedelta
from fractions import Fraction

import pytest

from aggregator.units import DEVICE_UNITS
from tests.integration.aggregator.rater.pipeline import Pipeline, midnight

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
SLICE = DEVICE_UNITS // 7


async def test_a_price_that_changes_at_half_past_splits_the_hour(pipeline: Pipeline) -> None:
    """1 unit all hour, price 1 then 2: 1.5; no whole hour at the old price."""
    start = midnight()
    pipeline.ratio("cpu", "1", ends_at=start + HOUR / 2)
    pipeline.ratio("cpu", "2", start + HOUR / 2)
    (bill,) = await pipeline.bill(pipeline.use(start, start + HOUR, 1))
    assert bill.usage == 1
    assert bill.fee == Fraction("1.5")
    assert bill.is_mixed
    assert bill.ratio_id is None


async def test_half_an_hour_across_no_hour_is_half_an_hour(pipeline: Pipeline) -> None:
    """10:12:30 to 10:42:30 at a constant 3: 1.5 unit-hours."""
    start = midnight() + timedelta(hours=10, minutes=12, seconds=30)
    (bill,) = await pipeline.bill(pipeline.use(start, start + 30 * MINUTE, 3))
    assert bill.usage == Fraction("1.5")
    assert (bill.started_at, bill.ended_at) == (start, start + 30 * MINUTE)


async def test_a_resize_within_the_hour_is_two_items(pipeline: Pipeline) -> None:
    """30 minutes at 3, then 30 at 6: 4.5 together."""
    start = midnight()
    first = pipeline.use(start, start + HOUR / 2, 3)
    second = pipeline.use(start + HOUR / 2, start + HOUR, 6, run=1)
    bills = await pipeline.bill(first, second)
    assert [bill.usage for bill in bills] == [Fraction("1.5"), 3]


async def test_a_tariff_by_the_time_of_day_takes_the_time_of_use(pipeline: Pipeline) -> None:
    """1 per hour until noon and 3 after: a job in the hours 0 to 6 costs 6."""
    start = midnight()
    pipeline.ratio("cpu", "1", start, start + 12 * HOUR)
    pipeline.ratio("cpu", "3", start + 12 * HOUR)
    (bill,) = await pipeline.bill(pipeline.use(start, start + 6 * HOUR, 1))
    assert bill.fee == 6
    assert not bill.is_mixed


async def test_one_name_twice_is_two_runs(pipeline: Pipeline) -> None:
    """12:00 to 17:00 and 19:00 to 22:00: 300 and 180 minutes."""
    noon = midnight() + 12 * HOUR
    first = pipeline.use(noon, noon + 5 * HOUR, 1)
    second = pipeline.use(noon + 7 * HOUR, noon + 10 * HOUR, 1)
    bills = await pipeline.bill(first, second)
    assert [bill.usage * 60 for bill in bills] == [300, 180]


async def test_four_quarters_of_a_device_are_one_device(pipeline: Pipeline) -> None:
    """Four jobs on 25 % of one GPU for an hour: 1.00 GPU-hours together."""
    start = midnight()
    uses = [
        pipeline.use(start, start + HOUR, DEVICE_UNITS // 4, job_id=f"j{n}", type_="gpu")
        for n in range(4)
    ]
    bills = await pipeline.bill(*uses)
    assert [bill.usage for bill in bills] == [Fraction(1, 4)] * 4


@pytest.mark.parametrize(("gib", "fee"), [(8, Fraction(3)), (10, Fraction("3.5"))])
async def test_memory_is_not_truncated(pipeline: Pipeline, gib: int, fee: Fraction) -> None:
    """CPU 1 per core and memory 0.25 per GiB: 1 core with 8 GiB is 3.0, with 10 GiB 3.5."""
    start = midnight()
    pipeline.ratio("cpu", "0.001")
    pipeline.ratio("mem", "0.000244140625")
    cpu = pipeline.use(start, start + HOUR, 1000)
    mem = pipeline.use(start, start + HOUR, gib << 20, type_="mem", run=1)
    bills = await pipeline.bill(cpu, mem)
    assert sum(bill.fee for bill in bills) == fee


async def test_large_quantities_are_not_rounded(pipeline: Pipeline) -> None:
    """12345678901 units for an hour are 12345678901 unit-hours."""
    start = midnight()
    (bill,) = await pipeline.bill(pipeline.use(start, start + HOUR, 12_345_678_901))
    assert bill.usage == 12_345_678_901


async def test_ten_times_a_tenth_is_one(pipeline: Pipeline) -> None:
    """Exactly, whatever doubles make of it."""
    start = midnight()
    pipeline.ratio("cpu", "0.1")
    (bill,) = await pipeline.bill(pipeline.use(start, start + 10 * HOUR, 1))
    assert bill.fee == 1


async def test_storage_over_days_is_summed_exactly(pipeline: Pipeline) -> None:
    """20 GB for a day, then 30 GB for 15 days: 11,280 GB-hours."""
    start = midnight(17)
    first = pipeline.use(start, start + DAY, 19_531_250, type_="storage")
    second = pipeline.use(start + DAY, start + 16 * DAY, 29_296_875, type_="storage", run=1)
    bills = await pipeline.bill(first, second)
    mebibyte_hours = sum(bill.usage for bill in bills)
    assert mebibyte_hours * 1024 * 1024 / 10**9 == 11_280


async def test_a_job_across_midnight_is_split_by_the_day(pipeline: Pipeline) -> None:
    """23:50 to 00:05: 10 minutes and 5, each on its own day."""
    day = midnight()
    await pipeline.bill(pipeline.use(day - 10 * MINUTE, day + 5 * MINUTE, 60))
    assert [(hour, billed / 3_600_000) for hour, _, _, _, billed in pipeline.charges()] == [
        (day - HOUR, 10),
        (day, 5),
    ]


async def test_seven_slices_and_the_idle_rest_make_whole_devices(pipeline: Pipeline) -> None:
    """At 3 per device-hour for a day: 24/7, 18/7, 12/7, idle 450/7; together 72 exactly."""
    start = midnight()
    pipeline.ratio("gpu", "3")
    jobs = [(4, 2), (1, 6), (2, 2)]
    uses = [
        pipeline.use(start, start + hours * HOUR, slices * SLICE, job_id=f"j{n}", type_="gpu")
        for n, (slices, hours) in enumerate(jobs)
    ]
    idle = [(6, 2, 6), (7, 6, 24)]
    uses += [
        pipeline.use(
            start + first * HOUR, start + last * HOUR, slices * SLICE, job_id="k", type_="gpu"
        )
        for slices, first, last in idle
    ]
    bills = await pipeline.bill(*uses)
    fees = [bill.fee for bill in bills]
    assert fees[:3] == [Fraction(24, 7), Fraction(18, 7), Fraction(12, 7)]
    assert sum(fees[3:]) == Fraction(450, 7)
    assert sum(fees) == 72


async def test_a_job_between_two_samples_is_billed_for_its_length(pipeline: Pipeline) -> None:
    """29 seconds: 29/3600 hours."""
    start = midnight() + timedelta(seconds=40)
    (bill,) = await pipeline.bill(pipeline.use(start, start + timedelta(seconds=29), 1))
    assert bill.usage == Fraction(29, 3600)


async def test_effective_is_the_larger_one_at_each_time(pipeline: Pipeline) -> None:
    """Request 2, usage 4 for half an hour and 0 for half: 3.0 core-hours, not 2.0."""
    start = midnight()
    busy = pipeline.use(start, start + HOUR / 2, 2, used=4)
    idle = pipeline.use(start + HOUR / 2, start + HOUR, 2, used=0, run=1)
    bills = await pipeline.bill(busy, idle)
    assert sum(bill.usage for bill in bills) == 3
