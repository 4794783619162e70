"""What is billed of a usage: by the method of its time, and by any other where that is asked."""

from datetime import datetime, timedelta

import pytest

from tests.integration.aggregator.api.client import Api
from tests.integration.aggregator.api.test_admin_command import nodemeter, refused
from tests.integration.aggregator.rater.pipeline import Pipeline, midnight

HOUR = timedelta(hours=1)
LISTS = ("/api/Bills", "/api/Usages", "/api/admin/v1/usages")
DETAILS = LISTS[2]


def change_method(pipeline: Pipeline, type_: str, method: str, at: datetime) -> None:
    """As `nodemeter methods set` would have, had it been said before that instant."""
    pipeline.database.execute("UPDATE method SET ends_at = %s WHERE type = %s", (at, type_))
    pipeline.database.execute(
        "INSERT INTO method (type, method, starts_at, created_at, created_by)"
        " VALUES (%s, %s, %s, now(), 'test')",
        (type_, method, at),
    )


async def test_each_record_is_billed_by_the_method_of_its_time(
    api: Api, pipeline: Pipeline
) -> None:
    """From the wire to the bill: effective, then request, then usage, in one hour."""
    start = midnight()
    pipeline.ratio("cpu", "10")
    change_method(pipeline, "cpu", "request", start + HOUR / 3)
    pipeline.database.execute(
        "UPDATE method SET ends_at = %s WHERE method = 'request'", (start + HOUR * 2 / 3,)
    )
    pipeline.database.execute(
        "INSERT INTO method (type, method, starts_at, created_at, created_by)"
        " VALUES ('cpu', 'usage', %s, now(), 'test')",
        (start + HOUR * 2 / 3,),
    )
    run = pipeline.spool.run(started_at=start)
    busy = pipeline.use(start, start + HOUR * 2 / 3, 6, used=12, run=run)
    await pipeline.bill(busy, pipeline.use(start + HOUR * 2 / 3, start + HOUR, 6, used=3, run=run))
    bills = (await api.get("/api/Bills")).json()
    assert sorted((bill["usage"], bill["fee"]) for bill in bills) == [(1, 10), (6, 60)]
    details = (await api.get(DETAILS)).json()
    figures = sorted(
        (each["usage"], each["allocated"], each["used"], each["effective"]) for each in details
    )
    assert figures == [(1, 2, 1, 2), (6, 4, 8, 8)]


@pytest.mark.parametrize(
    ("method", "usage", "fee"),
    [("request", 4, 8), ("usage", 5, 9), ("effective", 7, 13), (None, 7, 13)],
)
async def test_any_method_can_be_asked_for(
    api: Api, pipeline: Pipeline, method: str | None, usage: int, fee: int
) -> None:
    """Of the past, at the prices of each hour, by every list, whole, clipped and by the hour."""
    start = midnight()
    pipeline.ratio("cpu", "1", ends_at=start + HOUR)
    pipeline.ratio("cpu", "3", start + HOUR, start + 2 * HOUR)
    run = pipeline.spool.run(started_at=start)
    meter = pipeline.use(start, start + HOUR / 2, 2, used=6, run=run)
    await pipeline.send(meter)
    await pipeline.bill(
        *[
            type(meter)(meter=meter.meter, start=at, end=at + HOUR / 2, allocated=2, used=used)
            for at, used in (
                (start + HOUR / 2, 0),
                (start + HOUR, 4),
                (start + HOUR * 3 / 2, 0),
            )
        ]
    )
    asked = "" if method is None else f"method={method}&"
    span = f"startTime={start:%Y-%m-%dT%H:%M:%SZ}&endTime={start + 2 * HOUR:%Y-%m-%dT%H:%M:%SZ}"
    for more in ("", span):
        for path in LISTS:
            (item,) = (await api.get(f"{path}?{asked}{more}")).json()
            assert (item["usage"], item.get("fee", fee)) == (usage, fee), (path, more)
    hours = (await api.get(f"/api/Bills?{asked}{span}&granularity=hour")).json()
    assert (sum(each["usage"] for each in hours), sum(each["fee"] for each in hours)) == (
        usage,
        fee,
    )
    answer = await api.get(f"/api/Bills?{asked}")
    assert answer.headers["X-Unpriced-Items"] == "0"


async def test_what_has_no_price_by_another_method_is_told(api: Api, pipeline: Pipeline) -> None:
    """Nothing was reserved, so by request nothing lacks a price; by usage it does."""
    start = midnight()
    pipeline.ratio("cpu", "1", start + HOUR)
    await pipeline.bill(pipeline.use(start, start + 2 * HOUR, 0, used=4))
    for method, unpriced in (("usage", 4), ("request", 0), ("effective", 4)):
        answer = await api.get(f"{DETAILS}?method={method}")
        bills = await api.get(f"/api/Bills?method={method}")
        assert answer.json()[0]["unpriced"] == unpriced
        assert bills.headers["X-Unpriced-Items"] == str(int(unpriced > 0)), method


async def test_a_method_is_asked_for_by_command(api: Api, pipeline: Pipeline) -> None:
    """By bills and usages alike; a word that is none is refused."""
    start = midnight()
    pipeline.ratio("cpu", "2")
    await pipeline.bill(pipeline.use(start, start + HOUR, 3, used=5))
    for command, method, figures in (
        ("bills", "request", (3, 6)),
        ("bills", "usage", (5, 10)),
        ("usages", "request", (3, None)),
    ):
        words = (command, "--method", method, "--output", "json")
        (item,) = (await nodemeter(api, *words)).json
        assert (item["usage"], item.get("fee")) == figures, words
    (item,) = (
        await nodemeter(api, "usages", "--detail", "--method", "request", "--output", "json")
    ).json
    assert (item["usage"], item["effective"]) == (3, 5)
    assert "'request'" in await refused(api, "usages", "--method", "reqest")
    assert (await api.get("/api/Bills?method=mean")).status == 400
