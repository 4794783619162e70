"""The APIs are one ledger: for the same usage, period and filter they say the same.

One world goes through the whole pipeline, with all that makes money hard: price changes within
an hour, two clusters, late usage, a closed month, prices corrected afterwards. Its quantities
and prices are binary fractions, so that every double is exact and sums can be compared to the
last digit; a second, awkward one is compared line by line.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any
from uuid import UUID

from aggregator.billing.audit import Author
from aggregator.billing.database import Database
from aggregator.billing.rerating import Order, order_rerate
from aggregator.clock import utc_now
from aggregator.metrics import Metrics
from aggregator.model import Period, user_id
from aggregator.rerater import rerate_pending
from aggregator.sealer import seal_hours
from aggregator.settings import RaterSettings
from proto.metering.v1 import metering_pb2 as pb
from tests.integration.aggregator.agents import Spool, Use
from tests.integration.aggregator.api.client import Api
from tests.integration.aggregator.rater.pipeline import Pipeline
from tests.integration.aggregator.rater.test_periods import close, last_month

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
DEVICE = 126_000
GIB = 1024 * 1024
"""In base units of memory and storage."""


class Elsewhere(Spool):
    """A node of another cluster."""

    def hello(self) -> pb.Hello:
        """Introduce it."""
        hello = super().hello()
        hello.cluster, hello.address = "c2", "10.0.0.8"
        return hello


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Whose usage it is."""

    job_id: str
    start: datetime
    username: str = "alice"
    vc: str = "vc1"
    project: str = "p1"
    kind: str = "job"


@dataclass(slots=True, kw_only=True)
class Site:
    """A node, and the jobs that run there."""

    pipeline: Pipeline

    def run(self, job: Job) -> int:
        """Start a job; its run's number."""
        spool = self.pipeline.spool
        number = spool.run(job.job_id, started_at=job.start, vc=job.vc)
        said = spool.runs[number]
        said.username, said.project, said.kind = job.username, job.project, job.kind
        said.namespace = f"{job.project}-ns"
        return number

    def use(
        self,
        run: int,
        start: datetime,
        end: datetime,
        allocated: int,
        type_: str = "cpu",
        *,
        model: str | None = None,
        used: int | None = None,
    ) -> Use:
        """What a run has from one instant to another."""
        return self.pipeline.use(
            start, end, allocated, used=used, type_=type_, model=model, run=run
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What was metered: from four hours before the end of a closed month until now."""

    month_end: datetime
    until: datetime

    @property
    def start(self) -> datetime:
        return self.month_end - 4 * HOUR

    @property
    def periods(self) -> Sequence[Period]:
        """Ranges that are asked for: hours, days, the closed month, everything."""
        hours = [self.start + number * HOUR for number in range(5)] + [self.until - 2 * HOUR]
        days = sorted({_day(each) for each in (self.start, self.month_end, utc_now())})
        return [
            *(Period(start=each, end=each + HOUR) for each in hours),
            *(Period(start=each, end=each + DAY) for each in days),
            Period(start=self.start, end=self.month_end),
            Period(start=self.start, end=self.until),
        ]


async def world(pipeline: Pipeline) -> World:
    """Meter, rate, seal, come late, close, come late again, and correct a price."""
    end = last_month().end
    prices(pipeline, end)
    here, there = Site(pipeline=pipeline), elsewhere(pipeline)
    jobs = begin(here, end), begin_elsewhere(there, end)
    await here.pipeline.send(*jobs[0])
    await there.pipeline.send(*jobs[1])
    await pipeline.rate()
    assert await seal_hours(pipeline.pool, RaterSettings(seal_after_seconds=0)) is not None
    await come_late(here, end + HOUR / 4, end + HOUR / 2, "late")
    await close(pipeline, last_month())
    await come_late(here, end - 3 * HOUR, end - 2 * HOUR, "too late")
    correct(pipeline, end)
    await rerate(pipeline, end)
    until = _hour(utc_now()) + 2 * HOUR
    pipeline.database.execute("INSERT INTO seal VALUES (%s, now())", (until,))  # an hour later
    return World(month_end=end, until=until)


def prices(pipeline: Pipeline, end: datetime) -> None:
    """Of types, a model and a cluster's model; two change, one within an hour. NPUs have none."""
    change = end - 150 * MINUTE
    pipeline.ratio("cpu", "0.001953125", ends_at=change)
    pipeline.ratio("cpu", "0.00390625", change)
    pipeline.ratio("mem", "0.000244140625", ends_at=end - HOUR)
    pipeline.ratio("mem", "0.00048828125", end - HOUR)
    pipeline.ratio("gpu", "2.5")
    pipeline.ratio("gpu:NVIDIA A100@vc2", "1.25")
    pipeline.ratio("storage", "0.0001220703125")


def elsewhere(pipeline: Pipeline) -> Site:
    """A node of another cluster."""
    return Site(pipeline=replace(pipeline, spool=Elsewhere(node="n2", machine_id="m2")))


def begin(site: Site, end: datetime) -> list[Use]:
    """Jobs of alice: one with everything, one with what has no price."""
    start = end - 4 * HOUR + HOUR / 4
    train = site.run(Job(job_id="train", start=start))
    tests = site.run(Job(job_id="tests", start=end - HOUR, project="p2"))
    return [
        site.use(train, start, end + HOUR / 4, 500, used=750),
        site.use(train, start, end + HOUR / 4, 4 * GIB, "mem", used=GIB),
        site.use(train, start, end + HOUR / 4, 2 * DEVICE, "gpu", model="NVIDIA H200"),
        site.use(train, end - 2 * HOUR, end + HOUR / 4, 8 * GIB, "storage"),
        site.use(tests, end - HOUR, end + HOUR / 2, 250),
        site.use(tests, end - HOUR, end + HOUR / 2, DEVICE, "npu", model="Ascend 910B"),
    ]


def begin_elsewhere(site: Site, end: datetime) -> list[Use]:
    """Jobs of bob in the other cluster: a service, and one with two models of GPU."""
    start = end - 2 * HOUR
    serve = site.run(
        Job(job_id="serve", start=start, username="bob", vc="vc2", project="p2", kind="service")
    )
    mixed = site.run(Job(job_id="mixed", start=start, username="bob", vc="vc2"))
    return [
        site.use(serve, start, end + HOUR / 2, 1000, used=125),
        site.use(serve, start, end + HOUR / 2, DEVICE // 2, "gpu", model="NVIDIA A100"),
        site.use(mixed, start, end, DEVICE, "gpu", model="NVIDIA A100"),
        site.use(mixed, start, end, DEVICE, "gpu", model="NVIDIA H200"),
    ]


async def come_late(site: Site, start: datetime, end: datetime, job_id: str) -> None:
    """A job that is told of after the seal, or after the close."""
    run = site.run(Job(job_id=job_id, start=start, project="p2"))
    await site.pipeline.bill(
        site.use(run, start, end, 125), site.use(run, start, end, GIB, "mem", used=2 * GIB)
    )


def correct(pipeline: Pipeline, end: datetime) -> None:
    """GPUs were dearer than was declared, in the closed month, too."""
    pipeline.database.execute("UPDATE ratio SET ends_at = starts_at WHERE key = 'gpu'")
    pipeline.ratio("gpu", "3.75", end - 4 * HOUR)


async def rerate(pipeline: Pipeline, end: datetime) -> None:
    """Rate all of it again."""
    order = Order(range=Period(start=end - 4 * HOUR, end=end + HOUR), key=None)
    await order_rerate(Database(pipeline.api_pool), order, Author(actor="x", reason="y"))
    assert await rerate_pending(pipeline.pool, Metrics()) > 0


def _hour(instant: datetime) -> datetime:
    return instant.replace(minute=0, second=0, microsecond=0)


def _day(instant: datetime) -> datetime:
    return datetime.combine(instant.date(), datetime.min.time(), tzinfo=UTC)


def text(instant: datetime) -> str:
    """As all APIs take it."""
    return f"{instant:%Y-%m-%dT%H:%M:%SZ}"


async def got(api: Api, target: str) -> Any:  # noqa: ANN401 - whatever the server sent
    """What an API answers."""
    answer = await api.get(target)
    assert answer.status == 200, (target, answer.text)
    return answer.json()


async def bills(api: Api, period: Period, more: str = "") -> list[dict[str, Any]]:
    """What the Bill API says."""
    bounds = f"startTime={text(period.start)}&endTime={text(period.end)}"
    found: list[dict[str, Any]] = await got(api, f"/api/Bills?{bounds}{more}")
    return found


async def ledger(api: Api, period: Period, more: str = "") -> list[dict[str, Any]]:
    """What the Ledger API says."""
    bounds = f"startTimestamp={text(period.start)}&endTimestamp={text(period.end)}"
    found: list[dict[str, Any]] = (await got(api, f"/api/v1/billing/usage-history?{bounds}{more}"))[
        "data"
    ]
    return found


async def pods(api: Api, period: Period, more: str = "") -> list[dict[str, Any]]:
    """What the Pods API says, hour by hour."""
    bounds = f"startTime={text(period.start)}&endTime={text(period.end)}"
    target = f"/v1/billing/pods?bucketSize=hour&grouping=podId&{bounds}{more}"
    found: list[dict[str, Any]] = await got(api, target)
    return found


async def hours(api: Api, period: Period) -> list[dict[str, Any]]:
    """What the Hourly API says of each hour, page by page; its prices are cents."""
    bounds = f"startTime={period.start.timestamp():.0f}&endTime={period.end.timestamp():.0f}"
    found: list[dict[str, Any]] = []
    cursor: str | None = ""
    while cursor is not None:
        page = await got(api, f"/v1/billing/usage?per_page=2&{bounds}&cursor={cursor}")
        found += page["data"]["usage"]
        cursor = page["pagination"].get("cursor")
    return found


async def resources(api: Api, hour: datetime) -> list[dict[str, Any]]:
    """What the Hourly API says of an hour's jobs, by all of its projects."""
    target = f"/v1/billing/usage/{hour.timestamp():.0f}?projectId="
    teams = [
        team
        for project in ("p1", "p2")
        for team in (await got(api, target + project))["data"]["paasUsage"]["teams"]
    ]
    return [
        {"id": resource["id"], "cents": resource["price"]["total"]}
        for team in teams
        for project in team["projects"]
        for kind in project["resourceTypes"]
        for resource in kind["resources"]
    ]


def total(rows: Iterable[dict[str, Any]], key: str) -> Fraction:
    """The exact sum of printed doubles."""
    return sum((Fraction(row[key]) for row in rows), Fraction(0))


def by(rows: Iterable[dict[str, Any]], name: str, key: str) -> dict[str, Fraction]:
    """Sums by name, without those that come to nothing."""
    sums: dict[str, Fraction] = defaultdict(Fraction)
    for row in rows:
        sums[row[name]] += Fraction(row[key])
    return {each: value for each, value in sums.items() if value}


async def test_all_apis_report_the_same_money(api: Api, pipeline: Pipeline) -> None:
    """Whole, by user, by job, by hour, in the closed month and after it: to the last digit."""
    found = await world(pipeline)
    whole = Period(start=found.start, end=found.until)
    users: list[UUID] = [user_id("c1", "alice"), user_id("c2", "bob")]
    for period in found.periods:
        billed = await bills(api, period)
        assert -total(await ledger(api, period), "amount") == total(billed, "fee"), period
        for user in users:
            own = await bills(api, period, f"&userId={user}")
            lines = await ledger(api, period, f"&userId={user}")
            assert -total(lines, "amount") == total(own, "fee"), (period, user)
        shown = by(await pods(api, period), "podId", "amount")
        assert shown == by(billed, "jobId", "fee"), period
        cents = [each["paasUsage"]["price"] for each in await hours(api, period)]
        assert total(cents, "total") == 100 * total(billed, "fee"), period
    jobs = by(await bills(api, whole), "jobId", "fee")
    assert set(jobs) == {"train", "tests", "serve", "mixed", "late", "too late"}
    for job, fee in jobs.items():
        some = await pods(api, whole, f"&podId={job.replace(' ', '%20')}")
        assert total(some, "amount") == fee, job
    for each in await hours(api, whole):
        hour = datetime.fromtimestamp(each["timestamp"], tz=UTC)
        fees = by(await bills(api, Period(start=hour, end=hour + HOUR)), "jobId", "fee")
        assert by(await resources(api, hour), "id", "cents") == {
            job: 100 * fee for job, fee in fees.items()
        }


async def test_hour_by_hour_it_is_the_same_money(api: Api, pipeline: Pipeline) -> None:
    """In cents: whole, by team, project, kind and job, by types of usage, and in the list."""
    found = await world(pipeline)
    hours = [each for each in found.periods if each.end - each.start == HOUR]
    for hour in hours:
        billed = await bills(api, hour)
        paas = (await got(api, f"/v1/billing/usage/{_seconds(hour.start)}"))["data"]["paasUsage"]
        assert cents(paas["price"]) == total(billed, "fee"), hour
        for name, types in (("cpu", {"cpu"}), ("memory", {"mem"}), ("storage", {"storage"}),
                            ("gpu", {"gpu", "npu"})):  # fmt: skip
            some = [each for each in billed if each["type"] in types]
            assert cents(paas["price"], name) == total(some, "fee"), (hour, name)
        teams = {each["id"]: cents(each["price"]) for each in paas["teams"]}
        assert {key: fee for key, fee in teams.items() if fee} == by(billed, "vcName", "fee")
        assert await jobs_of(api, hour, teams) == by(billed, "jobId", "fee"), hour
    whole = Period(start=found.start, end=found.until)
    bounds = f"startTime={_seconds(whole.start)}&endTime={_seconds(whole.end)}&per_page=100"
    listed = (await got(api, f"/v1/billing/usage?{bounds}"))["data"]["usage"]
    prices_of = [cents(each["paasUsage"]["price"]) for each in listed]
    assert sum(prices_of) == -total(await ledger(api, whole), "amount")


async def jobs_of(api: Api, hour: Period, teams: Iterable[str]) -> dict[str, Fraction]:
    """What each job cost in an hour, of every team in turn."""
    sums: dict[str, Fraction] = defaultdict(Fraction)
    for team in teams:
        for kind in ("job", "service"):
            target = f"/v1/billing/usage/{_seconds(hour.start)}?teamId={team}&resourceType={kind}"
            shown = (await got(api, target))["data"]["paasUsage"]["teams"]
            for project in (each for one in shown for each in one["projects"]):
                for type_ in project["resourceTypes"]:
                    assert sum(cents(each["price"]) for each in type_["resources"]) == cents(
                        type_["price"]
                    )
                    for each in type_["resources"]:
                        sums[each["id"]] += cents(each["price"])
    return {job: fee for job, fee in sums.items() if fee}


def cents(price: dict[str, Any], name: str = "total") -> Fraction:
    """A price of the Hourly API in units of the currency."""
    return Fraction(price[name]) / 100


def _seconds(instant: datetime) -> int:
    return int(instant.timestamp())


async def test_cost_and_usages_report_the_same_hours(api: Api, pipeline: Pipeline) -> None:
    """Of processors, memory and storage, by project, namespace and cluster, day by day."""
    found = await world(pipeline)
    for item, type_, unit in (("Cpu", "cpu", 1000), ("Memory", "mem", 1024),
                              ("Storage", "storage", 1024)):  # fmt: skip
        for start in sorted({_day(found.start), _day(found.month_end), _day(utc_now())}):
            bounds = f"startTime={text(start)}&endTime={text(start + DAY)}&type={type_}"
            usages = await got(api, f"/api/admin/v1/usages?{bounds}")
            assert by(usages, "jobId", "usage") == by(
                await got(api, f"/api/Usages?{bounds}"), "jobId", "usage"
            )
            for kind, name in (("project", "project"), ("cluster", "cluster"),
                               ("namespace", "namespace")):  # fmt: skip
                costs = await got(
                    api,
                    "/platform/cost.alauda.io/v1beta1/costs/usage"
                    f"?start={start:%Y-%m-%d}&end={start:%Y-%m-%d}&step=day&kind={kind}_all"
                    f"&item={item}&pageSize=500",
                )
                wanted = {key: value / unit for key, value in by(usages, name, "usage").items()}
                assert by(costs["items"], name, "usage") == wanted, (item, start, kind)


async def test_a_line_is_the_hour_of_a_bill(api: Api, pipeline: Pipeline) -> None:
    """Also of thirds and awkward prices: the printed units and amount are usage and fee."""
    end = last_month().end
    for key, price in (("cpu", "0.0137"), ("mem", "0.00071"), ("gpu:NVIDIA H200", "2.99")):
        pipeline.ratio(key, price)
    site = Site(pipeline=pipeline)
    uses: list[Use] = []
    for number in range(7):
        start = end - 3 * HOUR + number * 7 * MINUTE
        run = site.run(Job(job_id=f"job-{number}", start=start))
        stop = end + (number - 5) * 11 * MINUTE
        uses += [
            site.use(run, start, stop, 333 + number),
            site.use(run, start, stop, 777_777 * (number + 1), "mem"),
            site.use(run, start, stop, 3 * DEVICE // 7, "gpu", model="NVIDIA H200"),
        ]
    await pipeline.bill(*uses)
    pipeline.database.execute("INSERT INTO seal VALUES (%s, now())", (end + HOUR,))
    period = Period(start=end - 3 * HOUR, end=end + HOUR)
    hourly = await bills(api, period, "&granularity=hour")
    lines = await ledger(api, period)
    assert sorted((each["jobId"], each["usage"], each["fee"]) for each in hourly) == sorted(
        (each["notes"], each["units"], -each["amount"]) for each in lines
    )
    exact: dict[tuple[str, str], float] = defaultdict(float)
    for each in hourly:
        exact[each["jobId"], each["startTime"][:13]] += each["fee"]
    for pod in await pods(api, period):
        fee = exact[pod["podId"], pod["time"][:13]]
        assert abs(pod["amount"] - fee) <= 2 * math.ulp(fee), pod
