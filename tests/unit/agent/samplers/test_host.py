"""The host: its capacity, and the address that bills show."""

import os
import socket
from pathlib import Path

import pytest

from agent.cgroups import Hierarchies
from agent.errors import SamplerError
from agent.model import ResourceType
from agent.samplers.host import HostCapacity, HostReader, find_address, read_capacity


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
    (tmp_path / "stat").write_text("cpu  1 2 3\ncpu0 1 2 3\ncpu1 0 0 0\nintr 5\n")
    capacity = read_capacity(tmp_path)
    assert capacity.cpu_model == model
    assert (capacity.cpu_m, capacity.mem_kib) == (2_000, 16)


def test_an_unreadable_machine_is_an_error(tmp_path: Path) -> None:
    """A capacity of 0 would make every conservation check wrong."""
    with pytest.raises(SamplerError, match="cannot be read"):
        read_capacity(tmp_path)
    (tmp_path / "stat").touch()
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


def test_the_whole_node_is_read_from_the_root_s_counter(tmp_path: Path) -> None:
    """v1's in ns, v2's in us, else the ticks of /proc/stat; memory is the working set."""
    (tmp_path / "stat").write_text("cpu  100 10 50 9 9 5 5 0 0 0\ncpu0 1 2 3\n")
    (tmp_path / "meminfo").write_text(
        "MemTotal:  1000 kB\nMemFree:   300 kB\nActive: 1 kB\nInactive(file):  200 kB\n"
    )
    (tmp_path / "cpuacct.usage").write_text("7000999\n")
    (tmp_path / "cpu.stat").write_text("usage_usec 1234\nuser_usec 1\n")
    root, capacity = str(tmp_path), HostCapacity(cpu_m=2_000, mem_kib=1_000, cpu_model=None)
    readers = [
        HostReader(Hierarchies(root, {"cpuacct": root}), root, capacity),
        HostReader(Hierarchies(root, {}), root, capacity),
        HostReader(Hierarchies(None, {}), root, capacity),
    ]
    ticks = os.sysconf("SC_CLK_TCK")
    cpu_us = [reader.read()[ResourceType.CPU].value for reader in readers]
    assert cpu_us == [7_000, 1_234, 170 * 1_000_000 // ticks]
    assert readers[0].read()[ResourceType.MEM].value == 500


def test_what_cannot_be_read_of_the_node_is_absent(tmp_path: Path) -> None:
    """Never zero."""
    capacity = HostCapacity(cpu_m=2_000, mem_kib=1_000, cpu_model=None)
    assert HostReader(Hierarchies(None, {}), str(tmp_path), capacity).read() == {}
