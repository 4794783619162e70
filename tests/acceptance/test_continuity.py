"""A job lives through the deaths of those who meter it: one item, nothing lost, nothing doubled.

`AWAY_SECONDS` says how long the aggregator stays dead (default 20).
"""

import os
import threading
from datetime import datetime

import pytest

from tests.acceptance.product import TICK_SECONDS, Item, Job, Product, until

AWAY_SECONDS = float(os.environ.get("AWAY_SECONDS", "20"))
BURN_SECONDS = 300 + AWAY_SECONDS  # at most

pytestmark = pytest.mark.timeout(600 + AWAY_SECONDS)


@pytest.fixture(scope="module")
def survivor(make_run: Product) -> Job:
    """A job during which the agent is killed, then the aggregator, for a while."""
    product = make_run
    product.cli("ratios", "set", "cpu", "1")
    told = product.state_dir / "survivor-ends"
    job = product.burn("survivor", "--cpu", "300m", seconds=BURN_SECONDS, told=told)
    until("survivor's item", lambda: product.items("Usages", "survivor"), seconds=75)
    agent = product.kill("agent")
    until("another agent", lambda: product.pid("agent") != agent, seconds=30)
    with product.without("aggregator"):
        threading.Event().wait(AWAY_SECONDS)
    until("the aggregator to be back", product.is_ready, seconds=180)
    told.touch()
    job.wait(60)

    def is_stopped() -> bool:
        items = product.items("Usages", "survivor") if product.is_ready() else []
        return bool(items) and not any(item["isRunning"] for item in items)

    until("survivor to be shown as stopped", is_stopped, seconds=90)
    return job


def test_there_is_one_continuous_item(make_run: Product, survivor: Job) -> None:
    """Both deaths leave no seam: one item from fork to wait, its allocation exact."""
    (item,) = make_run.items("Usages", "survivor", type="cpu")
    start, end = (datetime.fromisoformat(str(item[key])) for key in ("startTime", "endTime"))
    seconds = (end - start).total_seconds()
    assert survivor.said["lived_seconds"] - TICK_SECONDS <= seconds <= survivor.wall_seconds
    (row,) = details(make_run, "survivor")
    assert float(str(row["allocated"])) == pytest.approx(300 * seconds / 3600, rel=1e-9)


def test_the_cpu_total_is_the_kernels(make_run: Product, survivor: Job) -> None:
    """Within 1 % of the job's own counter, across both deaths."""
    (row,) = details(make_run, "survivor")
    used_seconds = float(str(row["used"])) * 3600 / 1000
    assert used_seconds == pytest.approx(survivor.said["cpu_usec"] / 1e6, rel=0.01)


def test_a_job_of_the_agents_absence_is_billed_when_it_comes_back(make_run: Product) -> None:
    """Started and ended while no agent lived: its file holds all that a bill needs."""
    with make_run.without("agent"):
        job = make_run.burn("absent", "--cpu", "2", seconds=2).wait(30)
    until("the item of absent", lambda: make_run.items("Usages", "absent", type="cpu"), seconds=90)
    (item,) = make_run.items("Usages", "absent", type="cpu")
    assert item["usage"] == pytest.approx(2000 * job.said["lived_seconds"] / 3600, rel=0.05)
    assert not item["isRunning"]


def details(product: Product, job: str) -> list[Item]:
    rows = product.cli_json("usages", "--detail", "--type", "cpu")
    return [row for row in rows if row["jobName"] == job]
