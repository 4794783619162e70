"""Which processes have a GPU open. It holds the driver's lock for milliseconds: ask seldom.

The driver fills an array of structs whose size it has changed without telling: 24 bytes
are documented, R535 had 32 for a while, another one 16. So the room is filled with a
pattern first, and an array is only believed when its stride explains how much of the
pattern is gone, or at least makes every process one that exists.
"""

import ctypes
import struct
from collections.abc import Callable, Sequence
from typing import NamedTuple

from agent.samplers.nvidia.binding import Handle
from agent.samplers.nvidia.library import Code, Library, NvmlError, Outcome

KINDS: Sequence[str] = ("Compute", "MPSCompute", "Graphics")
_VERSIONS = ("_v3", "_v2", "")
"""Newest first: a driver before 510.39 has no third one."""

_STRIDES = (24, 32, 16)
_FILL = b"\xa5"
_MAX_PROCESSES = 4096
_PID, _INSTANCE = struct.Struct("=I"), struct.Struct("=I")
_INSTANCE_AT = 16


class GpuProcess(NamedTuple):
    """A process that has the GPU open; `instance` None = the list does not say."""

    pid: int
    instance: int | None


class ProcessLists:
    """The lists of one GPU or MIG device; remembers what its driver has."""

    def __init__(self) -> None:
        """Try the newest call of each kind first."""
        self._versions = dict.fromkeys(KINDS, 0)

    def read(
        self, library: Library, device: Handle, exists: Callable[[int], bool]
    ) -> Sequence[GpuProcess] | None:
        """Every process once; None = the driver does not tell, or nothing believable.

        Raises:
            NvmlError: the driver has lost the GPU, or is gone.
        """
        found: dict[int, GpuProcess] = {}
        is_told = False
        for kind in KINDS:
            listed = self._read_kind(library, device, kind, exists)
            if listed is not None:
                is_told = True
                found |= {process.pid: process for process in listed}
            elif kind == "Compute":
                return None
        return list(found.values()) if is_told else None

    def _read_kind(
        self, library: Library, device: Handle, kind: str, exists: Callable[[int], bool]
    ) -> Sequence[GpuProcess] | None:
        while self._versions[kind] < len(_VERSIONS):
            symbol = f"nvmlDeviceGet{kind}RunningProcesses{_VERSIONS[self._versions[kind]]}"
            try:
                return _read_believable(library.function(symbol), device, exists)
            except NvmlError as error:
                if error.outcome in (Outcome.DOWN, Outcome.GONE):
                    raise
                if error.outcome is not Outcome.ABSENT:
                    return None
                is_missing = error.code == Code.FUNCTION_NOT_FOUND
                self._versions[kind] += 1 if is_missing else len(_VERSIONS)
        return None


def _read_believable(
    function: Callable[..., int], device: Handle, exists: Callable[[int], bool]
) -> Sequence[GpuProcess] | None:
    """Ask, and once more where a process ended or began meanwhile."""
    for attempt in (1, 2):
        try:
            data, count = _read_raw(function, device)
        except NvmlError as error:
            if error.outcome is Outcome.GREW and attempt == 1:
                continue
            raise
        processes = parse(data, count, exists)
        if processes is not None:
            return processes
    return None


def _read_raw(function: Callable[..., int], device: Handle) -> tuple[bytes, int]:
    """The room as the driver left it, and how many structs are in it."""
    count = ctypes.c_uint(0)
    code = function(device, ctypes.byref(count), None)
    if code == Code.SUCCESS:
        return b"", 0
    if code != Code.INSUFFICIENT_SIZE:
        raise NvmlError(code, "the processes of a GPU cannot be listed")
    count.value = min(count.value * 2 + 5, _MAX_PROCESSES)
    room = ctypes.create_string_buffer(_FILL * (count.value * max(_STRIDES)))
    code = function(device, ctypes.byref(count), room)
    if code != Code.SUCCESS:
        raise NvmlError(code, "the processes of a GPU cannot be listed")
    return room.raw[:-1], min(count.value, _MAX_PROCESSES)


def parse(data: bytes, count: int, exists: Callable[[int], bool]) -> Sequence[GpuProcess] | None:
    """Take the array apart; None = no stride makes every process one that exists."""
    written = len(data.rstrip(_FILL))
    explaining = [size for size in _STRIDES if size * (count - 1) < written <= size * count]
    explaining.sort(key=lambda size: size * count - written)
    for stride in dict.fromkeys([*explaining, *_STRIDES]):
        processes = [_take(data, at * stride, stride) for at in range(count)]
        if all(process.pid and exists(process.pid) for process in processes):
            return processes
    return None


def _take(data: bytes, at: int, stride: int) -> GpuProcess:
    (pid,) = _PID.unpack_from(data, at)
    has_instance = stride >= _INSTANCE_AT + 8
    instance = _INSTANCE.unpack_from(data, at + _INSTANCE_AT)[0] if has_instance else None
    return GpuProcess(pid, instance)
