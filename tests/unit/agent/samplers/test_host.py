"""The host: its capacity, and the address that bills show."""

import os
import socket
from pathlib import Path

import pytest

from agent.errors import SamplerError
from agent.samplers.host import find_address, read_capacity


def test_the_capacity_is_this_machine_s() -> None:
    """Milli-cores of every processor online, all memory that the kernel manages."""
    capacity = read_capacity()
    assert capacity.cpu_m == 1000 * (os.cpu_count() or 0)
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 1024
    assert capacity.mem_kib == total


@pytest.mark.parametrize(
    ("cpuinfo", "model"),
    [
        ("model name\t: AMD EPYC 9654\n\nprocessor : 1\nmodel name : x\n", "AMD EPYC 9654"),
        ("processor : 0\ncpu\t: POWER9, altivec supported\n", "POWER9, altivec supported"),
        ("processor : 0\nHardware : BCM2835\nModel : Raspberry Pi 4\n", "Raspberry Pi 4"),
        ("processor : 0\nCPU part : 0xd40\n", None),
    ],
)  # fmt: skip
def test_the_processor_s_model_is_found_on_every_architecture(
    tmp_path: Path, cpuinfo: str, model: str | None
) -> None:
    """The first processor speaks for all; silence is None."""
    (tmp_path / "meminfo").write_text("MemTotal:       16 kB\nMemFree: 3 kB\n")
    (tmp_path / "cpuinfo").write_text(cpuinfo)
    capacity = read_capacity(tmp_path)
    assert capacity.cpu_model == model
    assert capacity.mem_kib == 16


def test_an_unreadable_machine_is_an_error(tmp_path: Path) -> None:
    """A capacity of 0 would make every conservation check wrong."""
    with pytest.raises(SamplerError, match="cannot be read"):
        read_capacity(tmp_path)
    (tmp_path / "cpuinfo").touch()
    (tmp_path / "meminfo").touch()
    with pytest.raises(SamplerError, match="does not say"):
        read_capacity(tmp_path)


@pytest.mark.parametrize(
    "target",
    ["127.0.0.1:50051", "[::1]:50051", "localhost:1", "dns:///localhost:1", "unix:/run/x",
     "no-such-host.invalid:1", "ipv4:127.0.0.1:5"],
)  # fmt: skip
def test_an_aggregator_that_tells_nothing_leaves_the_default_route(target: str) -> None:
    """On the same host, behind a socket or unknown to the name service: one answer."""
    assert find_address(target) == default_address()


def test_a_routed_aggregator_gives_the_source_of_its_route() -> None:
    """On a node with several networks the one towards the aggregator counts."""
    own = default_address()
    assert find_address(f"{own}:50051") == own


def default_address() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])
