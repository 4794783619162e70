"""Reconciliation: what is right holds, one unit too much is found, what cannot be told is said."""

from datetime import datetime, timedelta

import pytest

from aggregator.clock import utc_now
from aggregator.metrics import Metrics
from aggregator.reconciler import Reconciler
from aggregator.store.pool import Pool
from tests.integration.aggregator.agents import Use
from tests.integration.aggregator.api.client import Api
from tests.integration.aggregator.api.test_admin_command import Done, run, url
from tests.integration.aggregator.rater.pipeline import Pipeline, midnight
from tests.integration.aggregator.rater.test_accounts import account

ADMIN = "/api/admin/v1"
HOUR = timedelta(hours=1)
DEVICE = 126_000


def text(instant: datetime) -> str:
    return f"{instant:%Y-%m-%dT%H:%M:00Z}"


def node_hours(pipeline: Pipeline, start: datetime, count: int) -> list[Use]:
    """All that a node with 8 cores and a GPU tells: jobs on some of it, and its accounts."""
    end = start + count * HOUR
    return [
        pipeline.use(start, end, 3000, used=2500, job_id="train"),
        pipeline.use(start, end - HOUR / 2, DEVICE, job_id="train", type_="gpu", model="H200"),
        account(pipeline, "capacity", start, end, 8000),
        account(pipeline, "idle", start, end, 5490),
        account(pipeline, "unattributed", start, end, 10),
        account(pipeline, "capacity", start, end, DEVICE, type_="gpu", device="GPU-1"),
        account(pipeline, "idle", end - HOUR / 2, end, DEVICE, type_="gpu", device="GPU-1"),
    ]


async def reconcile(api: Api, start: datetime, end: datetime) -> Done:
    """The command over a range."""
    return await run("--url", url(api), "reconcile", "--from", text(start), "--to", text(end))


CORRUPTIONS = {
    "conservation": "UPDATE node_account SET allocated = allocated + 1 WHERE meter_id IN"
    " (SELECT meter_id FROM node_meter WHERE account = 'capacity' AND type = 'gpu')",
    "usage": "UPDATE charge SET used = used + 1",
    "bills": "UPDATE bill SET amount = amount + 1",
    "days": "UPDATE daily_class SET used = used + 1",
}


async def test_what_came_over_the_wire_holds_and_one_unit_does_not(
    api: Api, pipeline: Pipeline
) -> None:
    """Each check finds its own unit, by command and over HTTP; the status says so."""
    start = midnight(1)
    pipeline.ratio("cpu", "0.3")
    await pipeline.bill(*node_hours(pipeline, start, 3))
    done = await reconcile(api, start, start + 3 * HOUR)
    assert (done.status, done.err) == (0, "")
    rows = [line.split() for line in done.out.splitlines() if line.split()[-1:] == ["0"]]
    assert rows == [
        ["conservation", "6", "0"], ["usage", "19", "0"], ["bills", "2", "0"], ["days", "4", "0"],
    ]  # fmt: skip
    asked = f"{ADMIN}/reconciliation?from={text(start)}&to={text(start + 3 * HOUR)}"
    for check, statement in CORRUPTIONS.items():
        pipeline.database.execute(statement.encode())
        found = (await api.get(asked)).json()
        assert found["holds"] is False
        assert check in {each["check"] for each in found["findings"] if each["failed"]}
    told = await reconcile(api, start, start + 3 * HOUR)
    assert (told.status, "train" in told.out, "do not agree" in told.err) == (1, True, True)


@pytest.mark.parametrize("check", CORRUPTIONS)
async def test_the_settled_hour_is_looked_at_by_itself(
    pipeline: Pipeline, pool: Pool, check: str
) -> None:
    """Once; the metric is 0 where all holds, and not where a unit is too much."""
    end = utc_now().replace(minute=0, second=0, microsecond=0)
    await pipeline.bill(*node_hours(pipeline, end - 3 * HOUR, 3))
    whole, broken = Metrics(), Metrics()
    first = Reconciler(pool, 7, whole)
    await first.once()
    pipeline.database.execute(CORRUPTIONS[check].encode())
    await first.once()
    await Reconciler(pool, 7, broken).once()
    name = "nodemeter_aggregator_reconciliation_mismatches"
    counts = {
        each: [found.registry.get_sample_value(name, {"check": each}) for found in (whole, broken)]
        for each in CORRUPTIONS
    }
    assert not any(good for good, _ in counts.values())
    assert counts[check][1]
    until = "nodemeter_aggregator_reconciled_until_timestamp_seconds"
    assert whole.registry.get_sample_value(until) in {end.timestamp(), (end - HOUR).timestamp()}


async def test_hours_before_a_nodes_first_account_are_nobodys_fault(
    api: Api, pipeline: Pipeline
) -> None:
    """A job may have run before the agent came, and through a part of the agent's first hour."""
    start = midnight(1)
    came = start + HOUR * 5 / 2
    await pipeline.bill(
        pipeline.use(start, start + 4 * HOUR, DEVICE, type_="gpu", model="H200"),
        account(pipeline, "capacity", came, start + 5 * HOUR, DEVICE, type_="gpu", device="GPU-1"),
        account(pipeline, "idle", start + 4 * HOUR, start + 5 * HOUR, DEVICE, type_="gpu",
                device="GPU-1"),
    )  # fmt: skip
    done = await reconcile(api, start, start + 5 * HOUR)
    assert (
        done.status,
        done.err.startswith("3 hours were not looked at, each of one type on one node"),
    ) == (0, True)
    assert ["conservation", "2", "0"] in [line.split() for line in done.out.splitlines()]
    pipeline.database.execute("DELETE FROM node_account WHERE hour > %s", (came,))
    told = await reconcile(api, start, start + 5 * HOUR)
    assert (told.status, text(start + 3 * HOUR) in told.out) == (1, True)


async def test_who_looks_at_nothing_is_told_so(api: Api, pipeline: Pipeline) -> None:
    """Status 1, and why: nothing metered, not settled; of a part that is not, what that is."""
    now = utc_now()
    start = midnight(1)
    done = await reconcile(api, start, start + HOUR)
    assert (done.status, done.out, "nothing was metered" in done.err) == (1, "", True)
    await pipeline.bill(*node_hours(pipeline, start, 1))
    ahead = await reconcile(api, now + HOUR, now + 2 * HOUR)
    assert (ahead.status, ahead.out, "hours are settled until" in ahead.err) == (1, "", True)
    early = await reconcile(api, start - timedelta(days=20_000), start + HOUR)
    assert (early.status, early.err) == (0, "")
    assert ["usage", "7", "0"] in [row.split() for row in early.out.splitlines()]
    partly = await reconcile(api, start, now + HOUR)
    assert (partly.status, "are not settled, and were not looked at" in partly.err) == (0, True)
