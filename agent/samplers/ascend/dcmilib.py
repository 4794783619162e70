"""libdcmi by ctypes: finding it, its structures, and what its errors mean.

Declarations as in dcmi_interface_api.h of the vendor's exporter.
"""

import ctypes
from collections.abc import Sequence
from enum import Enum, auto

LIBRARIES = (
    "libdcmi.so",
    "/usr/local/Ascend/driver/lib64/driver/libdcmi.so",
    "/usr/local/dcmi/libdcmi.so",
)
"""Where it is looked for, in this order; the first by the linker's own search."""

OK = 0
UNINITIALISED = -99997
FUNCTION_MISSING = -99998


class Fate(Enum):
    """What an answer means for the question."""

    OK = auto()
    UNSUPPORTED = auto()  # never ask this chip again
    PASSING = auto()  # not now: not ready, busy, too slow
    LOST = auto()  # the chip is gone


_UNSUPPORTED = frozenset({-8001, -8255, FUNCTION_MISSING})
"""Old drivers call an unknown question an invalid parameter."""
_LOST = frozenset({-8007, -8008, -8015})

_REASONS = {
    -8001: "invalid parameter",
    -8002: "not permitted; the agent must be root",
    -8005: "inner error",
    -8006: "timeout",
    -8007: "invalid device",
    -8008: "no such device",
    -8009: "ioctl failed",
    -8012: "device not ready",
    -8013: "not in a container",
    -8015: "reset failed",
    -8017: "upgrading",
    -8020: "occupied",
    -8255: "not supported",
    UNINITIALISED: "not initialised",
    FUNCTION_MISSING: "no such function in this version",
}


def fate(code: int) -> Fate:
    """What an error means; an unknown one may pass."""
    if code == OK:
        return Fate.OK
    if code in _UNSUPPORTED:
        return Fate.UNSUPPORTED
    return Fate.LOST if code in _LOST else Fate.PASSING


def reason(code: int) -> str:
    """An error for people."""
    return f"{_REASONS.get(code, 'unknown error')} ({code})"


class ChipInfo(ctypes.Structure):
    """struct dcmi_chip_info."""

    _fields_ = (
        ("chip_type", ctypes.c_char * 32),
        ("chip_name", ctypes.c_char * 32),
        ("chip_ver", ctypes.c_char * 32),
        ("aicore_cnt", ctypes.c_uint),
    )


class DieId(ctypes.Structure):
    """struct dcmi_die_id."""

    _fields_ = (("soc_die", ctypes.c_uint * 5),)


class PcieInfo(ctypes.Structure):
    """struct dcmi_pcie_info_all."""

    _fields_ = (
        ("venderid", ctypes.c_uint),
        ("subvenderid", ctypes.c_uint),
        ("deviceid", ctypes.c_uint),
        ("subdeviceid", ctypes.c_uint),
        ("domain", ctypes.c_int),
        ("bdf_busid", ctypes.c_uint),
        ("bdf_deviceid", ctypes.c_uint),
        ("bdf_funcid", ctypes.c_uint),
        ("reserve", ctypes.c_ubyte * 32),
    )


class _BaseResource(ctypes.Structure):
    _fields_ = (
        ("token", ctypes.c_ulonglong * 3),
        ("vfg_id", ctypes.c_uint),
        ("vip_mode", ctypes.c_ubyte),
        ("reserved", ctypes.c_ubyte * 31),
    )


class _ComputingResource(ctypes.Structure):
    _fields_ = (
        ("aic", ctypes.c_float),
        ("aiv", ctypes.c_float),
        ("queues", ctypes.c_ushort * 8),
        ("memory_size", ctypes.c_ulonglong),
        ("ids", ctypes.c_uint * 4),
        ("cpus", ctypes.c_ushort * 5),
        ("vdev_aicore_utilization", ctypes.c_uint),
        ("vdev_memory_total", ctypes.c_ulonglong),
        ("vdev_memory_free", ctypes.c_ulonglong),
        ("reserved", ctypes.c_ubyte * 12),
    )


class _MediaResource(ctypes.Structure):
    _fields_ = (("engines", ctypes.c_float * 6), ("reserved", ctypes.c_ubyte * 32))


class VdevQuery(ctypes.Structure):
    """struct dcmi_vdev_query_stru, its query_info spread out (which starts aligned to 8)."""

    _fields_ = (
        ("vdev_id", ctypes.c_uint),
        ("padding", ctypes.c_uint),
        ("name", ctypes.c_char * 16),
        ("status", ctypes.c_uint),
        ("is_container_used", ctypes.c_uint),
        ("vfid", ctypes.c_uint),
        ("vfg_id", ctypes.c_uint),
        ("container_id", ctypes.c_ulonglong),
        ("base", _BaseResource),
        ("computing", _ComputingResource),
        ("media", _MediaResource),
    )


class SocTotal(ctypes.Structure):
    """struct dcmi_soc_total_resource."""

    _fields_ = (
        ("vdev_num", ctypes.c_uint),
        ("vdev_id", ctypes.c_uint * 32),
        ("vfg_num", ctypes.c_uint),
        ("vfg_bitmap", ctypes.c_uint),
        ("base", _BaseResource),
        ("computing", _ComputingResource),
        ("media", _MediaResource),
    )


class ProcMem(ctypes.Structure):
    """struct dcmi_proc_mem_info."""

    _fields_ = (("proc_id", ctypes.c_int), ("proc_mem_usage", ctypes.c_ulong))


class DcmiLibrary:
    """A loaded library; every function answers a code, also one that it does not have."""

    def __init__(self, library: ctypes.CDLL) -> None:
        """Call nothing yet."""
        self._library = library

    def call(self, function: str, *arguments: object) -> int:
        """Call one function; pointers by `ctypes.byref`."""
        try:
            found = getattr(self._library, function)
        except AttributeError:
            return FUNCTION_MISSING
        return int(found(*arguments))

    def has(self, function: str) -> bool:
        """Whether this version has the function."""
        return hasattr(self._library, function)


def load_dcmi(candidates: Sequence[str] = LIBRARIES) -> DcmiLibrary | None:
    """Load the first that there is and that speaks this interface; None = none."""
    for name in candidates:
        try:
            library = DcmiLibrary(ctypes.CDLL(name))
        except OSError:
            continue
        if library.has("dcmi_init") and library.has("dcmi_get_card_list"):
            return library
    return None
