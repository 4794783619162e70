"""A machine with the stub for a driver, whose clock moves only when it is told to."""

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pynvml
import pytest

from agent.model import DEVICE_UNITS, Device, DeviceShare, ResourceType, Run, RunKey
from agent.procfs import ProcFs
from agent.samplers.nvidia.driver import Driver
from agent.samplers.nvidia.library import Library
from agent.samplers.nvidia.owners import Owners
from agent.samplers.nvidia.sampler import NvidiaSampler
from tests.unit.agent.fakes import FakeTime
from tests.unit.agent.samplers.nvidia.stub import A100, Stub, StubProcess, build, find_compiler

INTERVAL_MS = 10_000


@pytest.fixture(scope="session")
def drivers(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """The stub as it is, and as older drivers were."""
    if find_compiler() is None:
        pytest.skip("there is no C compiler")
    folder = tmp_path_factory.mktemp("driver")
    return {
        "new": build(folder / "new.so"),
        "old": build(folder / "old.so", "-DOLD"),
        "oldest": build(folder / "oldest.so", "-DOLD", "-DNO_V2"),
    }


Load = Callable[[str], Stub]


@pytest.fixture
def load(drivers: Mapping[str, Path], tmp_path: Path) -> Iterator[Load]:
    """Puts one of the drivers under nvidia-ml-py, and takes it away again.

    It is put there, and not found by its name: a name would stay taken in this process.
    """

    def put(name: str) -> Stub:
        stub = Stub(Path(shutil.copy(drivers[name], tmp_path / "driver.so")))
        pynvml.nvmlLib = stub.library
        pynvml._nvmlGetFunctionPointer_cache.clear()
        return stub

    yield put
    pynvml.nvmlLib = None
    pynvml._nvmlGetFunctionPointer_cache.clear()


@pytest.fixture
def stub(load: Load) -> Stub:
    """A driver of today."""
    return load("new")


def write_process(
    proc: Path, pid: int, *, cgroup: str = "/", parent: int = 1, start: int = 7, comm: str = "train"
) -> None:
    """Have a process."""
    folder = proc / str(pid)
    folder.mkdir(parents=True, exist_ok=True)
    fields = [str(pid), f"({comm})", "S", str(parent), *["0"] * 17, str(start), *["0"] * 30]
    (folder / "stat").write_text(" ".join(fields))
    (folder / "cgroup").write_text(f"0::{cgroup}\n")
    (folder / "comm").write_text(f"{comm[:15]}\n")


def write_gpu(proc: Path, address: str, uuid: str, minor: int, **more: str) -> None:
    """Have the kernel list a GPU."""
    folder = proc / "driver" / "nvidia" / "gpus" / address
    folder.mkdir(parents=True)
    lines = [
        f"Model: \t\t {A100}",
        "IRQ:   \t\t 18",
        f"GPU UUID: \t {uuid}",
        "Video BIOS: \t 92.00.45.00.03",
        "Bus Type: \t PCIe",
        f"Bus Location: \t {address}",
        f"Device Minor: \t {minor}",
        *(f"{name.replace('_', ' ')}:\t {value}" for name, value in more.items()),
    ]
    (folder / "information").write_text("\n".join(lines) + "\n")


def holding(
    key: str,
    *devices: str | tuple[str, int],
    since_ms: int,
    cgroup: str | None = None,
    pids: tuple[int, ...] = (),
    ended_ms: int | None = None,
) -> Run:
    """A run that holds whole devices, or (device, base units)."""
    shares = [(device, DEVICE_UNITS) if isinstance(device, str) else device for device in devices]
    return Run(
        key=RunKey(key),
        provider="files",
        job_id=key,
        job_name=key,
        started_at_ms=since_ms,
        ended_at_ms=ended_ms,
        quotas={},
        devices=tuple(
            DeviceShare(type=ResourceType.GPU, id=id_, model="m", share=share)
            for id_, share in shares
        ),
        cgroup=f"/jobs/{key}" if cgroup is None else cgroup,
        pids=pids,
    )


@dataclass
class Machine:
    """The sampler on a machine with the stub."""

    stub: Stub
    proc: Path
    time: FakeTime
    sampler: NvidiaSampler
    told: list[int]  # one for each time that the devices were said to have changed

    def now_ms(self) -> int:
        """Agent time."""
        return self.time.wall_ns() // 1_000_000

    def now_us(self) -> int:
        """The driver's clock."""
        return self.time.wall_ns() // 1_000

    def pass_seconds(self, seconds: float) -> None:
        """Let time pass."""
        self.time.pass_ms(round(seconds * 1000))

    def sample(self, *runs: Run) -> dict[tuple[str, str], int]:
        """What is read now, by run and device."""
        readings = self.sampler.sample(runs)
        return {(key.run, str(key.device)): reading.value for key, reading in readings.items()}

    def look(self, seconds: float = 0) -> None:
        """Have the worker look, after some time."""
        self.pass_seconds(seconds)
        assert self.sampler._worker.ask(60)

    def ring(self, gpu: int, *pieces: tuple[float, int], step_ms: int = 200) -> None:
        """Have the driver's buffer hold so many seconds at so many per cent, up to now."""
        values = [
            value for seconds, value in pieces for _ in range(round(seconds * 1000) // step_ms)
        ]
        first_us = self.now_us() - (len(values) - 1) * step_ms * 1000
        samples = [(first_us + at * step_ms * 1000, value) for at, value in enumerate(values)]
        self.stub.gpus[gpu].fill_ring(samples)

    def after(self, seconds: float, *runs: Run) -> dict[tuple[str, str], int]:
        """What is read after some time."""
        self.pass_seconds(seconds)
        return self.sample(*runs)

    def devices(self) -> dict[str, Device]:
        """The inventory by uuid."""
        return {device.id: device for device in self.sampler.devices()}

    def up(self) -> set[str]:
        """The devices that are up."""
        return {device.id for device in self.sampler.devices() if device.is_up}

    def use(self, gpu: int, *processes: tuple[int, int]) -> None:
        """Have processes on a GPU that used so many per cent until now."""
        stamp = self.now_us()
        self.stub.gpus[gpu].run(
            *(StubProcess(pid=pid, weight=weight, stamp=stamp) for pid, weight in processes)
        )

    def run_in(self, run: Run, *pids: int) -> None:
        """Have processes in the cgroup of a run."""
        for pid in pids:
            write_process(self.proc, pid, cgroup=f"{run.cgroup}/inner")


class Boot(Protocol):
    """Starts the sampler on a driver.

    `is_listed`: the kernel lists the GPUs, too. `wait_seconds`: what anybody waits for it.
    """

    def __call__(self, stub: Stub, *, is_listed: bool = ..., wait_seconds: float = ...) -> Machine:
        """Start it."""
        ...


@pytest.fixture
def boot(tmp_path: Path) -> Iterator[Boot]:
    """See `Boot`."""
    machines: list[Machine] = []

    def go(stub: Stub, *, is_listed: bool = False, wait_seconds: float = 60) -> Machine:
        proc = tmp_path / "proc"
        proc.mkdir()
        for gpu in stub.gpus if is_listed else ():
            write_gpu(proc, f"0000:{gpu.bus:02x}:00.0", gpu.uuid.decode(), gpu.minor)
        time, told = FakeTime(), list[int]()
        sampler = NvidiaSampler(
            Driver(Library(str(stub.path)), str(proc)),
            Owners(ProcFs(str(proc)), str(proc)),
            time,
            lambda: time.wall_ns() // 1_000_000,
            interval_ms=INTERVAL_MS,
            is_expected=True,
            told=lambda: told.append(1),
            wait_seconds=wait_seconds,
        )
        machine = Machine(stub, proc, time, sampler, told)
        machines.append(machine)
        sampler.start(wait_seconds)
        return machine

    yield go
    for machine in machines:
        machine.stub.heal()
        machine.sampler.close()


@pytest.fixture
def machine(boot: Boot, stub: Stub) -> Machine:
    """A machine with eight A100 and a driver of today."""
    return boot(stub)
