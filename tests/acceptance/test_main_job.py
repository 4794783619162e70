"""A job runs, is metered, rated and billed: the claims of the main job, seen from outside.

One timeline serves all claims, since each needs minutes to pass: the `day` fixture plays
it once, and the tests look at what it recorded.
"""

import os
import threading
import time
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import psycopg
import pytest

from tests.acceptance.product import TICK_SECONDS, Item, Job, Product, until

BURN_SECONDS = 75.0  # at least
MS_PER_HOUR = 3_600_000
UNPRICED_METRIC = "nodemeter_aggregator_unpriced_items 1.0"

pytestmark = pytest.mark.timeout(900)


def working_set_kib(job: str) -> int | None:
    """The working set of a job's cgroup, or None where it has none."""
    for root in (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")):
        for folder in (root / "nodemeter").glob(f"{job}-*"):
            now, inactive = "memory.current", "inactive_file"
            if not (folder / now).exists():
                now, inactive = "memory.usage_in_bytes", "total_inactive_file"
            stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            return max(int((folder / now).read_text()) - int(stat[inactive]), 0) // 1024
    return None


class MemoryWatch(threading.Thread):
    """Integrates what `probe` reads once a second (KiB x s)."""

    def __init__(self, probe: Callable[[], int | None]) -> None:
        super().__init__(daemon=True)
        self._probe = probe
        self._ended = threading.Event()
        self._readings: list[tuple[float, int]] = []

    def run(self) -> None:
        while not self._ended.wait(1.0):
            try:
                value = self._probe()
            except OSError:
                continue
            if value is not None:
                self._readings.append((time.monotonic(), value))

    def integral(self, wall_seconds: float) -> float:
        """Over the whole life of the job: the uncovered ends hold the mean. 0 = no reading."""
        self._ended.set()
        self.join()
        if len(self._readings) < 2:
            return 0.0
        inner = sum(
            (later - earlier) * (first + second) / 2
            for (earlier, first), (later, second) in pairwise(self._readings)
        )
        covered = self._readings[-1][0] - self._readings[0][0]
        return inner * wall_seconds / covered


def wait_out(job: Job, priced_at: datetime) -> None:
    """Let the job live for long enough, some of it at the price that is in force from then on."""
    lived = time.monotonic() - job.started
    until_priced = (priced_at - datetime.now(UTC)).total_seconds()  # noqa: TID251 the real clock
    threading.Event().wait(max(BURN_SECONDS - lived, until_priced + 5))


def wait_for_next_minute() -> None:
    """Return a moment after the next whole minute: changes are in force then."""
    threading.Event().wait(60.5 - datetime.now(UTC).second % 60)  # noqa: TID251 the real clock


def is_stopped(product: Product, job: str) -> bool:
    items = product.items("Usages", job)
    return bool(items) and not any(item["isRunning"] for item in items)


def running_item(product: Product, job: str) -> Item | None:
    return next(
        (each for each in product.items("Usages", job, type="cpu") if each["isRunning"]), None
    )


@dataclass(frozen=True, kw_only=True)
class Day:
    """What the timeline recorded."""

    product: Product
    burn: Job
    short: Job
    while_running: Item
    seconds_until_stopped: float
    doubled_at: datetime
    memory_kib_seconds: float
    unpriced_before: str | None
    unpriced_after: str | None
    fee_before_delete: object


@pytest.fixture(scope="module")
def day(make_run: Product) -> Day:
    """A long job with a price change in its middle, a short one beside it, an unpriced one."""
    product = make_run
    product.cli("ratios", "set", "cpu", "10")
    product.cli("ratios", "set", "mem", "0")
    as_root = os.geteuid() == 0
    flags = ["--vc", "research", "--cpu", "500m", "--mem", "256Mi"]
    flags += ["--user", "alice", "--enforce"] if as_root else []
    told = product.state_dir / "burn-ends"
    burn = product.burn("burn", *flags, seconds=600, mebibytes=64, told=told)
    watch = MemoryWatch(lambda: working_set_kib("burn"))
    watch.start()
    seen = until("burn to be shown as running", lambda: running_item(product, "burn"), seconds=75)
    short = product.burn("short", "--cpu", "2", seconds=3).wait(30)
    product.cli("ratios", "set", "cpu", "20")
    doubled_at = datetime.fromisoformat(
        str(product.cli_json("ratios", "history", "cpu")[0]["startsAt"])
    )
    wait_out(burn, doubled_at)
    told.touch()
    burn.wait(60)
    ended = time.monotonic()
    memory = watch.integral(burn.wall_seconds)
    until("burn to be shown as stopped", lambda: is_stopped(product, "burn"), seconds=75)
    stopped_after = time.monotonic() - ended
    _, headers, _ = product.get("/api/Bills")
    unpriced_before = headers["X-Unpriced-Items"]
    before_delete = product.items("Bills", "burn", type="cpu")[0]["fee"]
    product.cli("ratios", "delete", "cpu")
    wait_for_next_minute()
    product.launch("unpriced", "--cpu", "1", command=["sleep", "1"]).wait(30)
    until("unpriced to be stopped", lambda: is_stopped(product, "unpriced"), seconds=75)
    _, headers, _ = product.get("/api/Bills")
    return Day(
        product=product,
        burn=burn,
        short=short,
        while_running=seen,
        seconds_until_stopped=stopped_after,
        doubled_at=doubled_at,
        memory_kib_seconds=memory,
        unpriced_before=unpriced_before,
        unpriced_after=headers["X-Unpriced-Items"],
        fee_before_delete=before_delete,
    )


def only(items: list[Item]) -> Item:
    assert len(items) == 1, items
    return items[0]


def seconds_of(item: Item) -> float:
    start, end = (datetime.fromisoformat(str(item[key])) for key in ("startTime", "endTime"))
    return (end - start).total_seconds()


def test_a_running_job_is_one_item_with_its_quota(day: Day) -> None:
    """Quota, owner and virtual cluster are the declared ones while the job runs."""
    assert day.while_running["quota"] == 500
    assert day.while_running["vcName"] == "research"
    assert day.while_running["type"] == "cpu"


def test_an_ended_job_is_shown_as_stopped_within_75_seconds(day: Day) -> None:
    """In fact within seconds: the end is an event."""
    assert day.seconds_until_stopped < 75


def test_the_duration_is_that_from_fork_to_wait(day: Day) -> None:
    """No shorter than the job knows of itself, no longer than its caller waited for it."""
    for job, name in ((day.burn, "burn"), (day.short, "short")):
        item = only(day.product.items("Usages", name, type="cpu"))
        lived = seconds_of(item)
        assert job.said["lived_seconds"] - TICK_SECONDS <= lived <= job.wall_seconds


def test_used_cpu_is_the_kernels_own_count(day: Day) -> None:
    """Within 1 % of the counter of the job's cgroup, or of its rusage where it has none."""
    item = only(detail(day.product, "burn", "cpu"))
    used_seconds = float(str(item["used"])) * 3600 / 1000
    assert used_seconds == pytest.approx(day.burn.said["cpu_usec"] / 1e6, rel=0.01)


def test_used_memory_is_the_integral_of_the_working_set(day: Day) -> None:
    """Within 2 % of the integral of a reading a second."""
    if not day.memory_kib_seconds:
        assert os.geteuid() != 0, "root has memory cgroups"
        return
    item = only(detail(day.product, "burn", "mem"))
    used = float(str(item["used"])) * 3600 * 1024
    assert used == pytest.approx(day.memory_kib_seconds, rel=0.02)


def detail(product: Product, job: str, type_: str) -> list[Item]:
    rows = product.cli_json("usages", "--detail", "--type", type_)
    return [row for row in rows if row["jobName"] == job]


def test_the_short_job_is_billed_for_its_true_duration(day: Day) -> None:
    """3 s at 2 cores between two samples of 10 s: allocation needs no sample."""
    item = only(day.product.items("Usages", "short", type="cpu"))
    assert item["usage"] == pytest.approx(2000 * seconds_of(item) / 3600, rel=1e-9)


def test_the_price_change_splits_the_fee_at_its_minute_exactly(day: Day) -> None:
    """Every unit of before at 10, every unit from then on at 20; together the fee."""
    item = only(day.product.items("Bills", "burn", type="cpu"))
    billed = {10: 0, 20: 0}
    for value, quantity, started_at, ended_at in charges(day.product, str(item["id"])):
        assert value in billed
        assert ended_at <= day.doubled_at if value == 10 else started_at >= day.doubled_at
        billed[int(value)] += int(quantity)
    assert all(billed.values())
    exact = sum(value * quantity for value, quantity in billed.items())
    assert item["fee"] == exact / MS_PER_HOUR
    assert item["usage"] == sum(billed.values()) / MS_PER_HOUR


def charges(product: Product, bill_id: str) -> list[tuple[Decimal, Decimal, datetime, datetime]]:
    """The ledger's own rows of an item: ratio, billed (base unit x ms), start, end."""
    config = tomllib.loads((product.state_dir / "aggregator.toml").read_text())
    with psycopg.connect(config["database"]["owner_url"]) as connection:
        return connection.execute(
            "SELECT value, billed, charge.started_at, charge.ended_at"
            " FROM charge JOIN ratio USING (ratio_id) WHERE bill_id = %s",
            [bill_id],
        ).fetchall()


def test_memory_at_price_zero_costs_zero_and_is_not_unpriced(day: Day) -> None:
    """A ratio of 0 is a price."""
    item = only(day.product.items("Bills", "burn", type="mem"))
    assert item["fee"] == 0
    assert item["usage"] != 0
    assert day.unpriced_before == "0"


def test_deleting_a_ratio_keeps_past_fees_and_marks_later_usage(day: Day) -> None:
    """Header, metric and `ratios check` name what has no price; nothing is silently zero."""
    burn = only(day.product.items("Bills", "burn", type="cpu"))
    assert burn["fee"] == day.fee_before_delete != 0
    unpriced = only(day.product.items("Bills", "unpriced", type="cpu"))
    assert unpriced["fee"] == 0
    assert unpriced["usage"] != 0
    assert day.unpriced_after == "1"
    assert "cpu" in day.product.cli("ratios", "check")
    until("the metric", lambda: UNPRICED_METRIC in day.product.get_text("/metrics"), seconds=90)
