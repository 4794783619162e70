"""The inventory: every GPU and MIG device by all its names, whatever the driver can tell."""

from agent.devices import Inventory
from agent.model import DEVICE_UNITS, ResourceType
from tests.unit.agent.samplers.nvidia.conftest import Boot, Load, Machine, holding
from tests.unit.agent.samplers.nvidia.stub import A100, Stub

GPU = ResourceType.GPU


def test_a_gpu_is_found_by_everything_that_it_is_called(machine: Machine) -> None:
    """The index is NVML's, the minor is the device file's; they differ on many boards."""
    inventory = Inventory(machine.sampler.devices())
    for name in ("GPU-00000002", "2", "minor:5", "nvidia5", "pci:0000:12:00.0"):
        device = inventory.find(GPU, name)
        assert device is not None
        assert (device.id, device.model) == ("GPU-00000002", A100)
        assert (device.units, device.parent, device.is_up) == (DEVICE_UNITS, None, True)


def test_a_wide_pci_domain_keeps_its_digits(stub: Stub, boot: Boot) -> None:
    """Virtual machines number their domains from 0x10000 on."""
    stub.gpus[0].domain = 0x10000
    assert "pci:10000:10:00.0" in boot(stub).devices()["GPU-00000000"].names


def test_mig_devices_are_slices_of_their_gpu(stub: Stub, boot: Boot) -> None:
    """Sevenths of a device, with holes in their numbering, named by their GPU instance."""
    gpu = stub.gpus[1]
    gpu.max_migs = 7
    big, small = gpu.cut(0, slices=3, instance=2), gpu.cut(5, slices=1, instance=9)
    devices = boot(stub).devices()
    assert devices[big].units == 54_000
    assert devices[small].units == 18_000
    assert devices[small].parent == devices[small].physical == "GPU-00000001"
    assert devices[small].model == f"{A100} MIG 1g.5gb"
    assert devices[small].names == {"1.9", "nvidia6/gi9"}
    assert len(devices) == 10
    assert devices["GPU-00000001"].units == DEVICE_UNITS


def test_an_a30_has_quarters(stub: Stub, boot: Boot) -> None:
    """As many slices as devices that it can be cut into."""
    stub.gpus[0].max_migs = 4
    uuid = stub.gpus[0].cut(0, slices=1)
    assert boot(stub).devices()[uuid].units == DEVICE_UNITS // 4


def test_compute_instances_divide_their_gpu_instance(stub: Stub, boot: Boot) -> None:
    """Three of 1c.3g make the 3g that they are in, and are named after it by an old driver."""
    gpu = stub.gpus[0]
    gpu.max_migs = 7
    uuids = [gpu.cut(at, slices=3, compute=1, instance=2) for at in range(3)]
    for at in range(3):
        gpu.migs[at].name = A100.encode()
        gpu.migs[at].memory_mb = 19_968
    devices = boot(stub).devices()
    assert sum(devices[uuid].units for uuid in uuids) == 54_000
    assert {devices[uuid].model for uuid in uuids} == {f"{A100} MIG 1c.3g.20gb"}


def test_a_driver_without_mig_has_whole_devices(load: Load, boot: Boot) -> None:
    """Not supported is an answer, not a failure."""
    devices = boot(load("oldest")).devices()
    assert len(devices) == 8
    assert all(device.is_up and device.parent is None for device in devices.values())


def test_what_is_no_mig_device_is_none(stub: Stub, boot: Boot) -> None:
    """The binding's answer is a ctypes number, which is true to nobody who compares it."""
    stub.gpus[0].max_migs = 7
    uuid = stub.gpus[0].cut(0, slices=1)
    stub.gpus[0].migs[0].is_mig = 0
    assert uuid not in boot(stub).devices()


def test_the_inventory_is_the_same_object_while_nothing_changes(machine: Machine) -> None:
    """So that nobody resolves all runs anew at each look; a change is told at once."""
    first = machine.sampler.devices()
    before = len(machine.told)
    machine.look(100)
    assert machine.sampler.devices() is first
    assert len(machine.told) == before
    machine.stub.fail("*", 15, gpu=0)
    machine.look(10)
    assert len(machine.told) == before + 1


def test_a_gpu_that_is_cut_anew_has_other_devices_within_a_minute(stub: Stub, boot: Boot) -> None:
    """The old ones stay known, as not up; the GPU itself stays up."""
    gpu = stub.gpus[0]
    gpu.max_migs = 7
    old = gpu.cut(0, slices=1)
    machine = boot(stub)
    assert old in machine.up()
    gpu.migs[0].present = 0
    new = gpu.cut(3, slices=2)
    machine.look(10)
    assert old in machine.up()
    machine.look(50)
    assert machine.up() >= {new, "GPU-00000000"}
    assert old not in machine.up()
    assert machine.devices()[old].model == f"{A100} MIG 1g.5gb"


def test_a_mig_device_that_a_run_names_is_looked_for_at_once(stub: Stub, boot: Boot) -> None:
    """Schedulers cut a GPU right before a job starts on it."""
    stub.gpus[0].max_migs = 7
    machine = boot(stub)
    new = stub.gpus[0].cut(3, slices=2)
    run = holding("a", "MIG-unknown", since_ms=machine.now_ms())
    machine.after(5, run)
    assert new in machine.up()


def test_of_two_devices_with_one_name_the_living_one_has_it(stub: Stub, boot: Boot) -> None:
    """After a GPU is gone for good, the driver counts the others anew."""
    machine = boot(stub)
    stub.fail("nvmlDeviceGetUtilizationRates", 15, gpu=0)
    machine.look(10)
    stub.heal()
    stub.driver.count = 7
    for at in range(7):
        stub.gpus[at].uuid = f"GPU-{at + 1:08x}".encode()
    machine.look(15)
    assert machine.up() == {f"GPU-{at:08x}" for at in range(1, 8)}
    found = Inventory(machine.sampler.devices()).find(GPU, "0")
    assert found is not None
    assert found.id == "GPU-00000001"
    assert not machine.devices()["GPU-00000000"].is_up
