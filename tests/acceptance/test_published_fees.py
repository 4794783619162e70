"""The fees that the Bill API's original published, through the real pipeline, to the last digit.

Those of which no whole number of base units gives the usage are tested on the renderer, in
tests/unit/aggregator/rating/test_money.py.
"""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from aggregator.clock import utc_now
from tests.acceptance.product import Item, until
from tests.acceptance.service import Service, serving
from tests.integration.aggregator.agents import Spool, Use, deliver, records_of, whole_minute

MINUTE = timedelta(minutes=1)
PUBLISHED = {
    # job: (milli-cores for one minute, usage, fee at a price of 100)
    "whole": (1050, "17.5", "1750"),
    "thirds": (1240, "20.666666666666668", "2066.666666666667"),
}


@pytest.fixture
async def service(database_url: str, tmp_path: Path) -> AsyncIterator[Service]:
    """An aggregator that has been handed one minute of each job, and one of memory."""
    with serving(database_url, tmp_path / "aggregator.log", is_rating=True) as running:
        running.declare_in_the_past({"cpu": "100", "mem": "0"})
        spool, start = Spool(), whole_minute(utc_now()) - MINUTE
        uses: list[Use] = []
        for job, (quota, *_) in PUBLISHED.items():
            run = spool.run(job, started_at=start)
            for type_, amount in (("cpu", quota), ("mem", 1 << 20)):
                meter = spool.meter(run, type_, quota=amount, started_at=start)
                uses.append(Use(meter=meter, start=start, end=start + MINUTE, allocated=amount))
        await deliver(running.grpc_port, spool, [spool.batch(records_of(*uses))])
        yield running


def test_published_fees_come_out_to_the_last_digit(service: Service) -> None:
    """17.5 x 100 = 1750 and 62/3 x 100 = 2066.666666666667 as doubles; anything x 0 = 0."""

    def rated() -> list[Item] | None:
        items = [item for job in PUBLISHED for item in service.items("Bills", job)]
        return items if len(items) == 4 and all(item["usage"] for item in items) else None

    items = until("four rated items", rated, seconds=30)
    shown = {(item["jobName"], item["type"]): (item["usage"], item["fee"]) for item in items}
    for job, (_, usage, fee) in PUBLISHED.items():
        assert tuple(map(repr, shown[job, "cpu"])) == (usage, fee)
        assert repr(shown[job, "mem"][1]) == "0"
