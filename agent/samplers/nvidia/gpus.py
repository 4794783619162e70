"""The GPUs and MIG devices as the driver enumerates them, with what is kept for each."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import ParamSpec, TypeVar

from agent.model import DEVICE_UNITS, Device, ResourceType
from agent.samplers.nvidia.binding import Attributes, Handle
from agent.samplers.nvidia.library import Library, NvmlError, Outcome
from agent.samplers.nvidia.processlist import ProcessLists
from agent.samplers.nvidia.static import gpu_names, pci_name, printable
from agent.samplers.nvidia.utilisation import GpmReader, RingReader

_P = ParamSpec("_P")
_T = TypeVar("_T")

_MAX_GPUS = 64
_MAX_SLICES = 8


class Calls:
    """What one GPU or MIG device is asked: what it lacks is not asked again."""

    def __init__(self) -> None:
        """Nothing is known to be missing."""
        self.absent: set[str] = set()
        self.trouble: str | None = None  # what failed for the moment since `begin`

    def begin(self) -> None:
        """Begin a look."""
        self.trouble = None

    def ask(
        self, name: str, call: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs
    ) -> _T | None:
        """Call; None = it has no such thing, or not now.

        Raises:
            NvmlError: the driver has lost the GPU, or is gone.
        """
        if name in self.absent:
            return None
        try:
            return call(*args, **kwargs)
        except NvmlError as error:
            if error.outcome in (Outcome.DOWN, Outcome.GONE):
                raise
            if error.outcome is Outcome.ABSENT:
                self.absent.add(name)
            elif error.outcome is not Outcome.EMPTY:
                self.trouble = str(error)
            return None


@dataclass(slots=True)
class Mig:
    """A MIG device: one compute instance of one GPU instance."""

    handle: Handle
    device: Device
    instance: int
    is_alone: bool = True  # in its GPU instance: what that does, it does
    calls: Calls = field(default_factory=Calls)
    gpm: GpmReader = field(default_factory=GpmReader)
    lists: ProcessLists = field(default_factory=ProcessLists)


@dataclass(slots=True)
class Gpu:
    """A physical GPU; `migs` None = it is not cut."""

    handle: Handle
    device: Device
    index: int
    minor: int | None
    migs: Sequence[Mig] | None = None
    calls: Calls = field(default_factory=Calls)
    ring: RingReader = field(default_factory=RingReader)
    lists: ProcessLists = field(default_factory=ProcessLists)
    has_gpm: bool | None = None  # None = it was not asked yet
    looked_ms: int | None = None
    lost: str | None = None  # why the driver has no access to it any more


def enumerate_gpus(library: Library) -> tuple[Sequence[Gpu], Sequence[str]]:
    """All GPUs that answer, and what the others said.

    Raises:
        NvmlError: the driver is gone.
    """
    gpus: list[Gpu] = []
    faults: list[str] = []
    count = library.call(library.binding.nvmlDeviceGetCount)
    for index in range(min(count, _MAX_GPUS)):
        try:
            gpus.append(_enumerate_gpu(library, index))
        except NvmlError as error:
            if error.outcome is Outcome.GONE:
                raise
            faults.append(f"GPU {index}: {error}")
    return gpus, faults


def enumerate_migs(library: Library, gpu: Gpu) -> Sequence[Mig] | None:
    """The MIG devices of a GPU, some numbers being holes; None = it is not cut into any.

    Raises:
        NvmlError: the driver has lost the GPU, or is gone.
    """
    binding, calls = library.binding, gpu.calls
    mode = calls.ask("mig mode", library.call, binding.nvmlDeviceGetMigMode, gpu.handle)
    if not mode or not mode[0]:
        return None
    most = calls.ask("mig count", library.call, binding.nvmlDeviceGetMaxMigDeviceCount, gpu.handle)
    migs = [mig for index in range(most or 0) if (mig := _find_mig(library, gpu, index, most or 0))]
    for mig in migs:
        mig.is_alone = [other.instance for other in migs].count(mig.instance) == 1
    return migs


def _enumerate_gpu(library: Library, index: int) -> Gpu:
    binding = library.binding
    handle = library.call(binding.nvmlDeviceGetHandleByIndex, index)
    calls = Calls()
    minor = calls.ask("minor", library.call, binding.nvmlDeviceGetMinorNumber, handle)
    pci = calls.ask("pci", library.call, binding.nvmlDeviceGetPciInfo, handle)
    address = pci_name(pci.domain, pci.bus, pci.device) if pci else None
    device = Device(
        type=ResourceType.GPU,
        id=printable(library.call(binding.nvmlDeviceGetUUID, handle)),
        model=printable(library.call(binding.nvmlDeviceGetName, handle)) or "NVIDIA GPU",
        names=gpu_names(index, minor, address),
    )
    gpu = Gpu(handle, device, index, minor, calls=calls)
    gpu.migs = enumerate_migs(library, gpu)
    return gpu


def _find_mig(library: Library, gpu: Gpu, index: int, most: int) -> Mig | None:
    """MIG device number `index`; None = a hole, or one that was just taken away."""
    try:
        return _enumerate_mig(library, gpu, index, most)
    except NvmlError as error:
        if error.outcome in (Outcome.DOWN, Outcome.GONE):
            raise
        return None


def _enumerate_mig(library: Library, gpu: Gpu, index: int, most: int) -> Mig | None:
    binding, call = library.binding, library.call
    handle = call(binding.nvmlDeviceGetMigDeviceHandleByIndex, gpu.handle, index)
    if not call(binding.nvmlDeviceIsMigDeviceHandle, handle).value:
        return None
    instance = call(binding.nvmlDeviceGetGpuInstanceId, handle)
    attributes = call(binding.nvmlDeviceGetAttributes_v2, handle)
    names = {f"{gpu.index}.{instance}"}
    if gpu.minor is not None:
        names.add(f"nvidia{gpu.minor}/gi{instance}")
    device = Device(
        type=ResourceType.GPU,
        id=printable(call(binding.nvmlDeviceGetUUID, handle)),
        model=_mig_model(
            gpu.device.model, printable(call(binding.nvmlDeviceGetName, handle)), attributes
        ),
        units=mig_units(attributes, most),
        parent=gpu.device.id,
        names=frozenset(names),
    )
    return Mig(handle, device, instance)


def mig_units(attributes: Attributes, most: int) -> int:
    """Base units of a MIG device: its slices of the most devices that the GPU can be cut into.

    That is 7, and 4 on an A30. Compute instances divide the slices of their GPU instance.
    """
    slices = attributes.computeInstanceSliceCount or attributes.gpuInstanceSliceCount
    return min(DEVICE_UNITS, DEVICE_UNITS * slices // most)


def _mig_model(parent: str, name: str, attributes: Attributes) -> str:
    """As new drivers call it; an old one gives the GPU's own name."""
    if " MIG " in name:
        return name
    instance, compute = attributes.gpuInstanceSliceCount, attributes.computeInstanceSliceCount
    part = f"{compute}c." if 0 < compute < instance else ""
    return f"{parent} MIG {part}{instance}g.{-(-attributes.memorySizeMB // 1024)}gb"


def all_devices(gpus: Sequence[Gpu]) -> Iterator[Device]:
    """GPUs and MIG devices."""
    for gpu in gpus:
        yield gpu.device
        yield from (mig.device for mig in gpu.migs or ())
