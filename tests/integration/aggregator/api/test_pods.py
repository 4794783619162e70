"""Claims about the Pods API, on what comes over the wire."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import pytest

from tests.integration.aggregator.api.client import Api
from tests.integration.aggregator.api.pods_rows import Charges
from tests.integration.aggregator.rows import Rows

Json: TypeAlias = dict[str, Any]
PODS = "/v1/billing/pods"
FEBRUARY = "startTime=2026-02-01T00:00:00Z&endTime=2026-03-01T00:00:00Z"
H200 = "NVIDIA H200"
T4 = "Tesla T4"


@pytest.fixture
def charges(rows: Rows) -> Charges:
    """Charges on the test's own database."""
    return Charges(rows)


async def get(api: Api, query: str = "", path: str = PODS, **headers: str) -> Sequence[Json]:
    """The records of an answer."""
    answer = await api.get(f"{path}?{query}", **headers)
    assert answer.status == 200, answer.text
    found: Sequence[Json] = answer.json()
    return found


def amounts(records: Sequence[Json], name: str) -> dict[tuple[str, str], float]:
    """Amount by time and id."""
    return {(each["time"], each[name]): each["amount"] for each in records}


async def test_a_pods_record_in_bytes(api: Api, charges: Charges) -> None:
    """The keys of the original in its order, whole numbers without a point."""
    gpu = charges.item("job-1", model=H200, quota=8)
    cpu = charges.item("job-1", "cpu", quota=4000, run_id=charges.run_of(gpu))
    disk = charges.item("job-1", "storage", quota=47_000, run_id=charges.run_of(gpu))
    charges.charge(gpu, "100")
    charges.charge(cpu, "0.5")
    charges.charge(disk)
    charges.roll_up()
    answer = await api.get(f"{PODS}?{FEBRUARY}")
    assert answer.body == (
        b'[{"amount":100.5,"diskSpaceBilledGb":50,"gpuTypeId":"NVIDIA H200",'
        b'"time":"2026-02-06T00:00:00Z","timeBilledMs":3600000}]'
    )
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    answer = await api.get(f"{PODS}?{FEBRUARY}&grouping=podId&bucketSize=hour")
    assert answer.body == (
        b'[{"amount":100.5,"diskSpaceBilledGb":50,"podId":"job-1",'
        b'"time":"2026-02-06T12:00:00Z","timeBilledMs":3600000}]'
    )


async def test_errors_are_messages(api: Api) -> None:
    """And nothing else."""
    answer = await api.get(f"{PODS}?bucketSize=minute")
    assert (answer.status, list(answer.json())) == (400, ["message"])
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
