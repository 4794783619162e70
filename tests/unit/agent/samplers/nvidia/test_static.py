"""The GPUs as /proc lists them, for a saved tree and before the driver answers."""

from pathlib import Path

from agent.model import DEVICE_UNITS, Device, ResourceType
from agent.samplers.nvidia.static import has_hardware, has_module, read_gpus
from tests.unit.agent.samplers.nvidia.conftest import write_gpu
from tests.unit.agent.samplers.nvidia.stub import A100


def test_gpus_are_numbered_in_the_order_of_the_bus(tmp_path: Path) -> None:
    """As NVML numbers them; the minor is another matter."""
    write_gpu(tmp_path, "0000:47:00.0", "GPU-b", minor=0)
    write_gpu(tmp_path, "0000:07:00.0", "GPU-a", minor=1)
    first, second = read_gpus(str(tmp_path))
    assert first == Device(
        type=ResourceType.GPU,
        id="GPU-a",
        model=A100,
        units=DEVICE_UNITS,
        names=frozenset({"0", "minor:1", "nvidia1", "pci:0000:07:00.0"}),
    )
    assert second.names == {"1", "minor:0", "nvidia0", "pci:0000:47:00.0"}


def test_a_gpu_without_a_uuid_keeps_its_number(tmp_path: Path) -> None:
    """It was never used since the boot; the others are counted with it."""
    write_gpu(tmp_path, "0000:07:00.0", "GPU-????????-????-????-????-????????????", minor=0)
    write_gpu(tmp_path, "0000:08:00.0", "GPU-b", minor=1, GPU_Excluded="No")
    write_gpu(tmp_path, "0000:06:00.0", "GPU-c", minor=2, GPU_Excluded="Yes")
    (device,) = read_gpus(str(tmp_path))
    assert device.id == "GPU-b"
    assert "1" in device.names


def test_what_is_no_list_of_gpus_is_none(tmp_path: Path) -> None:
    """Missing, empty, garbage, and names that no bill should show."""
    assert read_gpus(str(tmp_path)) == []
    gpus = tmp_path / "driver" / "nvidia" / "gpus"
    (gpus / "0000:01:00.0").mkdir(parents=True)
    assert read_gpus(str(tmp_path)) == []
    (gpus / "0000:01:00.0" / "information").write_bytes(b"\xff\x00" * 9000)
    assert read_gpus(str(tmp_path)) == []
    text = "Model: X\x07\x1b[31m\nGPU UUID: GPU-a\nDevice Minor: \u0663\n"
    (gpus / "0000:01:00.0" / "information").write_text(text)
    (device,) = read_gpus(str(tmp_path))
    assert (device.model, device.names) == ("X[31m", frozenset({"0", "pci:0000:01:00.0"}))


def test_the_module_and_the_hardware_are_seen_apart(tmp_path: Path) -> None:
    """A node may have either without the other."""
    proc, sys = tmp_path / "proc", tmp_path / "sys"
    assert not has_module(str(proc))
    (proc / "driver" / "nvidia").mkdir(parents=True)
    assert has_module(str(proc))
    assert not has_hardware(str(sys))
    for name, vendor, class_ in (("a", "0x10de", "0x040300"), ("b", "0x1002", "0x030000")):
        folder = sys / "bus" / "pci" / "devices" / name
        folder.mkdir(parents=True)
        (folder / "vendor").write_text(f"{vendor}\n")
        (folder / "class").write_text(f"{class_}\n")
    assert not has_hardware(str(sys))  # a sound device of NVIDIA's, and a GPU of another's
    (sys / "bus" / "pci" / "devices" / "a" / "class").write_text("0x030200\n")
    assert has_hardware(str(sys))
