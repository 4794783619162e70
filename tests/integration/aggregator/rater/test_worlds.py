"""The property: whatever happens in whatever order, SQL and the pure model keep the same books."""

import pytest

from tests.integration.aggregator.rater.worlds import play

CROWDED = [(seed, 115) for seed in range(8)]
LONELY = [(seed, 2) for seed in range(100, 140)]
"""Seeds, and how many timelines: 1,000 together. In a crowd every minute is some boundary."""


@pytest.mark.timeout(600)
@pytest.mark.parametrize("worlds", [CROWDED[:4], CROWDED[4:], LONELY[:20], LONELY[20:]])
async def test_a_thousand_timelines_come_to_what_the_model_says(
    database_url: str, worlds: list[tuple[int, int]]
) -> None:
    """Usage, price changes, late arrivals, closes and re-ratings, to the last unit."""
    for seed, timelines in worlds:
        await play(database_url, seed, timelines)
