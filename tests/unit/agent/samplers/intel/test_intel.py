"""Intel NPUs, on trees like /sys: a counter becomes the mean since the last look."""

import shutil
from pathlib import Path

import pytest

from agent.model import DeviceShare, ResourceType, Run, RunKey
from agent.samplers import DeviceSampler
from agent.samplers.intel import IntelSampler, open_intel_sampler
from tests.unit.agent.cgrouptrees import CgroupTree
from tests.unit.agent.jobs.contexts import Machine

SECOND = 1_000_000
ADDRESS = "0000:00:0b.0"


class Tree:
    """A /sys with accelerators, and a clock."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / "sys/class/accel"
        self.folder.mkdir(parents=True)
        self.now_us = 500 * SECOND

    def plug(
        self,
        number: int = 0,
        address: str = ADDRESS,
        *,
        driver: str = "intel_vpu",
        busy: int | None = 0,
        has_uevent: bool = True,
    ) -> None:
        """As the kernel does it: the class's entry links to the PCI device."""
        device = self.root / "sys/devices/pci0000:00" / address
        entry = device / "accel" / f"accel{number}"
        entry.mkdir(parents=True)
        (entry / "device").symlink_to("../..")
        (self.folder / f"accel{number}").symlink_to(entry)
        if has_uevent:
            text = f"DRIVER={driver}\nPCI_CLASS=120000\nPCI_ID=8086:7D1D\nPCI_SLOT_NAME={address}\n"
            (device / "uevent").write_text(text)
        if busy is not None:
            self.count(busy, address)

    def count(self, busy_us: int | str, address: str = ADDRESS) -> None:
        device = self.root / "sys/devices/pci0000:00" / address
        (device / "npu_busy_time_us").write_text(f"{busy_us}\n")

    def unplug(self, number: int = 0, address: str = ADDRESS) -> None:
        (self.folder / f"accel{number}").unlink()
        shutil.rmtree(self.root / "sys/devices/pci0000:00" / address)

    def sampler(self) -> IntelSampler:
        return IntelSampler(str(self.folder), lambda: self.now_us)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path / "machine")


def holder(key: str = "run", share: int = 126_000, device: str = f"NPU-pci-{ADDRESS}") -> Run:
    return Run(
        key=RunKey(key),
        provider="files",
        job_id=key,
        job_name=key,
        started_at_ms=0,
        quotas={},
        devices=(DeviceShare(type=ResourceType.NPU, id=device, model=None, share=share),),
    )


def used(sampler: IntelSampler, *runs: Run) -> dict[str, int]:
    return {key.run: reading.value for key, reading in sampler.sample(runs).items()}


def test_a_device_is_known_by_its_address(tree: Tree) -> None:
    """Its number is that of the device file; the model says which generation it is."""
    tree.plug(3)
    sampler = tree.sampler()
    (device,) = sampler.devices()
    assert isinstance(sampler, DeviceSampler)
    assert (device.id, device.model) == ("NPU-pci-0000:00:0b.0", "Intel NPU 7d1d")
    assert device.names == {"3", "phy:3", "pci:0000:00:0b.0"}
    assert sampler.devices() is sampler.devices()


def test_other_vendors_accelerators_are_left_alone(tree: Tree) -> None:
    """They are in the same class."""
    tree.plug(0, "0000:10:00.0", driver="habanalabs", busy=None)
    tree.plug(1)
    assert [device.id for device in tree.sampler().devices()] == [f"NPU-pci-{ADDRESS}"]


def test_the_address_is_in_the_path_too(tree: Tree) -> None:
    """A saved tree may lack the uevent."""
    tree.plug(has_uevent=False)
    (device,) = tree.sampler().devices()
    assert (device.id, device.model) == (f"NPU-pci-{ADDRESS}", "Intel NPU")


def test_use_is_the_mean_since_the_last_reading(tree: Tree) -> None:
    """The first reading has nothing to compare with; 2.5 s of 10 are a quarter."""
    tree.plug(busy=7 * SECOND)
    sampler = tree.sampler()
    assert used(sampler, holder()) == {}
    tree.now_us += 10 * SECOND
    tree.count(9 * SECOND + SECOND // 2)
    assert used(sampler, holder()) == {"run": 31_500}
    tree.now_us += 5 * SECOND
    assert used(sampler, holder()) == {"run": 0}


def test_more_than_the_time_there_was_is_all_of_it(tree: Tree) -> None:
    """Counter and clock are not read at one instant."""
    tree.plug()
    sampler = tree.sampler()
    used(sampler, holder())
    tree.now_us += SECOND
    tree.count(SECOND + 5000)
    sampler.sample([])
    tree.now_us += SECOND
    assert used(sampler, holder()) == {"run": 63_000}


def test_a_counter_that_began_again_says_nothing_of_that_time(tree: Tree) -> None:
    """The driver was loaded anew; the next reading is right again, and never negative."""
    tree.plug(busy=100 * SECOND)
    sampler = tree.sampler()
    used(sampler, holder())
    tree.now_us += 10 * SECOND
    tree.count(SECOND)
    assert used(sampler, holder()) == {}
    tree.now_us += 10 * SECOND
    tree.count(6 * SECOND)
    assert used(sampler, holder()) == {"run": 63_000}


@pytest.mark.parametrize("text", ["", "NA", "-5", "1.5"])
def test_what_is_no_number_is_absent(tree: Tree, text: str) -> None:
    """And the time until the next good one is not known."""
    tree.plug()
    sampler = tree.sampler()
    used(sampler, holder())
    tree.now_us += 10 * SECOND
    tree.count(text)
    assert used(sampler, holder()) == {}
    tree.now_us += 10 * SECOND
    tree.count(10 * SECOND)
    assert used(sampler, holder()) == {}
    tree.now_us += 10 * SECOND
    assert used(sampler, holder()) == {"run": 0}


def test_an_old_driver_has_a_device_without_readings(tree: Tree) -> None:
    """There is no counter before Linux 6.11."""
    tree.plug(busy=None)
    sampler = tree.sampler()
    assert len(sampler.devices()) == 1
    tree.now_us += 10 * SECOND
    assert used(sampler, holder()) == {}


def test_a_device_that_is_gone_is_down_until_it_is_back(tree: Tree) -> None:
    """Under whichever number."""
    tree.plug(0)
    tree.plug(1, "0000:01:00.0")
    sampler = tree.sampler()
    sampler.devices()
    tree.unplug(0)
    assert [(device.id, device.is_up) for device in sampler.devices()] == [
        (f"NPU-pci-{ADDRESS}", False),
        ("NPU-pci-0000:01:00.0", True),
    ]
    assert used(sampler, holder()) == {}
    tree.plug(2, busy=5)
    assert [device.is_up for device in sampler.devices()] == [True, True]
    used(sampler, holder())
    tree.now_us += SECOND
    assert used(sampler, holder()) == {"run": 0}


def test_two_runs_on_one_device_are_not_told_apart(tree: Tree) -> None:
    """Unless it is idle; who holds half of it alone uses at most half."""
    tree.plug()
    sampler = tree.sampler()
    left, right = holder("left", 63_000), holder("right", 63_000)
    used(sampler, left, right)
    tree.now_us += 10 * SECOND
    assert used(sampler, left, right) == {"left": 0, "right": 0}
    tree.now_us += 10 * SECOND
    tree.count(8 * SECOND)
    assert used(sampler, left, right) == {}
    sampler.forget([right.key])
    tree.now_us += 10 * SECOND
    tree.count(16 * SECOND)
    assert used(sampler, left) == {"left": 63_000}


def test_it_opens_on_a_saved_tree_and_not_where_there_is_nothing(
    tree: Tree, tmp_path: Path
) -> None:
    """`inspect --root` sees the devices that the tree has."""
    machine = Machine(CgroupTree(tmp_path / "cgroup", "v2"), "")
    root = str(tree.root)
    assert open_intel_sampler(machine.context(is_live=False, root=root)) is None
    tree.plug()
    sampler = open_intel_sampler(machine.context(is_live=False, root=root))
    assert isinstance(sampler, DeviceSampler)
    assert [device.model for device in sampler.devices()] == ["Intel NPU 7d1d"]
