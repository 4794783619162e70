"""A run that may use every device holds each of them."""

from agent.devices import Inventory
from agent.model import DEVICE_UNITS, Device, DeviceShare, ResourceType, Run, RunKey

GPU, NPU = ResourceType.GPU, ResourceType.NPU


def holder(type_: ResourceType, *names: str) -> Run:
    return Run(
        key=RunKey("k"),
        provider="docker",
        job_id="j",
        job_name="j",
        started_at_ms=0,
        quotas={},
        devices=tuple(DeviceShare(type=type_, id=name, model=None) for name in names),
    )


def held(inventory: Inventory, run: Run) -> dict[str, int]:
    (resolved,) = inventory.resolve([run])
    return {share.id: share.share for share in resolved.devices}


INVENTORY = Inventory(
    [
        Device(type=GPU, id="GPU-a", model="H200", names=frozenset({"0"})),
        Device(type=GPU, id="GPU-b", model="H200", names=frozenset({"1"}), is_up=False),
        Device(type=GPU, id="MIG-a1", model="H200 1g", units=18_000, parent="GPU-a"),
        Device(type=GPU, id="MIG-a2", model="H200 2g", units=36_000, parent="GPU-a"),
        Device(type=NPU, id="NPU-c", model="910B", names=frozenset({"phy:0"})),
    ]
)


def test_all_are_all_of_the_type_and_slices_instead_of_what_they_are_cut_from() -> None:
    """A lost device is still held; one of another type is not meant."""
    expected = {"MIG-a1": 18_000, "MIG-a2": 36_000, "GPU-b": DEVICE_UNITS}
    assert held(INVENTORY, holder(GPU, "all")) == expected
    assert held(INVENTORY, holder(NPU, "all")) == {"NPU-c": DEVICE_UNITS}


def test_slices_of_an_earlier_cut_are_not_among_all() -> None:
    """They stay known, as not up, while the device that they were cut from works."""
    gone = [
        Device(type=GPU, id="MIG-a0", model="H200 7g", parent="GPU-a", is_up=False),
        Device(type=GPU, id="MIG-b0", model="H200 7g", parent="GPU-b", is_up=False),
    ]
    inventory = Inventory([*INVENTORY.devices.values(), *gone])
    found = held(inventory, holder(GPU, "all"))
    assert found == {"MIG-a1": 18_000, "MIG-a2": 36_000, "MIG-b0": DEVICE_UNITS}
    whole = [device for device in inventory.devices.values() if device.parent != "GPU-a"]
    uncut = Inventory([*whole, gone[0]])
    assert held(uncut, holder(GPU, "all"))["GPU-a"] == DEVICE_UNITS


def test_all_of_an_unknown_number_are_none() -> None:
    """A node without such devices has none that could be held; no device is called `all`."""
    assert held(Inventory(()), holder(GPU, "all")) == {}
    assert held(Inventory(()), holder(GPU, "7")) == {"7": DEVICE_UNITS}
