"""A sealed hour stays as it was, and nothing that is told of it later is lost."""

from datetime import datetime, timedelta

from psycopg.rows import TupleRow

from aggregator.clock import utc_now
from aggregator.sealer import seal_hours
from aggregator.settings import RaterSettings
from tests.integration.aggregator.rater.pipeline import Pipeline, midnight

HOUR = timedelta(hours=1)
AT_ONCE = RaterSettings(seal_after_seconds=0)
MINUTES_LATER = RaterSettings()


def this_hour(after: timedelta = timedelta(0)) -> datetime:
    """The last whole hour that has been over for so long."""
    return (utc_now() - after).replace(minute=0, second=0, microsecond=0)


async def seal(pipeline: Pipeline, settings: RaterSettings = AT_ONCE) -> datetime | None:
    """Seal what can be sealed."""
    return await seal_hours(pipeline.pool, settings)


def lines(pipeline: Pipeline) -> list[TupleRow]:
    """All that is booked, by when it was."""
    return pipeline.database.execute(
        "SELECT 'charge', hour, hour, billed FROM charge UNION ALL"
        " SELECT kind, hour, used_hour, billed FROM adjustment ORDER BY 1, 2"
    ).fetchall()


async def test_an_hour_is_sealed_some_minutes_after_it_is_over(pipeline: Pipeline) -> None:
    """Then nothing is left to seal until the next one is."""
    after = timedelta(seconds=MINUTES_LATER.seal_after_seconds)
    before = this_hour(after)
    sealed = await seal(pipeline, MINUTES_LATER)
    assert sealed in {before, this_hour(after)}
    if this_hour(after) == sealed:
        assert await seal(pipeline, MINUTES_LATER) is None


async def test_no_hour_is_sealed_whose_usage_waits(pipeline: Pipeline) -> None:
    """The hour of the earliest usage that is not rated stays open, and those after it."""
    start = midnight()
    await pipeline.send(pipeline.use(start + HOUR / 2, start + HOUR, 3))
    assert await seal(pipeline) == start
    assert await seal(pipeline) is None
    await pipeline.rate()
    assert await seal(pipeline) is not None
    assert [line[:2] for line in lines(pipeline)] == [("charge", start)]


async def test_what_comes_later_is_a_line_of_its_own(pipeline: Pipeline) -> None:
    """In its own hour, each time it comes; the charge stays, and the bill has all of it."""
    start = midnight()
    pipeline.ratio("cpu", "2")
    use = pipeline.use(start, start + HOUR, 3)
    await pipeline.bill(use)
    (charge,) = lines(pipeline)
    assert await seal(pipeline) is not None
    for number in range(2):
        begin = start + (1 + number) * HOUR / 4
        await pipeline.bill(pipeline.use(begin, begin + HOUR / 4, 3, run=1))
    assert lines(pipeline) == [charge, *[("late", start, start, charge[3] / 4)] * 2]
    assert sum(bill.fee for bill in pipeline.bills()) == 9
    kinds = pipeline.database.execute("SELECT DISTINCT kind FROM booking").fetchall()
    assert kinds == [("charge",)]  # like any other in sums and lists


async def test_a_seal_never_goes_back(pipeline: Pipeline) -> None:
    """Usage of a sealed hour that waits to be rated opens nothing."""
    sealed = await seal(pipeline)
    assert sealed is not None
    await pipeline.send(pipeline.use(midnight(), midnight() + HOUR, 3))
    assert await seal(pipeline) is None
