"""A day of backlog of one node, and of a hundred: minutes long, so only `make scale` names it."""

import os
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.faults.scale.aggregators import Aggregator, running_on
from tests.faults.scale.backlogs import all_of, backlogs_of, count_stored, drain

DAY = 1_440
MOST_FRESH_SECONDS = 120

pytestmark = pytest.mark.timeout(3_600)


@pytest.fixture
def aggregator(database_url: str, tmp_path: Path) -> Iterator[Aggregator]:
    with running_on(database_url, tmp_path / "aggregator.log") as made:
        yield made


@pytest.mark.parametrize(("count", "most_seconds"), [(1, 60), (100, 600)])
def test_a_day_of_backlog_drains_in_time(
    aggregator: Aggregator, database_url: str, memory_path: Path, count: int, most_seconds: int
) -> None:
    """144,000 records each; what is fresh meanwhile arrives within two minutes."""
    nodes = backlogs_of(aggregator, memory_path, first=1, count=count, minutes=DAY, runs=50)
    bystanders = backlogs_of(aggregator, memory_path, first=1_001, count=3, minutes=0, runs=50)
    with nodes, bystanders:
        drained = drain(aggregator, nodes, bystanders, 5)
    print(f"{count} nodes: {drained}, {aggregator.peak_mib():.0f} MiB, {os.getloadavg()}")
    with psycopg.connect(database_url) as connection:
        stored = count_stored(connection)
    assert stored == all_of(nodes, drained) | all_of(bystanders, drained)
    assert drained.seconds < most_seconds
    assert max(drained.fresh_seconds, drained.bystander_seconds) < MOST_FRESH_SECONDS
