"""A machine's clocks as an agent sees them, moved by a test: see shim.c."""

import mmap
import struct
import subprocess
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

from tests.unit.agent.samplers.nvidia.stub import find_compiler

_SOURCE = Path(__file__).with_name("shim.c")
_SHIFTS = struct.Struct("=qq")


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
        path.write_bytes(_SHIFTS.pack(0, 0))
        with path.open("r+b") as file:
            self._shifts = mmap.mmap(file.fileno(), _SHIFTS.size)
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
        self._move(by, timedelta(0))

    def suspend(self, length: timedelta) -> None:
        """Let the machine sleep: both clocks go on without it."""
        self._move(length, length)

    def reboot(self, *, boottime: bool = True) -> None:
        """Be in another boot, a minute after its start."""
        self._boot_id.write_text(f"{uuid4()}\n")
        if boottime:
            now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
            wall_ns, _ = _SHIFTS.unpack_from(self._shifts)
            _SHIFTS.pack_into(self._shifts, 0, wall_ns, 60 * 10**9 - now_ns)

    def now(self) -> datetime:
        """What the wall clock says."""
        wall_ns, _ = _SHIFTS.unpack_from(self._shifts)
        ns = time.clock_gettime_ns(time.CLOCK_REALTIME) + wall_ns
        return datetime.fromtimestamp(ns // 10**9, UTC) + timedelta(microseconds=ns % 10**9 // 1000)

    def elapsed(self) -> timedelta:
        """Time since the boot, asleep or not."""
        _, boot_ns = _SHIFTS.unpack_from(self._shifts)
        ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) + boot_ns
        return timedelta(microseconds=ns // 1000)

    def _move(self, wall: timedelta, boot: timedelta) -> None:
        shifts = _SHIFTS.unpack_from(self._shifts)
        moved = [
            before + by // timedelta(microseconds=1) * 1000
            for before, by in zip(shifts, (wall, boot), strict=True)
        ]
        _SHIFTS.pack_into(self._shifts, 0, *moved)
