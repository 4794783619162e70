"""A machine's clocks as an agent sees them, moved by a test: see shim.c."""

import mmap
import subprocess
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

from tests.unit.agent.samplers.nvidia.stub import find_compiler

_SOURCE = Path(__file__).with_name("shim.c")
_SET, _SLEPT, _BOOTED = range(3)
_SHIFTS = 3


class Clocks:
    """One machine's wall clock and boot time; `env` gives them to a process."""

    def __init__(self, folder: Path) -> None:
        """Build the shim in `folder`; the clocks are right."""
        folder.mkdir(parents=True, exist_ok=True)
        self._library = folder / "shim.so"
        self._boot_id = folder / "boot_id"
        compiler = find_compiler()
        assert compiler is not None
        command = [compiler, "-O2", "-Wall", "-shared", "-fPIC", "-o", str(self._library)]
        subprocess.run([*command, str(_SOURCE), "-ldl"], check=True)
        path = folder / "clocks"
        path.write_bytes(bytes(8 * _SHIFTS))
        with path.open("r+b") as file:  # numbers are stored whole: nobody reads half of one
            self._shifts = memoryview(mmap.mmap(file.fileno(), 8 * _SHIFTS)).cast("q")
        self._path = path
        self.reboot(boottime=False)

    @property
    def env(self) -> Mapping[str, str]:
        """For a process that shall have these clocks."""
        return {
            "LD_PRELOAD": str(self._library),
            "FAULT_CLOCKS": str(self._path),
            "FAULT_BOOT_ID": str(self._boot_id),
        }

    def set_wall(self, by: timedelta) -> None:
        """Set the wall clock."""
        self._shifts[_SET] += _ns(by)

    def suspend(self, length: timedelta) -> None:
        """Let the machine sleep: both clocks go on without it, at the same instant."""
        self._shifts[_SLEPT] += _ns(length)

    def reboot(self, *, boottime: bool = True) -> None:
        """Be in another boot, a minute after its start."""
        self._boot_id.write_text(f"{uuid4()}\n")
        if boottime:
            now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) + self._shifts[_SLEPT]
            self._shifts[_BOOTED] = 60 * 10**9 - now_ns

    def now(self) -> datetime:
        """What the wall clock says."""
        ns = time.clock_gettime_ns(time.CLOCK_REALTIME) + self._shifts[_SET] + self._shifts[_SLEPT]
        return datetime.fromtimestamp(ns // 10**9, UTC) + timedelta(microseconds=ns % 10**9 // 1000)

    def elapsed(self) -> timedelta:
        """Time since the boot, asleep or not."""
        ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        ns += self._shifts[_BOOTED] + self._shifts[_SLEPT]
        return timedelta(microseconds=ns // 1000)


def _ns(length: timedelta) -> int:
    return length // timedelta(microseconds=1) * 1000
