"""Nothing of what a node has vanishes: what jobs had and what the node accounts for add up."""

from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pytest

from aggregator.billing.conservation import (
    BackwardsError,
    ConservedHour,
    UnknownNodeError,
    list_conservation,
    whole_hours,
)
from aggregator.billing.database import Database
from aggregator.model import Account
from tests.integration.aggregator.agents import Spool, Use, deliver, records_of
from tests.integration.aggregator.rater.pipeline import Pipeline, midnight

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
DEVICE = 126_000


def account(
    spool: Spool,
    kind: Account,
    start: datetime,
    amount: int,
    *,
    type_: str = "gpu",
    device: str | None = "GPU-1",
) -> Use:
    """An account that holds `amount` base units for an hour."""
    run = spool.account(kind.value, started_at=start)
    model = None if device is None else "H200"
    meter = spool.meter(run, type_, quota=amount, started_at=start, device=device, model=model)
    allocated, used = (0, amount) if device is None else (amount, 0)
    return Use(meter=meter, start=start, end=start + HOUR, allocated=allocated, used=used)


def slice_of(
    spool: Spool, sevenths: int, start: datetime, end: datetime, physical: str | None = "GPU-1"
) -> Use:
    """A job that holds some sevenths of a device."""
    run = spool.run(f"mig-{len(spool.runs)}", started_at=start)
    share = sevenths * DEVICE // 7
    device = f"MIG-{run}"
    meter = spool.meter(
        run, "gpu", quota=share, started_at=start, device=device, model="MIG", physical=physical
    )
    return Use(meter=meter, start=start, end=end, allocated=share)


async def conserved(
    pipeline: Pipeline,
    start: datetime | None = None,
    end: datetime | None = None,
    *,
    node: str = "n1",
) -> list[ConservedHour]:
    """Rate all, and give the hours of a node."""
    await pipeline.rate()
    async with list_conservation(Database(pipeline.api_pool), node, start, end) as listing:
        return list(await listing.chunk())


async def test_slices_and_what_is_idle_make_the_device(pipeline: Pipeline) -> None:
    """A device in sevenths: 4 for half an hour, 1 all the hour, 2 for 20 minutes."""
    start, spool = midnight(), pipeline.spool
    idle = account(spool, Account.IDLE, start, 0)
    uses = [
        slice_of(spool, 4, start, start + 30 * MINUTE),
        slice_of(spool, 1, start, start + HOUR),
        slice_of(spool, 2, start, start + 20 * MINUTE),
        account(spool, Account.CAPACITY, start, DEVICE),
        Use(
            meter=idle.meter, start=start + 20 * MINUTE, end=start + HOUR, allocated=DEVICE * 2 // 7
        ),
        Use(
            meter=idle.meter, start=start + 30 * MINUTE, end=start + HOUR, allocated=DEVICE * 4 // 7
        ),
    ]
    await pipeline.send(*uses)
    whole, device = await conserved(pipeline, start, start + HOUR)
    assert (whole.device, device.device, device.model) == (None, "GPU-1", "H200")
    for line in (whole, device):
        assert line.capacity == DEVICE * 3_600_000
        assert Fraction(line.jobs) / (DEVICE * 3_600_000) == Fraction(11, 21)
        assert Fraction(line.idle) / (DEVICE * 3_600_000) == Fraction(10, 21)
        assert line.difference == 0


async def test_every_account_has_its_sign(pipeline: Pipeline) -> None:
    """Half a device down, a quarter idle, half to jobs though a quarter was left."""
    start, spool = midnight(), pipeline.spool
    await pipeline.send(
        account(spool, Account.CAPACITY, start, DEVICE),
        account(spool, Account.DOWN, start, DEVICE // 2),
        account(spool, Account.UNATTRIBUTED, start, DEVICE // 8),
        account(spool, Account.IDLE, start, DEVICE // 8),
        account(spool, Account.EXCESS, start, DEVICE // 4),
        pipeline.use(start, start + HOUR, DEVICE // 2, type_="gpu", model="H200"),
    )
    whole, device = await conserved(pipeline, start, start + HOUR)
    assert whole.difference == device.difference == 0
    assert device.hours(device.down) == device.hours(device.jobs) == 0.5
    assert device.hours(device.unattributed) == 0.125
    assert device.hours(device.excess) == 0.25


async def test_what_nobody_accounts_for_is_the_difference(pipeline: Pipeline) -> None:
    """To the millisecond; too much is below zero."""
    start, spool = midnight(), pipeline.spool
    idle = account(spool, Account.IDLE, start, DEVICE)
    short = Use(
        meter=idle.meter,
        start=start,
        end=start + HOUR - timedelta(milliseconds=1),
        allocated=DEVICE,
    )
    await pipeline.send(account(spool, Account.CAPACITY, start, DEVICE), short)
    assert [line.difference for line in await conserved(pipeline, start)][:2] == [DEVICE] * 2
    await pipeline.send(
        pipeline.use(start, start + timedelta(milliseconds=3), DEVICE, type_="gpu", model="H200")
    )
    assert [line.difference for line in await conserved(pipeline, start)][:2] == [-2 * DEVICE] * 2


async def test_of_cpu_and_memory_it_is_what_was_used(pipeline: Pipeline) -> None:
    """A quota is a promise, and more can be promised than there is."""
    start, spool = midnight(), pipeline.spool
    await pipeline.send(
        account(spool, Account.CAPACITY, start, 8_000, type_="cpu", device=None),
        account(spool, Account.IDLE, start, 6_500, type_="cpu", device=None),
        account(spool, Account.UNATTRIBUTED, start, 500, type_="cpu", device=None),
        account(spool, Account.CAPACITY, start, 4_096, type_="mem", device=None),
        account(spool, Account.IDLE, start, 3_072, type_="mem", device=None),
        pipeline.use(start, start + HOUR, 16_000, used=1_000),
        pipeline.use(start, start + HOUR, 9_999, used=1_024, type_="mem"),
        pipeline.use(start, start + HOUR, 9_999, type_="storage"),
    )
    cpu, mem = await conserved(pipeline, start, start + HOUR)
    assert (cpu.type, cpu.device, mem.type, mem.device) == ("cpu", None, "mem", None)
    assert cpu.difference == mem.difference == 0
    assert [cpu.hours(each) for each in (cpu.jobs, cpu.idle, cpu.unattributed)] == [
        1_000,
        6_500,
        500,
    ]
    assert mem.hours(mem.jobs) == 1


async def test_what_a_node_does_not_account_for_is_unknown(pipeline: Pipeline) -> None:
    """Never 0: the agent may be older than its accounts."""
    start = midnight()
    await pipeline.send(pipeline.use(start, start + HOUR, DEVICE, type_="gpu", model="H200"))
    whole, device = await conserved(pipeline, start, start + HOUR)
    assert (whole.capacity, device.capacity, device.difference) == (None, None, None)
    assert device.hours(device.jobs) == 1


async def test_a_slice_without_its_device_counts_for_the_node(pipeline: Pipeline) -> None:
    """As agents of before named it: the node adds up, the device lacks what the slice has."""
    start, spool = midnight(), pipeline.spool
    await pipeline.send(
        slice_of(spool, 3, start, start + HOUR, physical=None),
        account(spool, Account.CAPACITY, start, DEVICE),
        account(spool, Account.IDLE, start, DEVICE * 4 // 7),
    )
    whole, device, slice_ = await conserved(pipeline, start, start + HOUR)
    assert [whole.difference, slice_.capacity] == [0, None]
    assert device.difference == DEVICE * 3 // 7 * 3_600_000


async def test_devices_of_a_node_are_shown_apart_and_together(pipeline: Pipeline) -> None:
    """The model of all is said where it is the same."""
    start, spool = midnight(), pipeline.spool
    uses = [
        account(spool, kind, start, DEVICE, device=device)
        for device in ("GPU-2", "GPU-1")
        for kind in (Account.CAPACITY, Account.IDLE)
    ]
    uses.append(account(spool, Account.CAPACITY, start, DEVICE, type_="npu", device="NPU-1"))
    await pipeline.send(*uses)
    lines = await conserved(pipeline, start, start + HOUR)
    found = [
        (line.type, line.device, line.model, line.capacity and line.hours(line.capacity))
        for line in lines
    ]
    assert found == [
        ("gpu", None, "H200", 2),
        ("gpu", "GPU-1", "H200", 1),
        ("gpu", "GPU-2", "H200", 1),
        ("npu", None, "H200", 1),
        ("npu", "NPU-1", "H200", 1),
    ]


async def test_hours_are_whole_and_of_this_node(pipeline: Pipeline) -> None:
    """What the range touches; what another node has is not shown."""
    start = midnight()
    other = Spool(node="n2")
    for spool, first in ((pipeline.spool, 0), (other, 3)):
        uses = [
            account(spool, Account.CAPACITY, start + number * HOUR, DEVICE)
            for number in range(first, first + 4)
        ]
        await deliver(pipeline.ingest.port, spool, [spool.batch(records_of(*uses))])
    since, until = start + 90 * MINUTE, start + 121 * MINUTE
    assert {line.hour for line in await conserved(pipeline, since, until)} == {
        start + HOUR,
        start + 2 * HOUR,
    }
    hours = {line.hour for line in await conserved(pipeline, start, since + 9 * HOUR, node="n2")}
    assert hours == {start + number * HOUR for number in range(3, 7)}


async def test_a_node_that_never_spoke_is_not_known(pipeline: Pipeline) -> None:
    """An empty answer would look like a node that accounts for nothing."""
    with pytest.raises(UnknownNodeError):
        await conserved(pipeline)
    await pipeline.send(pipeline.use(midnight(), midnight() + MINUTE, 1))
    assert await conserved(pipeline) == []


def test_a_range_is_a_day_of_settled_hours_unless_it_is_said() -> None:
    """Where it begins and where it ends, each by itself, from the first instant to the last."""
    noon = datetime(2026, 2, 6, 12, tzinfo=UTC)
    first, last = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    for start, end, expected in (
        (None, None, (noon - 24 * HOUR, noon)),
        (noon - 90 * MINUTE, None, (noon - 2 * HOUR, noon)),
        (None, noon - 30 * MINUTE, (noon - 25 * HOUR, noon - 30 * MINUTE)),
        (noon + MINUTE, None, (noon, noon + MINUTE)),
        (None, first, (first, first)),
        (first, last, (first, last)),
    ):
        period = whole_hours(start, end, noon)
        assert (period.start, period.end) == expected
    for end in (noon, noon - MINUTE):
        with pytest.raises(BackwardsError):
            whole_hours(noon, end, noon)
