"""Backlogs of many nodes at once: they drain, and what is fresh meanwhile does not wait for them.

`make scale` runs the long form, `scale/day_of_backlog.py`.
"""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.faults.scale.aggregators import Aggregator, running_on
from tests.faults.scale.backlogs import all_of, backlogs_of, count_stored, drain

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def aggregator(database_url: str, tmp_path: Path) -> Iterator[Aggregator]:
    with running_on(database_url, tmp_path / "aggregator.log") as made:
        yield made


def test_what_is_fresh_does_not_wait_for_the_backlogs_of_others(
    aggregator: Aggregator, database_url: str, memory_path: Path
) -> None:
    """Nothing is lost, and fresh frames are durable before the last of the old ones are."""
    nodes = backlogs_of(aggregator, memory_path, first=1, count=5, minutes=720, runs=10)
    bystanders = backlogs_of(aggregator, memory_path, first=1_001, count=3, minutes=0, runs=10)
    with nodes, bystanders:
        drained = drain(aggregator, nodes, bystanders, 0.2)
    with psycopg.connect(database_url) as connection:
        stored = count_stored(connection)
        late = connection.execute(
            "SELECT min(ingest_group_id) FILTER (WHERE name >= 'node-1001')"
            " < max(ingest_group_id) FILTER (WHERE name < 'node-1001' AND sequence <= %s)"
            " FROM batch JOIN stream USING (stream_id) JOIN node USING (node_id)",
            (nodes.minutes,),
        ).fetchone()
    assert stored == all_of(nodes, drained) | all_of(bystanders, drained)
    assert late == (True,)
