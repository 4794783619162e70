"""Claims about the rules of rating, with the known answers that public material gives."""

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.model import UNPRICED, BillId, MeterId, Method, RatioId, ResourceType, bill_id
from aggregator.rating import money
from aggregator.rating.rate import (
    AccountHour,
    Bill,
    Meter,
    MethodVersion,
    RatioVersion,
    Record,
    account_hours,
    method_in_force,
    price_in_force,
    rate,
    total,
)
from aggregator.rating.ratio import parse
from aggregator.units import UNITS

MIDNIGHT = datetime(2026, 2, 6, tzinfo=UTC)
METHODS = [MethodVersion(type=kind, method=Method.EFFECTIVE) for kind in ResourceType]


def at(text: str) -> datetime:
    """An instant of the day of the tests, as `10:12:30`; hours may pass 24."""
    hours, minutes, *seconds = (float(part) for part in text.split(":"))
    return MIDNIGHT + timedelta(hours=hours, minutes=minutes, seconds=sum(seconds))


def item(number: int) -> BillId:
    """The name of the test's n-th item."""
    return bill_id(
        node="n", run_key="r", type_="cpu", model=None, group_quota=number, started_at_ms=0
    )


def meter(
    number: int = 1,
    *,
    of: int | None = None,
    kind: ResourceType = ResourceType.CPU,
    model: str | None = None,
    vc: str = "default",
) -> Meter:
    """The test's n-th meter, of its own item unless told."""
    return Meter(
        meter_id=MeterId(number),
        bill_id=item(of or number),
        type=kind,
        model=model,
        vc=vc,
        started_at=MIDNIGHT,
    )


def held(start: str, end: str, quota: int, number: int = 1) -> list[Record]:
    """Windows of a run that holds `quota` base units, cut at whole minutes."""
    records: list[Record] = []
    left, last = at(start), at(end)
    while left < last:
        right = min(left.replace(second=0, microsecond=0) + timedelta(minutes=1), last)
        length_ms = (right - left) // timedelta(milliseconds=1)
        records.append(
            Record(
                meter_id=MeterId(number),
                started_at=left,
                ended_at=right,
                allocated=quota * length_ms,
                used=0,
                effective=quota * length_ms,
                observed_ms=length_ms,
            )
        )
        left = right
    return records


def price(
    key: str, value: str, start: str = "00:00", end: str | None = None, number: int = 1
) -> RatioVersion:
    """A version of a ratio on the day of the tests."""
    return RatioVersion(
        ratio_id=RatioId(number),
        key=parse(key),
        value=Decimal(value),
        starts_at=at(start),
        ends_at=None if end is None else at(end),
    )


def bill_of(
    records: Sequence[Record], ratios: Sequence[RatioVersion], *meters: Meter
) -> dict[BillId, Bill]:
    """The bills of the records at the prices, by the default methods."""
    chosen = meters or (meter(),)
    return total(rate(records, {m.meter_id: m for m in chosen}, ratios, METHODS), chosen)


def hours(bill: Bill, kind: ResourceType = ResourceType.CPU) -> Fraction:
    """Exact unit-hours of a bill."""
    return Fraction(bill.billed, UNITS[kind].unit_hour)


def cost(bill: Bill, kind: ResourceType = ResourceType.CPU) -> Fraction:
    """Exact money of a bill."""
    return Fraction(bill.amount) / UNITS[kind].unit_hour


def test_a_price_change_at_half_past_splits_the_hour() -> None:
    """1 unit all hour, 1 then 2: 1.5."""
    ratios = [price("cpu", "1", end="10:30"), price("cpu", "2", "10:30", number=2)]
    bill = bill_of(held("10:00", "11:00", 1), ratios)[item(1)]
    assert cost(bill) == Fraction(3, 2)
    assert bill.is_mixed
    assert bill.ratio_id is None


def test_usage_before_a_change_keeps_its_price() -> None:
    """1/h for 12 h then 3/h for 12 h; a job in hours 0-6 costs 6."""
    ratios = [price("cpu", "1", end="12:00"), price("cpu", "3", "12:00", "24:00", number=2)]
    assert cost(bill_of(held("00:00", "06:00", 1), ratios)[item(1)]) == 6


@pytest.mark.parametrize(
    ("windows", "expected"),
    [
        ([("10:12:30", "10:42:30", 3)], Fraction(3, 2)),
        ([("10:00", "10:30", 3), ("10:30", "11:00", 6)], Fraction(9, 2)),
        ([("12:00", "17:00", 1), ("19:00", "22:00", 1)], Fraction(8)),
        ([("10:00:03.5", "10:00:32.5", 1)], Fraction(29, 3600)),
    ],
)
def test_hours_are_quantity_times_time(
    windows: Sequence[tuple[str, str, int]], expected: Fraction
) -> None:
    """Half hours, resizes, two runs, and 29 s between two samples, to the millisecond."""
    records = [record for window in windows for record in held(*window)]
    assert hours(bill_of(records, [])[item(1)]) == expected


def test_midnight_divides_a_job() -> None:
    """23:50-00:05: 10 minutes and 5 minutes, each in its own hour and day."""
    charges = rate(held("23:50", "24:05", 1), {MeterId(1): meter()}, [], METHODS)
    assert [(c.hour.day, c.length_ms) for c in charges] == [(6, 600_000), (7, 300_000)]


def test_quarters_of_a_device_make_a_whole() -> None:
    """Four jobs each on 25 % of one GPU for an hour: 1.00 GPU-h together."""
    meters = [meter(n, kind=ResourceType.GPU) for n in range(1, 5)]
    records = [r for n in range(1, 5) for r in held("10:00", "11:00", 31_500, n)]
    bills = bill_of(records, [], *meters).values()
    assert sum(hours(bill, ResourceType.GPU) for bill in bills) == 1


def test_slices_of_a_device_cost_their_share() -> None:
    """7 slices at 3 per device-hour: 24/7, 18/7, 12/7 and idle 450/7 make 72 a day."""
    gpu = ResourceType.GPU
    slice_units = UNITS[gpu].base_units // 7
    jobs = [(4, "02:00"), (1, "06:00"), (2, "02:00")]
    meters = [meter(n, kind=gpu) for n in (1, 2, 3)]
    records = [
        record
        for n, (slices, end) in enumerate(jobs, start=1)
        for record in held("00:00", end, slices * slice_units, n)
    ]
    costs = [cost(b, gpu) for b in bill_of(records, [price("gpu", "3")], *meters).values()]
    assert costs == [Fraction(24, 7), Fraction(18, 7), Fraction(12, 7)]
    assert 72 - sum(costs) == Fraction(450, 7)


@pytest.mark.parametrize(("gib", "expected"), [(8, 3), (10, Fraction(7, 2))])
def test_weights_of_cpu_and_memory_add_up_without_truncation(gib: int, expected: Fraction) -> None:
    """CPU weight 1 per core, memory 0.25 per GiB: 3.0 and 3.5."""
    mem = ResourceType.MEM
    meters = [meter(1), meter(2, kind=mem)]
    records = held("10:00", "11:00", 1000) + held("10:00", "11:00", gib * 1_048_576, 2)
    ratios = [price("cpu", "0.001"), price("mem", "0.000244140625", number=2)]
    bills = bill_of(records, ratios, *meters)
    assert cost(bills[item(1)]) + cost(bills[item(2)], mem) == expected


def test_storage_held_for_days() -> None:
    """20 GB for 1 day then 30 GB for 15 days: 11,280 GB-h."""
    kind = ResourceType.STORAGE
    gigabyte = 1_000_000
    records = held("00:00", "24:00", 20 * gigabyte) + held("24:00", "384:00", 30 * gigabyte)
    bill = bill_of(records, [], meter(kind=kind))[item(1)]
    assert Fraction(bill.billed, gigabyte * 3_600_000) == 11_280


def test_the_published_fee_comes_out_of_the_rules() -> None:
    """17.5 m-h x 100 = 1750."""
    bill = bill_of(held("00:00", "17:30", 1), [price("cpu", "100")])[item(1)]
    assert money.fee_at(money.usage(bill.billed, UNITS[ResourceType.CPU]), Decimal(100)) == 1750
    assert (bill.ratio_id, bill.is_mixed) == (1, False)


def test_usage_without_a_ratio_is_kept_as_unpriced() -> None:
    """Never a price of zero: it has its own charge and its own sum."""
    bill = bill_of(held("10:00", "11:00", 2), [price("gpu", "5")])[item(1)]
    assert bill.unpriced == bill.billed == 2 * 3_600_000
    assert not bill.amount
    assert bill.ratio_id == UNPRICED
    assert not bill.is_mixed


def test_a_ratio_of_zero_is_a_price() -> None:
    """Free usage is priced usage."""
    bill = bill_of(held("10:00", "11:00", 2), [price("cpu", "0")])[item(1)]
    assert not bill.unpriced
    assert not bill.amount
    assert bill.ratio_id == 1


def test_a_deleted_ratio_leaves_later_usage_unpriced() -> None:
    """The past keeps its fee; the item is mixed from then on."""
    bill = bill_of(held("10:00", "11:00", 1), [price("cpu", "4", end="10:15")])[item(1)]
    assert cost(bill) == 1
    assert bill.unpriced == 45 * 60_000
    assert bill.is_mixed


def test_a_superseded_version_prices_nothing() -> None:
    """starts_at = ends_at is an empty interval."""
    never = price("cpu", "9", "10:00", "10:00")
    assert price_in_force([never], meter(), at("10:00")) is None


def test_the_most_specific_ratio_in_force_prices() -> None:
    """Model + vc, vc, model, type; a key that matches nothing never does."""
    h200 = meter(kind=ResourceType.GPU, model="NVIDIA H200", vc="vc1")
    keys = ["tokens", "gpu", "gpu:NVIDIA H200", "gpu@vc1", "gpu:NVIDIA H200@vc1"]
    ratios = [price(key, "1", number=n) for n, key in enumerate(keys)]
    for last in range(1, len(ratios)):
        best = price_in_force(ratios[: last + 1], h200, at("10:00"))
        assert best is not None
        assert best.ratio_id == last
    assert price_in_force(ratios[:1], h200, at("10:00")) is None


def test_an_item_without_usage_is_there_at_zero() -> None:
    """A job is on the bill from the moment it starts."""
    bill = bill_of([], [])[item(1)]
    assert not bill.billed
    assert not bill.amount
    assert bill.ratio_id is None
    assert bill.ended_at == bill.started_at == MIDNIGHT


def test_meters_of_one_item_are_summed() -> None:
    """Two devices of one model are one item."""
    kind = ResourceType.GPU
    meters = [meter(1, of=9, kind=kind), meter(2, of=9, kind=kind)]
    records = held("10:00", "11:00", 126_000, 1) + held("10:00", "11:00", 126_000, 2)
    (bill,) = bill_of(records, [], *meters).values()
    assert hours(bill, kind) == 2


def test_the_method_of_the_time_is_billed() -> None:
    """Request 2, usage 4 for half an hour and 0 for half: 2, 2 and 3 core-hours."""
    records = [
        replace(r, used=2 * r.allocated, effective=2 * r.allocated)
        for r in held("10:00", "10:30", 2000)
    ] + held("10:30", "11:00", 2000)
    answers: list[Fraction] = []
    for method in (Method.REQUEST, Method.USAGE, Method.EFFECTIVE):
        methods = [MethodVersion(type=ResourceType.CPU, method=method)]
        charges = rate(records, {MeterId(1): meter()}, [], methods)
        answers.append(Fraction(sum(c.billed for c in charges), 3_600_000_000))
    assert answers == [2, 2, 3]


def test_a_change_of_method_never_reprices_the_past() -> None:
    """Methods are versioned like ratios, half-open."""
    cpu = ResourceType.CPU
    methods = [
        MethodVersion(type=cpu, method=Method.REQUEST, ends_at=at("10:30")),
        MethodVersion(type=cpu, method=Method.USAGE, starts_at=at("10:30")),
    ]
    assert method_in_force(methods, cpu, at("10:29:59.999")) is Method.REQUEST
    assert method_in_force(methods, cpu, at("10:30")) is Method.USAGE


@given(st.randoms(use_true_random=False), st.data())
def test_order_and_batching_do_not_matter(rng: random.Random, data: st.DataObject) -> None:
    """Any order of the same records gives the same charges."""
    quota = data.draw(st.integers(0, 10**9))
    records = held("09:58:30", "11:02:10", quota) + held("10:10", "10:20", 7, 2)
    ratios = [price("cpu", "0.1", end="10:30"), price("cpu", "1e-9", "10:30", number=2)]
    meters = {MeterId(n): meter(n) for n in (1, 2)}
    shuffled = records.copy()
    rng.shuffle(shuffled)
    assert rate(shuffled, meters, ratios, METHODS) == rate(records, meters, ratios, METHODS)


def test_an_account_of_a_node_is_summed_by_the_hour() -> None:
    """All of it, each meter by itself; no price and no method has a say."""
    records = held("09:58:30", "10:30", 4, -1) + held("10:00", "11:00", 7, -2)
    found = account_hours(reversed(records))
    assert [(each.hour, each.meter_id, each.allocated) for each in found] == [
        (at("09:00"), -1, 4 * 90_000),
        (at("10:00"), -2, 7 * 3_600_000),
        (at("10:00"), -1, 4 * 1_800_000),
    ]
    assert found[0] == AccountHour(
        hour=at("09:00"),
        meter_id=MeterId(-1),
        allocated=360_000,
        used=0,
        effective=360_000,
        length_ms=90_000,
        observed_ms=90_000,
    )
