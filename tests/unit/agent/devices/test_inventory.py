"""References become uuids, and nobody holds more of a device than there is."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.devices.inventory import Inventory, apportion
from agent.model import DEVICE_UNITS, Device, DeviceShare, ResourceType
from tests.unit.agent.nodes import GPU, job

WHOLE = Device(type=GPU, id="GPU-a", model="H200", names=frozenset({"0", "minor:1"}))
SLICE = Device(
    type=GPU, id="MIG-1", model="H200 MIG 1g", units=18_000, parent="GPU-b",
    names=frozenset({"1.7"}),
)  # fmt: skip
INVENTORY = Inventory([WHOLE, SLICE])


def named(name: str, part: tuple[int, int, int] = (0, 1, 1)) -> DeviceShare:
    return DeviceShare(type=GPU, id=name, model=None, part=part)


def held(*shares: DeviceShare) -> tuple[DeviceShare, ...]:
    (run,) = INVENTORY.resolve([job(devices=shares)])
    return run.devices


@pytest.mark.parametrize("name", ["GPU-a", "0", "minor:1"])
def test_a_device_has_one_id_however_it_is_called(name: str) -> None:
    """Its model and its units come with it."""
    (share,) = held(named(name))
    assert (share.id, share.model, share.share) == ("GPU-a", "H200", DEVICE_UNITS)


def test_a_slice_counts_as_part_of_its_device() -> None:
    """A seventh of a GPU is a seventh of its units."""
    (share,) = held(named("1.7"))
    assert (share.id, share.physical, share.share) == ("MIG-1", "GPU-b", 18_000)


def test_what_nobody_lists_is_metered_under_its_own_name() -> None:
    """As a whole device, without a model."""
    (share,) = held(named("minor:9"))
    assert (share.id, share.model, share.share) == ("minor:9", None, DEVICE_UNITS)


def test_an_npu_is_not_a_gpu_of_the_same_number() -> None:
    """Names are looked up by type."""
    npu = DeviceShare(type=ResourceType.NPU, id="0", model=None)
    assert held(npu)[0].model is None


def test_the_replicas_of_a_device_are_the_device() -> None:
    """Eleven of eleven, whatever their order, leave nothing over."""
    shares = [held(named("0", (at, at + 1, 11)))[0].share for at in range(11)]
    assert sum(shares) == DEVICE_UNITS
    assert max(shares) - min(shares) <= 1


def test_two_who_claim_a_whole_device_have_half_of_it_each() -> None:
    """One who has ended holds nothing any more."""
    runs = [
        job("a", devices=[named("0")]),
        job("b", devices=[named("minor:1")]),
        job("c", devices=[named("GPU-a")], ended_at_ms=5),
    ]
    first, second, ended = INVENTORY.resolve(runs)
    assert [run.devices[0].share for run in (first, second)] == [DEVICE_UNITS // 2] * 2
    assert ended.devices[0].share == DEVICE_UNITS


def test_runs_without_devices_are_left_as_they_are() -> None:
    """The very same objects, so that nobody thinks they have changed."""
    runs = [job("a"), job("b")]
    assert INVENTORY.resolve(runs) is runs


@given(st.lists(st.integers(1, 500_000), min_size=1, max_size=40))
def test_apportioning_loses_and_adds_nothing(weights: list[int]) -> None:
    """Every part is its exact share, rounded up or down."""
    parts = apportion(DEVICE_UNITS, weights)
    assert sum(parts) == DEVICE_UNITS
    for part, weight in zip(parts, weights, strict=True):
        assert abs(part * sum(weights) - DEVICE_UNITS * weight) < sum(weights)


def test_ties_go_to_the_earliest() -> None:
    """1000.00 by 8 : 6 : 4 is 444.45, 333.33 and 222.22."""
    assert apportion(100_000, [8, 6, 4]) == [44_445, 33_333, 22_222]
    assert apportion(5, [1, 1, 1]) == [2, 2, 1]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12))
def test_no_device_is_held_more_than_once(parts: list[int]) -> None:
    """Whatever shares jobs claim of one device, together it is one device at most."""
    runs = [job(str(at), devices=[named("0", (0, 1, of))]) for at, of in enumerate(parts)]
    shares = [run.devices[0].share for run in INVENTORY.resolve(runs)]
    claimed = sum(DEVICE_UNITS // of for of in parts)
    assert sum(shares) == min(claimed, DEVICE_UNITS)
    assert replace(WHOLE).units == DEVICE_UNITS


def test_who_speaks_for_himself_takes_nothing_from_a_scheduler_s_job() -> None:
    """Nine claims of users leave a held device to its holder, and share what is free."""
    slurm = job("1", provider="slurm", devices=[named("0", (0, 3, 4))])
    users = [replace(job(str(at), devices=[named("0")]), own_word_of=1000) for at in range(9)]
    first, *others = INVENTORY.resolve([slurm, *users])
    assert first.devices[0].share == DEVICE_UNITS * 3 // 4
    assert sum(run.devices[0].share for run in others) == DEVICE_UNITS // 4
    whole = replace(slurm, devices=(named("0"),))
    assert all(run.devices[0].share == 0 for run in INVENTORY.resolve([whole, *users])[1:])
