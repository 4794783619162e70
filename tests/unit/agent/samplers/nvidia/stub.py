"""Builds the driver of stub.c, and mirrors what lies in it."""

import ctypes
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

SOURCE = Path(__file__).parent / "stub.c"
GPUS, MIGS, SAMPLES, PROCESSES, RULES, CALLS, NAME = 8, 8, 160, 32, 32, 96, 64

A100 = "NVIDIA A100-SXM4-40GB"
GIB = 1 << 30


class StubProcess(ctypes.Structure):
    """A process on a GPU, and what the driver tells of its use."""

    pid: int
    instance: int
    weight: int
    running: int
    stamp: int
    total: int
    started: int
    _fields_ = (
        *((name, ctypes.c_uint) for name in ("pid", "instance", "weight", "running")),
        *((name, ctypes.c_ulonglong) for name in ("stamp", "total", "started")),
    )


class StubMig(ctypes.Structure):
    """A MIG device."""

    is_mig: int
    present: int
    instance: int
    gpu_slices: int
    compute_slices: int
    use: int
    process_count: int
    memory_mb: int
    uuid: bytes
    name: bytes
    processes: "ctypes.Array[StubProcess]"
    _fields_ = (
        *(
            (name, ctypes.c_uint)
            for name in (
                *("is_mig", "present", "instance", "gpu_slices", "compute_slices"),
                *("use", "process_count", "pad"),
            )
        ),
        ("memory_mb", ctypes.c_ulonglong),
        ("uuid", ctypes.c_char * NAME),
        ("name", ctypes.c_char * NAME),
        ("processes", StubProcess * PROCESSES),
    )


class StubGpu(ctypes.Structure):
    """A GPU."""

    is_mig: int
    minor: int
    domain: int
    bus: int
    mig_mode: int
    max_migs: int
    use: int
    sample_count: int
    process_count: int
    sampled_count: int
    accounting: int
    has_gpm: int
    energy_mj: int
    memory_used: int
    memory_total: int
    uuid: bytes
    name: bytes
    stamps: "ctypes.Array[ctypes.c_ulonglong]"
    values: "ctypes.Array[ctypes.c_uint]"
    processes: "ctypes.Array[StubProcess]"
    migs: "ctypes.Array[StubMig]"
    _fields_ = (
        *(
            (name, ctypes.c_uint)
            for name in (
                *("is_mig", "minor", "domain", "bus", "mig_mode", "max_migs", "use"),
                *("sample_count", "process_count", "sampled_count", "accounting", "has_gpm"),
            )
        ),
        *((name, ctypes.c_ulonglong) for name in ("energy_mj", "memory_used", "memory_total")),
        ("uuid", ctypes.c_char * NAME),
        ("name", ctypes.c_char * NAME),
        ("stamps", ctypes.c_ulonglong * SAMPLES),
        ("values", ctypes.c_uint * SAMPLES),
        ("processes", StubProcess * PROCESSES),
        ("migs", StubMig * MIGS),
    )

    def fill_ring(self, samples: Sequence[tuple[int, int]]) -> None:
        """Hold these samples: instants in microseconds, per cent."""
        self.sample_count = len(samples)
        for at, (stamp, value) in enumerate(samples):
            self.stamps[at], self.values[at] = stamp, value

    def run(self, *processes: StubProcess) -> None:
        """Have these processes, and tell what they used."""
        self.process_count = self.sampled_count = len(processes)
        for at, process in enumerate(processes):
            self.processes[at] = process

    def cut(self, index: int, *, slices: int, compute: int = 0, instance: int | None = None) -> str:
        """Have a MIG device of that number; returns its uuid."""
        mig = self.migs[index]
        mig.is_mig = mig.present = self.mig_mode = 1
        mig.gpu_slices, mig.compute_slices = slices, compute or slices
        mig.instance = index + 1 if instance is None else instance
        mig.memory_mb = 4864 * slices
        uuid = f"MIG-{self.uuid.decode()[4:]}-{index}"
        mig.uuid = uuid.encode()
        mig.name = f"{A100} MIG {slices}g.{5 * slices}gb".encode()
        return uuid


class _Rule(ctypes.Structure):
    call: bytes
    gpu: int
    code: int
    is_hanging: int
    _fields_ = (
        ("call", ctypes.c_char * NAME),
        *((name, ctypes.c_int) for name in ("gpu", "code", "is_hanging")),
    )


class _Call(ctypes.Structure):
    call: bytes
    count: int
    _fields_ = (("call", ctypes.c_char * NAME), ("count", ctypes.c_long))


class _Driver(ctypes.Structure):
    count: int
    stride: int
    growing: int
    probe_succeeds: int
    zero_tail: int
    is_double: int
    asked_since: int
    rules: "ctypes.Array[_Rule]"
    calls: "ctypes.Array[_Call]"
    _fields_ = (
        *(
            (name, ctypes.c_uint)
            for name in ("count", "stride", "growing", "probe_succeeds", "zero_tail", "is_double")
        ),
        ("asked_since", ctypes.c_ulonglong),
        ("rules", _Rule * RULES),
        ("calls", _Call * CALLS),
    )


def find_compiler() -> str | None:
    """A C compiler of this machine."""
    return shutil.which("cc") or shutil.which("gcc")


def build(target: Path, *options: str) -> Path:
    """Compile the stub into `target`."""
    compiler = find_compiler()
    assert compiler is not None
    command = [compiler, "-shared", "-fPIC", *options, "-o", str(target), str(SOURCE)]
    subprocess.run(command, check=True)
    return target


class Stub:
    """A loaded driver. A copy of the file for each: one file is loaded once per process."""

    def __init__(self, path: Path) -> None:
        """Load it, and begin with eight idle A100."""
        self.path = path
        self.library = ctypes.CDLL(str(path))
        self.driver = _Driver.in_dll(self.library, "driver")
        self.gpus = (StubGpu * GPUS).in_dll(self.library, "gpus")
        self.driver.count, self.driver.stride = GPUS, 24
        for at, gpu in enumerate(self.gpus):
            gpu.uuid, gpu.name = f"GPU-{at:08x}".encode(), A100.encode()
            gpu.minor, gpu.bus = GPUS - 1 - at, 0x10 + at
            gpu.memory_total, gpu.memory_used, gpu.energy_mj = 40 * GIB, GIB, 1_000_000

    def fail(self, call: str, code: int, gpu: int = -1) -> None:
        """Let a call ("*" = every one) fail from now on: of one GPU, or (-1) of all."""
        self._add(call, gpu, code=code)

    def hang(self, call: str) -> None:
        """Let a call wait until `heal`."""
        self._add(call, -1, is_hanging=1)

    def heal(self) -> None:
        """Let everything work again."""
        for rule in self.driver.rules:
            rule.call, rule.code, rule.is_hanging = b"", 0, 0

    def calls(self, name: str) -> int:
        """How often this was called."""
        found = (call.count for call in self.driver.calls if call.call == name.encode())
        return next(found, 0)

    def _add(self, call: str, gpu: int, *, code: int = 0, is_hanging: int = 0) -> None:
        rule = next(rule for rule in self.driver.rules if not rule.call)
        rule.gpu, rule.code, rule.is_hanging = gpu, code, is_hanging
        rule.call = call.encode()
