"""What the runtimes' variables say of devices, and nothing that they do not say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.devices.visible import (
    MAX_DEVICES,
    ascend_devices,
    cdi_devices,
    device_file,
    gpus_by_number,
    nvidia_devices,
)
from agent.model import DeviceShare, ResourceType

GPU, NPU = ResourceType.GPU, ResourceType.NPU


def names(shares: tuple[DeviceShare, ...], type_: ResourceType) -> list[str]:
    assert {share.type for share in shares} <= {type_}
    assert {share.model for share in shares} <= {None}
    return [share.id for share in shares]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("all", ["all"]),
        ("0", ["0"]),
        ("2, 0,2", ["2", "0"]),
        ("007", ["7"]),
        ("0:1,1:0", ["0:1", "1:0"]),
        ("GPU-5d2e,MIG-GPU-5d2e/1/0", ["GPU-5d2e", "MIG-GPU-5d2e/1/0"]),
        ("", []),
        ("void", []),
        ("none", []),
        ("0,all", ["0"]),
        ("-1,+1,1.5,0x1,\u0663,GPU-, GPU 1", []),
    ],
)
def test_nvidia_forms(value: str, expected: list[str]) -> None:
    """Every form of the container toolkit; what is none of them is no device."""
    assert names(nvidia_devices(value), GPU) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0", ["phy:0"]),
        ("1,3", ["phy:1", "phy:3"]),
        ("0-2", ["phy:0", "phy:1", "phy:2"]),
        ("0-2,4,2", ["phy:0", "phy:1", "phy:2", "phy:4"]),
        ("Ascend910-1,Ascend910-3", ["phy:1", "phy:3"]),
        ("Ascend310P-0", ["phy:0"]),
        ("100", ["phy:100"]),
        ("void", []),
        ("", []),
        ("2-0", []),
        ("Ascend910-,-1,1-,a-b", []),
    ],
)
def test_ascend_forms(value: str, expected: list[str]) -> None:
    """Physical numbers in every form of the Ascend runtime."""
    assert names(ascend_devices(value), NPU) == expected


def test_device_interface_names() -> None:
    """NVIDIA's names of the container device interface; other vendors' are not for us."""
    given_names = ["nvidia.com/gpu=0", "nvidia.com/mig=0:1", "nvidia.com/gpu=all", "amd.com/gpu=0"]
    assert names(cdi_devices(given_names), GPU) == ["0", "0:1", "all"]
    assert cdi_devices(["nvidia.com/gpu", ""]) == ()


def test_a_number_of_gpus_is_the_first_ones() -> None:
    """As Docker does it; -1 is all of them."""
    assert names(gpus_by_number(2), GPU) == ["0", "1"]
    assert names(gpus_by_number(-1), GPU) == ["all"]
    assert gpus_by_number(0) == ()
    assert len(gpus_by_number(1 << 60)) == MAX_DEVICES


@pytest.mark.parametrize(
    ("path", "type_", "name"),
    [
        ("/dev/nvidia3", GPU, "minor:3"),
        ("/dev/davinci7", NPU, "phy:7"),
        ("/dev/vdavinci100", NPU, "phy:100"),
        ("/dev/accel/accel0", NPU, "phy:0"),
    ],
)
def test_device_files(path: str, type_: ResourceType, name: str) -> None:
    """The number of a device file is the vendor's own: a minor, a physical id."""
    assert device_file(path) == DeviceShare(type=type_, id=name, model=None)


@pytest.mark.parametrize(
    "path", ["/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia", "/dev/davinci_manager", "nvidia0"]
)
def test_files_beside_the_devices_are_no_devices(path: str) -> None:
    """What every container of a device needs beside it is not billed."""
    assert device_file(path) is None


@given(st.text(max_size=60) | st.text("0123456789-,Ascend: ", max_size=60))
def test_no_text_gives_more_than_there_can_be(value: str) -> None:
    """Whatever a user writes there: no failure, nothing twice, names of the known forms only."""
    for shares in (nvidia_devices(value), ascend_devices(value), cdi_devices([value])):
        assert len({share.id for share in shares}) == len(shares) <= MAX_DEVICES
        assert all(share.id.isascii() and share.id.isprintable() for share in shares)


def test_a_huge_value_costs_little() -> None:
    """Ranges of a million, a thousand times."""
    assert len(ascend_devices("0-999999," * 10_000)) <= MAX_DEVICES
    assert len(nvidia_devices(",".join(map(str, range(100_000))))) <= MAX_DEVICES
