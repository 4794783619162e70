"""The node's own accounts are summed exactly once, and nobody is billed for them."""

import asyncio
from collections.abc import Iterable
from datetime import datetime, timedelta

from psycopg.rows import TupleRow

from proto.metering.v1 import metering_pb2 as pb
from tests.integration.aggregator.agents import (
    Use,
    bare,
    connected,
    deliver,
    records_of,
    sealed,
)
from tests.integration.aggregator.rater.pipeline import Pipeline, midnight

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
HOUR_MS = 3_600_000
DEVICE = 126_000
JOBS_TABLES = ("run", "meter", "price_class", "billing_user", "bill", "charge")


def account(
    pipeline: Pipeline,
    kind: str,
    start: datetime,
    end: datetime,
    amount: int,
    *,
    type_: str = "cpu",
    device: str | None = None,
    suffix: str = "",
) -> Use:
    """An account that holds `amount` base units from one instant to another."""
    run = pipeline.spool.account(kind, started_at=start, suffix=suffix)
    meter = pipeline.spool.meter(run, type_, quota=amount, started_at=start, device=device)
    allocated, used = (0, amount) if device is None else (amount, 0)
    return Use(meter=meter, start=start, end=end, allocated=allocated, used=used)


def hours(pipeline: Pipeline) -> list[TupleRow]:
    """What is accounted for, in base unit-hours: of `used`, and of `allocated`."""
    return pipeline.database.execute(
        """
        SELECT hour, account, type, device, used / 3600000, allocated / 3600000
        FROM node_account JOIN node_meter USING (meter_id)
        ORDER BY hour, account, type, device
        """
    ).fetchall()


def count(pipeline: Pipeline, tables: Iterable[str]) -> dict[str, int]:
    """The rows of each table."""
    counts: dict[str, int] = {}
    for table in tables:
        row = pipeline.database.execute(b"SELECT count(*) FROM " + table.encode()).fetchone()
        assert row is not None
        counts[table] = int(row[0])
    return counts


async def test_accounts_are_kept_by_the_hour(pipeline: Pipeline) -> None:
    """Each with its type and device; across an hour and across midnight."""
    start = midnight()
    await pipeline.send(
        account(pipeline, "capacity", start - 30 * MINUTE, start + 90 * MINUTE, 8_000),
        account(pipeline, "idle", start, start + HOUR, DEVICE, type_="gpu", device="GPU-1"),
        account(pipeline, "down", start, start + HOUR, DEVICE, type_="gpu", device="GPU-2"),
    )
    assert await pipeline.rate() == 240
    assert hours(pipeline) == [
        (start - HOUR, "capacity", "cpu", None, 4_000, 0),
        (start, "capacity", "cpu", None, 8_000, 0),
        (start, "down", "gpu", "GPU-2", 0, DEVICE),
        (start, "idle", "gpu", "GPU-1", 0, DEVICE),
        (start + HOUR, "capacity", "cpu", None, 4_000, 0),
    ]


async def test_accounts_are_summed_once_however_they_come(pipeline: Pipeline) -> None:
    """In many batches and rounds, each batch sent again on a new connection."""
    start = midnight()
    use = account(pipeline, "unattributed", start, start + HOUR, 60)
    for minute in range(60):
        begin = start + minute * MINUTE
        part = Use(meter=use.meter, start=begin, end=begin + MINUTE, allocated=0, used=minute)
        frame = pipeline.spool.batch(records_of(part))
        await deliver(pipeline.ingest.port, pipeline.spool, [frame])
        await deliver(pipeline.ingest.port, pipeline.spool, [frame])
        if minute % 7 == 0:
            await asyncio.gather(*(pipeline.rate(max_records=1) for _ in range(2)))
    await pipeline.rate()
    assert await pipeline.rate() == 0
    ((_, _, _, _, used, _),) = hours(pipeline)
    assert used * 60 == sum(range(60))


async def test_nobody_is_billed_for_an_account(pipeline: Pipeline) -> None:
    """No run, no meter of a job, no class to price, no user, no bill, no charge."""
    start = midnight()
    pipeline.ratio("cpu", "2")
    await pipeline.send(
        account(pipeline, "capacity", start, start + HOUR, 8_000),
        account(pipeline, "excess", start, start + HOUR, 7, type_="npu", device="NPU-1"),
    )
    await pipeline.rate()
    assert len(hours(pipeline)) == 2
    assert count(pipeline, JOBS_TABLES) == dict.fromkeys(JOBS_TABLES, 0)
    for type_ in ("cpu", "npu"):
        unpriced = pipeline.metrics.registry.get_sample_value(
            "nodemeter_aggregator_unpriced_charges_total", {"type": type_}
        )
        assert not unpriced


async def test_jobs_cost_the_same_beside_accounts(pipeline: Pipeline) -> None:
    """Of the same batch, the same minutes and the same devices."""
    start = midnight()
    pipeline.ratio("gpu", "3")
    job = pipeline.use(start, start + HOUR, DEVICE // 4, type_="gpu", model="H200")
    alone = await pipeline.bill(job)
    rows = count(pipeline, JOBS_TABLES)
    (number,) = pipeline.spool.runs
    again = pipeline.use(
        start + HOUR, start + 2 * HOUR, DEVICE // 4, type_="gpu", model="H200", run=number
    )
    await pipeline.send(
        again,
        account(pipeline, "idle", start, start + 2 * HOUR, 5, type_="gpu", device="GPU-1"),
        account(pipeline, "unattributed", start, start + 2 * HOUR, 5),
    )
    await pipeline.rate()
    bills = pipeline.bills()
    assert bills[0] == alone[0]
    assert [bill.fee for bill in bills] == [0.75, 0.75]
    assert count(pipeline, JOBS_TABLES) == rows | {"meter": 2, "bill": 2, "charge": 2}


async def test_an_account_goes_on_under_another_run(pipeline: Pipeline) -> None:
    """After a stepped clock or a restart; the run that ended ends nothing."""
    start = midnight()
    first = account(pipeline, "idle", start, start + 30 * MINUTE, 100)
    (run,) = pipeline.spool.runs
    ends = [(run, start + 30 * MINUTE)]
    frame = pipeline.spool.batch(records_of(first), ends=ends)
    await deliver(pipeline.ingest.port, pipeline.spool, [frame])
    second = account(pipeline, "idle", start + 30 * MINUTE, start + HOUR, 300, suffix="~1")
    await pipeline.send(second)
    await pipeline.rate()
    assert hours(pipeline) == [(start, "idle", "cpu", None, 200, 0)]
    assert count(pipeline, ["node_meter"]) == {"node_meter": 1}


async def test_what_a_connection_acked_need_not_be_defined_again(pipeline: Pipeline) -> None:
    """Of accounts as of jobs, in one frame."""
    start = midnight()
    job = pipeline.use(start, start + MINUTE, 2)
    own = account(pipeline, "unattributed", start, start + MINUTE, 3)
    frames = [pipeline.spool.batch(records_of(job, own)) for _ in range(2)]
    async with connected(pipeline.ingest.port) as client:
        await client.welcome(pipeline.spool)
        await client.deliver(frames[0])
        await client.deliver(bare(frames[1]))
    assert await pipeline.rate() == 4
    assert [used * 60 for *_, used, _ in hours(pipeline)] == [6]
    assert [bill.usage * 60 for bill in pipeline.bills()] == [4]


async def test_a_faulty_account_costs_itself_alone(pipeline: Pipeline) -> None:
    """The job beside it is billed, the other account kept; both the batch and why are shown."""
    start = midnight()
    job = pipeline.use(start, start + MINUTE, 2)
    good = account(pipeline, "idle", start, start + MINUTE, 3)
    bad = account(pipeline, "idle", start, start + MINUTE, 5, type_="storage")
    someones = account(pipeline, "capacity", start, start + MINUTE, 7)
    pipeline.spool.runs[max(pipeline.spool.runs)].username = "alice"
    frame = sealed(pipeline.spool.batch(records_of(job, good, bad, someones)))
    await deliver(pipeline.ingest.port, pipeline.spool, [frame])
    assert await pipeline.rate() == 2
    assert [used * 60 for *_, used, _ in hours(pipeline)] == [3]
    assert [bill.job_id for bill in pipeline.bills()] == ["job-1"]
    ((reason, records, payload),) = pipeline.database.execute(
        "SELECT reason, record_count, payload FROM quarantine"
    ).fetchall()
    assert (reason, records) == ("bad_account", 2)
    assert [run.kind for run in pb.Batch.FromString(payload).runs] == ["idle", "capacity"]


async def test_a_slice_is_kept_with_the_device_that_it_is_cut_from(pipeline: Pipeline) -> None:
    """So that what jobs had of a device is found; older agents do not say."""
    start = midnight()
    run = pipeline.spool.run(started_at=start)
    for physical in ("GPU-1", None):
        pipeline.spool.meter(
            run, "gpu", started_at=start, device=f"MIG-{physical}", physical=physical
        )
    await pipeline.send()
    found = pipeline.database.execute("SELECT device, physical FROM meter ORDER BY device DESC")
    assert found.fetchall() == [("MIG-None", None), ("MIG-GPU-1", "GPU-1")]
