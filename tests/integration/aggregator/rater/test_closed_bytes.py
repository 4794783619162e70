"""A closed period answers the same bytes for ever, in every endpoint that shows it."""

from datetime import timedelta

from aggregator.model import Period
from aggregator.store.grants import Role
from aggregator.store.pool import open_pool
from tests.integration.aggregator.agents import deliver, records_of
from tests.integration.aggregator.api.client import Api, served
from tests.integration.aggregator.rater.pipeline import Pipeline
from tests.integration.aggregator.rater.test_accounts import account
from tests.integration.aggregator.rater.test_periods import close, last_month

HOUR = timedelta(hours=1)
DEVICE = 126_000


def endpoints(period: Period) -> list[str]:
    """Every question about a period, and about parts of it."""
    start, middle, end = (f"{each:%Y-%m-%dT%H:%M:%SZ}" for each in _instants(period))
    name = f"{period.start:%Y-%m}"
    ranges = [f"startTime={start}&endTime={end}", f"startTime={middle}&endTime={end}",
              f"endTime={end}", f"startTime={start}&endTime={middle}"]  # fmt: skip
    lists = [
        f"{path}?{range_}{more}"
        for path in ("/api/Bills", "/api/Usages", "/api/admin/v1/usages")
        for range_ in ranges
        for more in ("", "&running=true", "&running=false", "&type=cpu", "&jobId=job-1")
    ]
    return [
        *lists,
        f"/api/Bills?startTime={start}&endTime={end}&granularity=hour",
        f"/api/admin/v1/usages?startTime={start}&endTime={end}&method=request",
        *other_apis(period, f"startTime={start}&endTime={end}"),
        f"/api/admin/v1/periods/{name}?verify=true",
        f"/api/admin/v1/adjustments?period={name}",
        f"/api/admin/v1/nodes/conservation?node=n1&from={middle}&to={end}",
    ]


def other_apis(period: Period, range_: str) -> list[str]:
    """The same period by the other billing APIs, in each unit of time that they know."""
    days = f"start={period.start:%Y-%m-%d}&end={period.end - HOUR:%Y-%m-%d}"
    dates = f"startDate={period.start:%Y-%m-%d}&endDate={period.end - HOUR:%Y-%m-%d}"
    first, last = (int(each.timestamp()) for each in (period.end - 4 * HOUR, period.end))
    stamps = range_.replace("Time=", "Timestamp=")
    cost = "/platform/cost.alauda.io/v1beta1/costs/usage"
    return [
        *(f"{cost}?{days}&step={step}" for step in ("day", "week", "month")),
        f"{cost}?{days}&item=Memory&kind=namespace_all&method=Request",
        *(
            f"/v1/billing/pods?{range_}&bucketSize={size}&grouping={by}"
            for size in ("hour", "day", "month")
            for by in ("podId", "gpuTypeId")
        ),
        f"/v1/billing/networkvolumes?{range_}",
        f"/api/v1/billing/usage?{dates}&limit=500",
        f"/api/v1/billing/usage?{dates}&limit=2&page=2&sortOrder=asc",
        f"/api/v1/billing/usage-history?{stamps}&pageSize=10",
        *(f"/v1/billing/usage/{at}?resourceType=job" for at in range(first, last, 3600)),
        f"/v1/billing/usage?startTime={first}&endTime={last}",
        f"/v1/teams/vc1/billing/usage?startTime={first}&endTime={last}&per_page=3",
    ]


def _instants(period: Period) -> tuple[object, object, object]:
    return period.start, period.end - 3 * HOUR, period.end


async def answers(pipeline: Pipeline, period: Period) -> dict[str, tuple[bytes, str | None]]:
    """What each endpoint says: a server of its own, started anew."""
    pool = await open_pool(pipeline.service_url, role=Role.API, max_size=3)
    try:
        async with served(pool) as api:
            return {each: await _answer(api, each) for each in endpoints(period)}
    finally:
        await pool.close()


async def _answer(api: Api, target: str) -> tuple[bytes, str | None]:
    answer = await api.get(target)
    assert answer.status == 200, (target, answer.text)
    return answer.body, answer.headers.get("X-Unpriced-Items")


async def test_nothing_that_happens_later_changes_a_byte(pipeline: Pipeline) -> None:
    """Late usage, late ends, late accounts, other prices, the software started anew."""
    period = last_month()
    start = period.end - 4 * HOUR
    pipeline.ratio("cpu", "0.1", ends_at=start + HOUR)
    pipeline.ratio("cpu", "0.3", start + HOUR)
    pipeline.ratio("gpu:H200", "2.5")
    uses = [
        pipeline.use(start, period.end, 3, used=4),
        pipeline.use(start, period.end - HOUR / 2, DEVICE, job_id="b", type_="gpu", model="H200"),
        pipeline.use(start, period.end - 2 * HOUR, 1, job_id="unpriced", type_="mem"),
        account(pipeline, "capacity", start, period.end, 8000),
    ]
    await pipeline.bill(*uses)
    await pipeline.bill(pipeline.use(period.end, period.end + HOUR, 3, used=4, run=1))
    await close(pipeline, period)
    before = await answers(pipeline, period)
    assert any(b'isRunning":true' in body for body, _ in before.values())
    await happen(pipeline, period)
    assert await answers(pipeline, period) == before


async def happen(pipeline: Pipeline, period: Period) -> None:
    """All that may be told and done after the close."""
    start = period.end - 4 * HOUR
    frame = pipeline.spool.batch(
        records_of(
            pipeline.use(start, period.end, 5, job_id="late"),
            pipeline.use(period.end - HOUR, period.end + HOUR, 2, used=9, run=2),
            account(pipeline, "idle", start, period.end, 4000),
        ),
        ends=[(1, period.end - HOUR), (2, period.end + HOUR)],
    )
    await deliver(pipeline.ingest.port, pipeline.spool, [frame])
    pipeline.database.execute("UPDATE ratio SET ends_at = starts_at WHERE key = 'gpu:H200'")
    pipeline.ratio("gpu:H200", "77")
    pipeline.ratio("mem", "5")
    await pipeline.rate()
    assert pipeline.database.execute("SELECT count(*) > 0 FROM adjustment").fetchone() == (True,)
