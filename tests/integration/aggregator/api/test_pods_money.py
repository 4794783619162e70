"""Claims about what pods are charged: money, time and disk, as they come over the wire."""

from collections.abc import Sequence
from datetime import date, timedelta
from decimal import Decimal
from typing import Any, TypeAlias
from uuid import UUID

import pytest

from aggregator.store.pool import Pool
from tests.integration.aggregator.api.client import Api, served
from tests.integration.aggregator.api.pods_rows import HOUR, Charges
from tests.integration.aggregator.rows import NOON, Rows

Json: TypeAlias = dict[str, Any]
FEBRUARY = "startTime=2026-02-01T00:00:00Z&endTime=2026-03-01T00:00:00Z"
BY_POD = f"{FEBRUARY}&grouping=podId"
BY_HOUR = "bucketSize=hour&startTime=2026-02-06T00:00:00Z&endTime=2026-02-08T00:00:00Z"
DAY = timedelta(days=1)


@pytest.fixture
def charges(rows: Rows) -> Charges:
    """Charges on the test's own database."""
    return Charges(rows)


async def records(api: Api, query: str, path: str = "pods") -> Sequence[Json]:
    """The records of an answer."""
    answer = await api.get(f"/v1/billing/{path}?{query}")
    assert answer.status == 200, answer.text
    found: Sequence[Json] = answer.json()
    return found


async def amounts(api: Api, query: str) -> dict[str, float]:
    """Amount by model, of an answer with one bucket."""
    found = {each["gpuTypeId"]: each["amount"] for each in await records(api, query)}
    assert len(found) == len(await records(api, query))
    return found


async def times(api: Api, query: str) -> Sequence[int]:
    """The times that are billed."""
    return [each["timeBilledMs"] for each in await records(api, query)]


async def test_a_pod_with_several_models_is_split_by_what_it_held_of_each(
    api: Api, charges: Charges
) -> None:
    """8 : 6 : 4 of 1000, its cpu's part included, devices and npus alike, by the hour too."""
    a = charges.item("job", model="A", quota=8)
    for item in (a, charges.item("job", "npu", model="B", quota=6)):
        charges.charge(item, 100)
    charges.charge(charges.item("job", model="C", quota=4))
    charges.charge(charges.item("job", "cpu", quota=1000), 800)
    charges.charge(charges.item("other", model="A"), 1)
    charges.roll_up()
    expected = {"A": 445.44444444444446, "B": 333.3333333333333, "C": 222.22222222222223}
    for query in (FEBRUARY, f"{FEBRUARY}&bucketSize=year", BY_HOUR):
        assert await amounts(api, query) == expected
    assert await amounts(api, f"{FEBRUARY}&gpuTypeId=B") == {"B": 333.3333333333333}
    found = await records(api, f"{BY_POD}&gpuTypeId=B")
    assert [(each["podId"], each["amount"]) for each in found] == [("job", 1000)]


async def test_the_parts_of_an_hour_without_devices_follow_what_was_held_before(
    api: Api, charges: Charges
) -> None:
    """What is booked without time, or after the devices are gone; evenly where none was held."""
    a, b = charges.item("job", model="A", quota=3), charges.item("job", model="B", quota=1)
    disk = charges.item("job", "storage", quota=954)
    charges.charge(a, 3)
    charges.charge(b, 1)
    charges.charge(disk, 8, at=NOON + DAY)
    charges.adjust(disk, -4, at=NOON + 2 * DAY)
    for model in ("X", "Y"):
        charges.adjust(charges.item("late", model=model), 1, at=NOON + 3 * DAY)
    charges.charge(charges.item("late", model="Z"), 5, at=NOON + 4 * DAY)
    charges.roll_up()
    found = [(each["gpuTypeId"], each["amount"]) for each in await records(api, FEBRUARY)]
    assert found == [
        ("A", 3), ("B", 1), ("A", 6), ("B", 2), ("A", -3), ("B", -1), ("X", 1), ("Y", 1), ("Z", 5),
    ]  # fmt: skip


async def test_what_a_pod_holds_later_changes_nothing_before(api: Api, charges: Charges) -> None:
    """A day on which no device of it was known is of no model, and stays so."""
    cpu = charges.item("job", "cpu")
    for day in (0, 1, 2):
        charges.charge(cpu, 1, at=NOON + day * DAY)
    charges.roll_up()
    assert await records(api, FEBRUARY) == []
    charges.charge(charges.item("job", model="A"), 10, at=NOON + DAY + 5 * HOUR)
    charges.roll_up()
    found = [(each["time"][:10], each["amount"]) for each in await records(api, FEBRUARY)]
    assert found == [("2026-02-07", 11), ("2026-02-08", 1)]
    hours = [each["time"][11:13] for each in await records(api, BY_HOUR)]
    assert hours == ["12", "17"]
    days = [each["time"][:10] for each in await records(api, f"{BY_POD}&gpuTypeId=A")]
    assert days == ["2026-02-07", "2026-02-08"]


async def test_a_job_that_is_not_told_apart_by_its_id_is_one_pod(
    api: Api, charges: Charges
) -> None:
    """Of two clusters: one record by pod, and neither takes the other's devices."""
    charges.charge(charges.item("job", model="A"), 1)
    charges.charge(charges.item("job", "cpu", cluster="c2"), 2)
    charges.roll_up()
    assert [each["amount"] for each in await records(api, BY_POD)] == [3]
    assert await amounts(api, FEBRUARY) == {"A": 1}


@pytest.mark.parametrize("other", [{"vc": "b"}, {"namespace": "b"}, {"user_id": UUID(int=2)}])
async def test_jobs_of_one_id_of_different_people_share_no_device(
    api: Api, charges: Charges, other: dict[str, Any]
) -> None:
    """What one has no device for is not charged to the model that the other one holds."""
    charges.charge(charges.item("job", model="A"), 1)
    charges.charge(charges.item("job", "cpu", **other), 2)
    charges.charge(charges.item("mine", "cpu", **other), 4)
    charges.charge(charges.item("mine", model="A", **other), 8)
    charges.roll_up()
    assert await amounts(api, FEBRUARY) == {"A": 13}
    assert await amounts(api, BY_HOUR) == {"A": 13}


async def test_what_is_booked_late_counts_when_it_is_booked(api: Api, charges: Charges) -> None:
    """With the time of its usage, and with the dimensions of the original."""
    gpu = charges.item("job", model="A", quota=2)
    charges.charge(gpu, 5)
    charges.adjust(gpu, "0.1", at=NOON, ms=600_000)
    charges.adjust(gpu, "-0.3", at=NOON + HOUR)
    charges.roll_up()
    found = [(each["amount"], each["timeBilledMs"]) for each in await records(api, BY_HOUR)]
    assert found == [(5.1, 4_200_000), (-0.3, 0)]
    assert [each["amount"] for each in await records(api, FEBRUARY)] == [4.8]
    january = "startTime=2026-01-01T00:00:00Z&endTime=2026-02-01T00:00:00Z"
    assert await records(api, f"{january}&grouping=podId") == []


async def test_time_is_the_runs_not_times_its_devices(api: Api, charges: Charges) -> None:
    """Of its cpu; runs on several nodes add up, quotas that follow each other are one time."""
    gpu = charges.item("job", model="A", quota=4)
    run_id = charges.run_of(gpu)
    small = charges.item("job", "cpu", quota=3000, run_id=run_id)
    large = charges.item("job", "cpu", quota=6000, run_id=run_id)
    charges.charge(gpu, ms=1_000_000)
    charges.charge(small, ms=1_800_000)
    charges.charge(large, ms=1_200_000)
    charges.charge(charges.item("job", "cpu", quota=1000, node="10.0.0.8"), ms=500_000)
    charges.roll_up()
    for bucket in ("hour", "day", "month"):
        query = BY_HOUR.replace("bucketSize=hour", f"bucketSize={bucket}")
        assert await times(api, f"{query}&grouping=podId") == [3_500_000]
        assert await times(api, query) == [1_000_000]


@pytest.mark.parametrize(
    ("types", "ms"),
    [
        (("storage", "npu", "gpu", "mem", "cpu"), 5),
        (("storage", "npu", "gpu", "mem"), 4),
        (("storage", "npu", "gpu"), 3),
        (("storage", "npu"), 2),
        (("storage",), 1),
    ],
)
async def test_a_run_without_cpu_has_the_time_of_what_it_has(
    api: Api, charges: Charges, types: Sequence[str], ms: int
) -> None:
    """Of memory, then of devices, then of storage; also where its quota is 0."""
    run_id = charges.rows.run("job")
    for number, type_ in enumerate(types):
        item = charges.item("job", type_, quota=number % 2, run_id=run_id)
        charges.charge(item, ms=number + 1)
    charges.roll_up()
    assert await times(api, BY_POD) == [ms]


async def test_disk_is_the_most_that_was_held(api: Api, charges: Charges) -> None:
    """The larger of quota and peak, of nodes together, rounded up to 10^9 bytes once."""
    disk = charges.item("job", "storage", quota=954, node="n1")
    run_id = charges.run_of(disk)
    charges.charge(disk, peak=1)
    charges.charge(disk, at=NOON + DAY, peak=5_000_000)
    later = charges.item("job", "storage", quota=1908, node="n1", run_id=run_id)
    charges.charge(later, at=NOON + HOUR)
    charges.charge(charges.item("job", "storage", quota=1, node="n2", run_id=run_id))
    charges.charge(charges.item("job", model="A", run_id=run_id))
    charges.charge(charges.item("job", "cpu"), at=NOON + 2 * DAY)
    charges.adjust(disk, 1, at=NOON + 3 * DAY)
    charges.roll_up()

    async def disks(query: str, path: str = "pods") -> Sequence[int]:
        return [each["diskSpaceBilledGb"] for each in await records(api, query, path)]

    assert await disks(BY_POD) == [3, 6, 0, 0]
    assert await disks(FEBRUARY) == [3, 6, 0, 0]
    assert await disks(f"{FEBRUARY}&bucketSize=month") == [6]
    assert await disks(BY_HOUR + "&grouping=podId") == [2, 3, 6]
    assert await disks(f"{FEBRUARY}&bucketSize=week", "networkvolumes") == [6, 0]


async def test_amounts_are_dollars_by_the_rate_of_the_day(
    pool: Pool, charges: Charges, rows: Rows
) -> None:
    """Each day by its own, whatever the bucket; also what is split."""
    rate(rows, "1.1", date(2026, 2, 6), date(2026, 2, 7))
    rate(rows, "1.3", date(2026, 2, 7), None)
    a, b = charges.item("job", model="A"), charges.item("job", model="B", quota=2)
    disk = charges.item("job", "storage", quota=1)
    for day in (0, 1):
        for item in (a, b, disk):
            charges.charge(item, 10, at=NOON + day * DAY)
    charges.roll_up()
    async with served(pool, currency="EUR") as euro:
        by_day = [each["amount"] for each in await records(euro, BY_POD)]
        assert by_day == [33, 39]
        for bucket in ("week", "month", "year"):
            assert await amounts(euro, f"{FEBRUARY}&bucketSize={bucket}") == {"A": 24, "B": 48}
        found = [each["amount"] for each in await records(euro, FEBRUARY, "networkvolumes")]
        assert found == [11, 13]
        assert [each["amount"] for each in await records(euro, BY_HOUR)] == [11, 22, 13, 26]


def rate(rows: Rows, value: str, starts_on: date, ends_on: date | None) -> None:
    """What a euro is in dollars from a day on."""
    rows.connection.execute(
        """
        INSERT INTO currency_rate (base, currency, rate, starts_on, ends_on, created_at, created_by)
        VALUES ('EUR', 'USD', %s, %s, %s, now(), 'test')
        """,
        (Decimal(value), starts_on, ends_on),
    )


async def test_a_day_without_a_rate_is_an_error_that_says_what_to_do(
    pool: Pool, charges: Charges, rows: Rows
) -> None:
    """503, wherever in the range it lies; a day without money needs none."""
    rate(rows, "1.1", date(2026, 2, 6), date(2026, 2, 8))
    gpu = charges.item("job", model="A")
    charges.charge(gpu, 10)
    charges.charge(gpu, 0, at=NOON + 3 * DAY)
    charges.roll_up()
    async with served(pool, currency="EUR") as euro:
        assert [each["amount"] for each in await records(euro, FEBRUARY)] == [11, 0]
        charges.charge(gpu, 10, at=NOON + 2 * DAY)
        charges.roll_up()
        for query in (FEBRUARY, BY_POD, f"{FEBRUARY}&bucketSize=year"):
            answer = await euro.get(f"/v1/billing/pods?{query}")
            assert (answer.status, answer.json()) == (503, {
                "message": "there is no rate from EUR to USD for 2026-02-08: set one with "
                "`nodemeter currencies set USD RATE --from 2026-02-08`"
            })  # fmt: skip
