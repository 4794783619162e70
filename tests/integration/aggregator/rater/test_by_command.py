"""Closing a month and correcting one, as an administrator does: by command, over HTTP."""

import asyncio
import shlex
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest_asyncio

from aggregator.rater import Rater
from aggregator.settings import RaterSettings
from tests.integration.aggregator.api.client import Api, served
from tests.integration.aggregator.api.test_admin_command import nodemeter, refused, run, url
from tests.integration.aggregator.rater.pipeline import Pipeline
from tests.integration.aggregator.rater.test_periods import last_month
from tests.integration.aggregator.rater.test_rerate import reprice

HOUR = timedelta(hours=1)


@pytest_asyncio.fixture
async def api(pipeline: Pipeline) -> AsyncIterator[Api]:
    """The application beside a rater, on what the pipeline writes."""
    rater = Rater(pipeline.pool, RaterSettings(interval_seconds=0.05), pipeline.metrics)
    async with served(pipeline.api_pool) as api:
        task = asyncio.create_task(rater.run())
        try:
            yield api
        finally:
            task.cancel()
            await asyncio.wait([task])


async def test_a_month_is_closed_and_corrected_by_command(pipeline: Pipeline, api: Api) -> None:
    """Listed, shown, closed, verified; then previewed, rated again, and shown as adjustments."""
    month = last_month()
    name, start = f"{month.start:%Y-%m}", month.end - 2 * HOUR
    pipeline.ratio("cpu", "1")
    await pipeline.send(pipeline.use(start, month.end, 3))
    await nodemeter(api, "periods", "close", name, "--reason", "invoices")
    listed = (await nodemeter(api, "periods", "list", "--output", "json")).json
    closed = next(each for each in listed if each["period"] == name)
    assert (closed["state"], closed["reason"], closed["charges"]) == ("closed", "invoices", 2)
    shown = (await nodemeter(api, "periods", "show", name, "--verify")).out
    assert closed["digest"] in shown
    (bill,) = (await nodemeter(api, "bills", "--period", name, "--output", "json")).json
    assert (bill["usage"], bill["fee"], bill["isRunning"]) == (6, 6, True)
    reprice(pipeline, "cpu", "4", start, month.end)
    span = ["--from", f"{start:%Y-%m-%dT%H:%MZ}", "--to", f"{month.end:%Y-%m-%dT%H:%MZ}"]
    (trial,) = (await nodemeter(api, "rerate", *span, "--dry-run", "--output", "json")).json
    assert (trial["before"], trial["after"], trial["difference"]) == (6, 24, 18)
    (done,) = (
        await nodemeter(api, "rerate", *span, "--reason", "contract 17", "--output", "json")
    ).json
    assert (done["percent"], done["checked"], done["lines"]) == (100, 2, 4)
    assert trial["charges"] == 2
    lines = (await nodemeter(api, "adjustments", "--used-period", name, "--output", "json")).json
    assert sum(each["fee"] for each in lines) == 18
    assert "nothing would change" in (await nodemeter(api, "rerate", *span, "--dry-run")).err
    (order,) = (await nodemeter(api, "rerates", "--output", "json")).json
    assert order == done
    assert (await nodemeter(api, "bills", "--period", name, "--output", "json")).json == [bill]
    audit = (await api.get("/api/admin/v1/audit")).json()
    done_what = [(each["subject"], each["action"], each["reason"]) for each in audit]
    assert done_what == [("rerate", "order", "contract 17"), ("period", "close", "invoices")]
    (whole,) = (await nodemeter(api, "bills", "--output", "json")).json
    assert whole["fee"] == 24


async def test_what_a_refused_close_says_is_what_prices_it(pipeline: Pipeline, api: Api) -> None:
    """Its commands, as they stand but for the price and the reason, and then it closes."""
    month = last_month()
    name = f"{month.start:%Y-%m}"
    await pipeline.send(
        pipeline.use(month.end - 2 * HOUR, month.end, 3),
        pipeline.use(month.end - HOUR, month.end, 126_000, type_="gpu", model="H 200"),
    )
    said = await refused(api, "periods", "close", name)
    assert f"{name} has usage without a price" in said
    assert "cpu: 6 m-hours of 1 item, from" in said
    commands = [line.split("nodemeter ")[1] for line in said.splitlines() if "  nodemeter " in line]
    for line in commands:
        await nodemeter(api, *shlex.split(line.replace("PRICE", "2").replace("WHY", "forgotten")))
    (closed,) = (await nodemeter(api, "periods", "close", name, "--output", "json")).json
    assert (closed["state"], closed["charges"]) == ("closed", 3)
    bills = (await nodemeter(api, "bills", "--period", name, "--output", "json")).json
    assert {each["type"]: each["fee"] for each in bills} == {"cpu": 12, "gpu": 2}
    start = f"{month.end - HOUR:%Y-%m-%dT%H:%MZ}"
    late = await refused(api, "ratios", "set", "cpu", "3", "--from", start, "--retroactive")
    assert "lies in a closed period" in late


async def test_what_a_closed_month_left_without_a_price_gets_one_in_the_open(
    pipeline: Pipeline, api: Api
) -> None:
    """Told late, or left so: `ratios check` says how, and the closed month stays as it is."""
    month = last_month()
    name, start = f"{month.start:%Y-%m}", month.end - 2 * HOUR
    await pipeline.send(pipeline.use(start, month.end, 3, type_="mem"))
    await nodemeter(api, "periods", "close", name, "--with-unpriced")
    await pipeline.send(pipeline.use(start, month.end, 126_000, type_="gpu", model="H 200"))
    closed = (await nodemeter(api, "bills", "--period", name, "--output", "json")).json
    found = (await nodemeter(api, "ratios", "check", "--output", "json")).json
    told = {each["subject"].partition("@")[0]: each["detail"] for each in found}
    for each in told.values():
        assert "which books what is of a closed month into the open one" in each
    assert "`nodemeter ratios set 'gpu:H 200' PRICE --from TIME --retroactive`" in told["gpu:H 200"]
    span = ["--from", f"{start:%Y-%m-%dT%H:%MZ}", "--to", f"{month.end:%Y-%m-%dT%H:%MZ}"]
    for key in ("gpu:H 200", "mem"):
        await nodemeter(api, "ratios", "set", key, "2", *span[:2], "--retroactive")
        await nodemeter(api, "rerate", *span, "--key", key, "--reason", "was forgotten")
    assert (await nodemeter(api, "bills", "--period", name, "--output", "json")).json == closed
    lines = (await nodemeter(api, "adjustments", "--used-period", name, "--output", "json")).json
    assert {each["period"] for each in lines} != {name}
    whole = (await nodemeter(api, "bills", "--output", "json")).json
    assert {each["type"]: each["fee"] for each in whole} == {"gpu": 4, "mem": 3 * 2 * 2 / 1024}
    assert (await nodemeter(api, "ratios", "check", "--output", "json")).json == []
    assert "verified" in (await nodemeter(api, "periods", "show", name, "--verify")).err


async def test_what_is_wrong_is_told_and_nothing_applied(pipeline: Pipeline, api: Api) -> None:
    """Each with the option that is at fault, status 2."""
    name = f"{last_month().start:%Y-%m}"
    span = ["--from", f"{name}-01T00:00Z", "--to", f"{name}-02T00:00Z"]
    assert "--reason is required" in await refused(api, "rerate", *span)
    off = ["--from", f"{name}-01T00:30Z", "--to", f"{name}-02T00:00Z"]
    assert "--from must be a whole hour" in " ".join(
        (await refused(api, "rerate", *off, "--dry-run")).replace(":", "").split()
    )
    ahead = ["--from", f"{name}-01T00:00Z", "--to", "2999-01-01T00:00Z"]
    assert "lies in the future" in await refused(api, "rerate", *ahead, "--dry-run")
    assert "is no ratio's" in await refused(api, "rerate", *span, "--key", "gpu", "--dry-run")
    assert "is not over" in await refused(api, "periods", "close", "2998-12")
    assert "must be a month" in await refused(api, "periods", "close", "2998")
    assert "--period must be a month" in await refused(api, "bills", "--period", "2998")
    for month in ("2998", f"{name[:4]}-13", "../bills"):
        assert "MONTH must be a month like" in await refused(api, "periods", "show", month)
    (ahead,) = (await nodemeter(api, "periods", "show", "2998-12", "--output", "json")).json
    assert (ahead["state"], ahead["totals"]) == ("future", [])
    assert (await nodemeter(api, "rerates", "--output", "json")).json == []
    missing = await run("--url", url(api), "rerates", "--id", "99")
    assert (missing.status, missing.out, "there is no order 99" in missing.err) == (1, "", True)


async def test_a_changed_database_is_told(pipeline: Pipeline, api: Api) -> None:
    """The digest does not lie: status 1."""
    month = last_month()
    name = f"{month.start:%Y-%m}"
    await pipeline.send(pipeline.use(month.end - HOUR, month.end, 3))
    await nodemeter(api, "periods", "close", name, "--with-unpriced")
    for table in ("charge", "adjustment"):  # its hour was sealed
        pipeline.database.execute(f"UPDATE {table} SET billed = billed + 1".encode())
    done = await run("--url", url(api), "periods", "show", name, "--verify")
    assert done.status == 1
    assert "somebody changed the database" in done.err
