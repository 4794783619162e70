"""NVML through nvidia-ml-py: loaded only where it is, its errors as ours.

Sample buffers and process lists are asked for past the binding's own wrappers, of the
library that it has loaded (`Library.function`): its wrapper makes an object of each sample,
at ten times the cost, and its struct of a process is not always the driver's.
"""

import ctypes
from collections.abc import Callable, Sequence
from contextlib import suppress
from enum import Enum
from importlib import import_module
from pathlib import Path
from typing import Final, ParamSpec, TypeVar, cast

from agent.samplers.nvidia.binding import Binding

SONAME = "libnvidia-ml.so.1"
PLACES = (
    "/run/nvidia/driver/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1",  # the GPU operator's
    "/run/nvidia/driver/usr/lib/aarch64-linux-gnu/libnvidia-ml.so.1",
    "/run/nvidia/driver/usr/lib64/libnvidia-ml.so.1",
    "/home/kubernetes/bin/nvidia/lib64/libnvidia-ml.so.1",  # Google's nodes
    "/opt/drivers/nvidia/lib64/libnvidia-ml.so.1",
    "/usr/lib/wsl/lib/libnvidia-ml.so.1",
)
"""Where the library is on machines whose loader does not know of it."""

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Code:
    """The driver's codes that something is done about; the others pass."""

    SUCCESS: Final = 0
    UNINITIALIZED: Final = 1
    NOT_SUPPORTED: Final = 3
    NO_PERMISSION: Final = 4
    NOT_FOUND: Final = 6
    INSUFFICIENT_SIZE: Final = 7
    DRIVER_NOT_LOADED: Final = 9
    LIBRARY_NOT_FOUND: Final = 12
    FUNCTION_NOT_FOUND: Final = 13
    GPU_IS_LOST: Final = 15
    RESET_REQUIRED: Final = 16
    VERSION_MISMATCH: Final = 18
    ARGUMENT_VERSION: Final = 25
    DEPRECATED: Final = 26
    GPU_NOT_FOUND: Final = 28
    UNKNOWN: Final = 999


class Outcome(Enum):
    """What an error means for who called."""

    ABSENT = "this GPU or this driver cannot tell: it is not asked again"
    DOWN = "the driver has lost the GPU"
    GONE = "the driver is not there: begin anew"
    EMPTY = "there is nothing to tell"
    GREW = "the answer has outgrown the room made for it: ask once more"
    PASSING = "it may work next time"


_OUTCOMES = {
    Code.SUCCESS: Outcome.EMPTY,  # the binding raises it when a probe for the size succeeds
    Code.NOT_FOUND: Outcome.EMPTY,
    Code.NOT_SUPPORTED: Outcome.ABSENT,
    Code.NO_PERMISSION: Outcome.ABSENT,
    Code.FUNCTION_NOT_FOUND: Outcome.ABSENT,
    Code.ARGUMENT_VERSION: Outcome.ABSENT,
    Code.DEPRECATED: Outcome.ABSENT,
    Code.GPU_IS_LOST: Outcome.DOWN,
    Code.RESET_REQUIRED: Outcome.DOWN,
    Code.GPU_NOT_FOUND: Outcome.DOWN,
    Code.UNINITIALIZED: Outcome.GONE,
    Code.DRIVER_NOT_LOADED: Outcome.GONE,
    Code.LIBRARY_NOT_FOUND: Outcome.GONE,
    Code.VERSION_MISMATCH: Outcome.GONE,
    Code.INSUFFICIENT_SIZE: Outcome.GREW,
}


class NvmlError(Exception):
    """A call of NVML failed; `code` is the driver's."""

    def __init__(self, code: int, message: str) -> None:
        """Take the driver's code and its words for it."""
        self.code = code
        super().__init__(f"{message} (NVML error {code})")

    @property
    def outcome(self) -> Outcome:
        """What it means."""
        return _OUTCOMES.get(self.code, Outcome.PASSING)


class Library:
    """NVML between `open` and `close`; for one thread.

    Raises in every call:
        NvmlError: the driver's answer.
    """

    def __init__(self, path: str = "") -> None:
        """Use the library at `path`, else the one that the system or `PLACES` have."""
        self._path = path
        self._binding: Binding | None = None
        self._is_open = False

    @property
    def binding(self) -> Binding:
        """The module; importing it takes 3.4 MiB, so not before it is needed."""
        if self._binding is None:
            self._binding = cast("Binding", import_module("pynvml"))
        return self._binding

    def open(self) -> None:
        """Begin to talk to the driver."""
        preload(self._path)
        self.call(self.binding.nvmlInitWithFlags, 0)
        self._is_open = True

    def close(self) -> None:
        """End it, whatever the driver says to that; all handles are void."""
        if self._is_open:
            self._is_open = False
            with suppress(NvmlError):
                self.call(self.binding.nvmlShutdown)

    def call(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Call a function of the binding."""
        try:
            return function(*args, **kwargs)
        except self.binding.NVMLError as error:
            code: int = getattr(error, "value", Code.UNKNOWN)
            raise NvmlError(code, str(error)) from error

    def call_growing(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Call one that makes room and then asks; once more where the answer grew meanwhile."""
        try:
            return self.call(function, *args, **kwargs)
        except NvmlError as error:
            if error.outcome is not Outcome.GREW:
                raise
        return self.call(function, *args, **kwargs)

    def function(self, symbol: str) -> Callable[..., int]:
        """A function of the library itself; it returns a code."""
        library = self.binding.nvmlLib
        try:
            return cast("Callable[..., int]", getattr(library, symbol))
        except AttributeError as error:
            raise NvmlError(Code.FUNCTION_NOT_FOUND, f"the driver has no {symbol}") from error


def preload(path: str = "") -> bool:
    """Load the library, so that the binding finds it by its name; whether there is one.

    Which file has the name decides the first who loads it: a path that is given, then what
    the loader knows, then `PLACES`.
    """
    candidates: Sequence[str] = (path,) if path else (SONAME, *PLACES)
    for candidate in candidates:
        with suppress(OSError):
            ctypes.CDLL(candidate)
            return True
    return False


def is_replaced(maps: str = "/proc/self/maps") -> bool:
    """Whether the library's file that we have loaded is no longer there: a new one is."""
    try:
        lines = Path(maps).read_text(errors="replace").splitlines()
    except OSError:
        return False
    return any("libnvidia-ml" in line and line.endswith(" (deleted)") for line in lines)
