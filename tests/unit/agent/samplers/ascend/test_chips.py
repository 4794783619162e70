"""How Ascend chips appear in the inventory."""

import pytest

from agent.devices import Inventory
from agent.model import DEVICE_UNITS, ResourceType
from agent.samplers.ascend.chips import (
    Chip,
    Place,
    Vnpu,
    model_of,
    placed_devices,
    template_aicores,
)

DIE = "42C711D4-20B03704-4A10C8D4-14CC040A-D2102003"


def chip(
    card: int,
    *,
    logic: int | None = None,
    die: str | None = None,
    bus: str | None = None,
    aicores: int | None = None,
    vnpus: tuple[Vnpu, ...] = (),
) -> Chip:
    return Chip(
        place=Place(card, 0),
        logic=card if logic is None else logic,
        phy=card,
        model="Ascend910B2",
        die=die,
        bus=bus,
        aicores=aicores,
        vnpus=vnpus,
    )


def test_a_chip_is_found_by_everything_it_is_called() -> None:
    """Die, logic id, physical id, PCI address."""
    placed = placed_devices([chip(3, logic=0, die=DIE, bus="0000:82:00.0")])
    inventory = Inventory(device for device, _ in placed)
    device = placed[0].device
    assert device.id == f"NPU-{DIE}"
    assert (device.type, device.model, device.units) == (
        ResourceType.NPU,
        "Ascend910B2",
        DEVICE_UNITS,
    )
    for name in (f"NPU-{DIE}", "0", "phy:3", "pci:0000:82:00.0"):
        assert inventory.find(ResourceType.NPU, name) is device
    assert inventory.find(ResourceType.NPU, "3") is None


def test_without_a_die_the_address_then_the_place_is_the_id() -> None:
    """All of them the same after a restart."""
    chips = [chip(0, bus="0000:82:00.0"), chip(1)]
    assert [device.id for device, _ in placed_devices(chips)] == [
        "NPU-pci-0000:82:00.0",
        "NPU-card-1-0",
    ]


def test_two_chips_never_have_one_id() -> None:
    """Dice that say the same are told apart by what comes next."""
    chips = [chip(0, die=DIE, bus="0000:81:00.0"), chip(1, die=DIE, bus="0000:82:00.0"), chip(2)]
    ids = [device.id for device, _ in placed_devices(chips)]
    assert ids == [f"NPU-{DIE}", "NPU-pci-0000:82:00.0", "NPU-card-2-0"]


@pytest.mark.parametrize(
    ("template", "aicores", "total", "units"),
    [
        ("vir01", 1, 8, 15_750),
        ("vir04_3c_ndvpp", 4, 8, 63_000),
        ("vir02", 2, 32, 7_875),
        ("vir16", 16, 32, 63_000),
        ("vir05_1c_16g", 5, 20, 31_500),
        ("vir10_4c_16g_m", 10, 20, 63_000),
        ("vir12_3c_32g", 12, 24, 63_000),
    ],
)
def test_a_vnpu_is_a_part_by_ai_cores(template: str, aicores: int, total: int, units: int) -> None:
    """The vendor's templates of 310P, 910 and 910B."""
    assert template_aicores(template) == aicores
    vnpus = (Vnpu(number=116, aicores=aicores),)
    parent, part = placed_devices([chip(1, die=DIE, aicores=total, vnpus=vnpus)])
    assert part.device.units == units
    assert part.device.parent == part.device.physical == parent.device.id
    assert part.device.model == parent.device.model
    assert part.device.names == {"116", "phy:116"}
    assert part.place == Place(1, 0, 116)


def test_a_part_of_unknown_size_is_left_out() -> None:
    """Neither a whole device nor nothing."""
    vnpus = (Vnpu(number=100, aicores=None), Vnpu(number=101, aicores=21))
    assert len(placed_devices([chip(0, aicores=20, vnpus=vnpus)])) == 1
    assert len(placed_devices([chip(0, vnpus=(Vnpu(number=100, aicores=5),))])) == 1
    assert template_aicores("NA") is None


@pytest.mark.parametrize("name", ["910B2", "Ascend910B2", "Ascend 910B2", " ascend-910B2\n"])
def test_a_model_has_one_spelling(name: str) -> None:
    """Whichever way the chip was found."""
    assert model_of(name) == "Ascend910B2"


def test_a_chip_without_a_name_is_an_ascend() -> None:
    """A model there must be."""
    assert [model_of(name) for name in ("", "Ascend", "\0\t")] == ["Ascend"] * 3
