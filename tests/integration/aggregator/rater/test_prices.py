"""Which price, by which method, and what happens where there is none."""

from datetime import timedelta
from fractions import Fraction

import pytest

from tests.integration.aggregator.rater.pipeline import Pipeline, midnight

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)

KEYS = {
    "gpu": "1",
    "gpu:NVIDIA H200": "2",
    "gpu@vc1": "3",
    "gpu:NVIDIA H200@vc1": "4",
    r"gpu:odd\:na\\me\@x@v\@c": "5",
    "cpu": "6",
    "weird key": "7",
    "gpu:B200": "8",
    "gpu@vc3": "9",
}


@pytest.mark.parametrize(
    ("model", "vc", "price"),
    [
        ("A100", "vc2", 1),
        (None, "vc2", 1),
        ("NVIDIA H200", "vc2", 2),
        ("NVIDIA  H200", "vc2", 1),
        ("A100", "vc1", 3),
        (None, "vc1", 3),
        ("NVIDIA H200", "vc1", 4),
        ("B200", "vc2", 8),
        ("B200", "vc3", 9),
        (r"odd:na\me@x", "v@c", 5),
    ],
)
async def test_the_most_specific_key_prices(
    pipeline: Pipeline, model: str | None, vc: str, price: int
) -> None:
    """Model and vc over vc over model over type; names exactly, whatever they hold."""
    for key, value in KEYS.items():
        pipeline.ratio(key, value)
    start = midnight()
    use = pipeline.use(start, start + HOUR, 126_000, type_="gpu", model=model, vc=vc)
    (bill,) = await pipeline.bill(use)
    assert bill.fee == price


async def test_a_more_specific_key_that_ends_gives_way_to_the_next(pipeline: Pipeline) -> None:
    """Three keys, four segments of one hour; the same price twice is one version."""
    start = midnight()
    plain = pipeline.ratio("cpu", "1")
    pipeline.ratio("cpu@vc1", "10", start + 15 * MINUTE, start + 30 * MINUTE)
    pipeline.ratio("cpu:X@vc1", "100", start + 30 * MINUTE, start + 45 * MINUTE)
    (bill,) = await pipeline.bill(pipeline.use(start, start + HOUR, 60, model="X"))
    assert bill.fee == 15 + 150 + 1500 + 15
    assert [row[1] for row in pipeline.charges()].count(plain) == 1


async def test_a_price_holds_from_its_start_to_before_its_end(pipeline: Pipeline) -> None:
    """Half-open: the minute that starts at the end is another's."""
    start = midnight()
    pipeline.ratio("cpu", "1", start + MINUTE, start + 2 * MINUTE)
    (bill,) = await pipeline.bill(pipeline.use(start, start + 3 * MINUTE, 60))
    assert [bill.usage, bill.fee, bill.unpriced] == [3, 1, 2]


async def test_a_version_superseded_before_it_began_prices_nothing(pipeline: Pipeline) -> None:
    """Its validity is empty."""
    start = midnight()
    pipeline.ratio("cpu", "9", start, start)
    pipeline.ratio("cpu", "1", start)
    (bill,) = await pipeline.bill(pipeline.use(start, start + HOUR, 1))
    assert bill.fee == 1
    assert not bill.is_mixed


async def test_usage_without_a_ratio_is_kept_and_counted(pipeline: Pipeline) -> None:
    """Never silently zero."""
    start = midnight()
    (bill,) = await pipeline.bill(pipeline.use(start, start + HOUR, 5))
    assert [bill.usage, bill.unpriced, bill.fee] == [5, 5, 0]
    assert bill.ratio_id == 0
    counted = pipeline.metrics.registry.get_sample_value(
        "nodemeter_aggregator_unpriced_charges_total", {"type": "cpu"}
    )
    assert counted == 1
    found = pipeline.database.execute("SELECT count(*) FROM bill WHERE is_unpriced").fetchone()
    assert found == (1,)


async def test_a_ratio_of_zero_is_a_price(pipeline: Pipeline) -> None:
    """It costs nothing and is not unpriced."""
    start = midnight()
    ratio_id = pipeline.ratio("cpu", "0")
    (bill,) = await pipeline.bill(pipeline.use(start, start + HOUR, 5))
    assert [bill.usage, bill.unpriced, bill.fee] == [5, 0, 0]
    assert bill.ratio_id == ratio_id


async def test_a_deleted_ratio_leaves_the_past_and_nothing_more(pipeline: Pipeline) -> None:
    """Half priced, half unpriced: that is two versions."""
    start = midnight()
    pipeline.ratio("cpu", "2", ends_at=start + HOUR / 2)
    (bill,) = await pipeline.bill(pipeline.use(start, start + HOUR, 1))
    assert [bill.fee, bill.unpriced] == [1, Fraction(1, 2)]
    assert bill.is_mixed


async def test_a_price_never_touches_what_was_rated_before(pipeline: Pipeline) -> None:
    """A version that is put under usage later reprices nothing by itself."""
    start = midnight()
    await pipeline.bill(pipeline.use(start, start + HOUR, 1))
    pipeline.ratio("cpu", "5", start)
    (bill,) = await pipeline.bill()
    assert [bill.fee, bill.unpriced] == [0, 1]


async def test_late_usage_takes_the_price_of_its_own_time(pipeline: Pipeline) -> None:
    """Not today's."""
    start = midnight()
    pipeline.ratio("cpu", "1", ends_at=start + HOUR)
    pipeline.ratio("cpu", "9", start + HOUR)
    now, late = (
        pipeline.use(start + HOUR, start + 2 * HOUR, 1),
        pipeline.use(start, start + HOUR, 1, job_id="late"),
    )
    await pipeline.bill(now)
    bills = await pipeline.bill(late)
    assert {bill.job_id: bill.fee for bill in bills} == {"job-1": 9, "late": 1}


@pytest.mark.parametrize(("method", "usage"), [("effective", 4), ("request", 3), ("usage", 4)])
async def test_the_method_in_force_decides_what_is_billed(
    pipeline: Pipeline, method: str, usage: int
) -> None:
    """All three are kept side by side."""
    pipeline.database.execute("UPDATE method SET method = %s WHERE type = 'cpu'", (method,))
    start = midnight()
    (bill,) = await pipeline.bill(pipeline.use(start, start + HOUR, 3, used=4))
    assert bill.usage == usage
    row = pipeline.database.execute("SELECT allocated, used, effective FROM bill").fetchone()
    assert row == (3 * 3_600_000, 4 * 3_600_000, 4 * 3_600_000)


async def test_a_change_of_method_never_reprices_the_past(pipeline: Pipeline) -> None:
    """It splits the hour as a price does."""
    start = midnight()
    pipeline.database.execute(
        "UPDATE method SET ends_at = %s WHERE type = 'cpu'", (start + HOUR / 4,)
    )
    pipeline.database.execute(
        "INSERT INTO method (type, method, starts_at, created_at, created_by)"
        " VALUES ('cpu', 'request', %s, now(), 'test')",
        (start + HOUR / 4,),
    )
    (bill,) = await pipeline.bill(pipeline.use(start, start + HOUR, 4, used=8))
    assert bill.usage == 8 * Fraction(1, 4) + 4 * Fraction(3, 4)
