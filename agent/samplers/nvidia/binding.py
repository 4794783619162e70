"""What we need of nvidia-ml-py, which comes without types. Nothing runs in here.

The names are NVML's, so that they can be looked up in its documentation.
"""

# ruff: noqa: N802, N815, D102

import ctypes
from collections.abc import Callable, MutableSequence, Sequence
from typing import NewType, Protocol

Handle = NewType("Handle", object)
"""What NVML knows a GPU, a MIG device or a sample by; void after a shutdown."""


class Value(Protocol):
    """A number that the binding hands out as ctypes holds it: even 1 == 1 is False."""

    value: int


class Pci(Protocol):
    """Where a GPU is plugged in; its function is always 0."""

    domain: int
    bus: int
    device: int


class Rates(Protocol):
    """Per cent of the last sixth of a second to second."""

    gpu: int


class Memory(Protocol):
    """Bytes; version 2 does not count as used what the driver keeps for itself."""

    total: int
    used: int


class Attributes(Protocol):
    """Of a MIG device: its slices of compute, and its memory."""

    gpuInstanceSliceCount: int
    computeInstanceSliceCount: int
    memorySizeMB: int


class ProcessSample(Protocol):
    """What one process used at one instant, in microseconds of the wall clock."""

    pid: int
    timeStamp: int
    smUtil: int


class AccountingStats(Protocol):
    """What one process has used since its start, in microseconds of the wall clock."""

    isRunning: int
    sumGpuUtil: int  # grows by the utilisation at each of the driver's samples
    startTime: int


class Metric(Protocol):
    """One figure between two GPM samples."""

    metricId: int
    nvmlReturn: int
    value: float


class MetricsGet(Protocol):
    """The question for figures between two GPM samples."""

    version: int
    numMetrics: int
    sample1: Handle
    sample2: Handle
    metrics: MutableSequence[Metric]


class GpmSupport(Protocol):
    """Whether the GPU has GPM."""

    isSupportedDevice: int


class Binding(Protocol):
    """The module `pynvml`. Every function raises its NVMLError."""

    NVMLError: type[Exception]
    nvmlLib: ctypes.CDLL | None
    nvmlMemory_v2: int
    c_nvmlGpmMetricsGet_t: Callable[[], MetricsGet]

    def nvmlInitWithFlags(self, flags: int, /) -> None: ...
    def nvmlShutdown(self) -> None: ...
    def nvmlSystemGetDriverVersion(self) -> str: ...
    def nvmlDeviceGetCount(self) -> int: ...
    def nvmlDeviceGetHandleByIndex(self, index: int, /) -> Handle: ...
    def nvmlDeviceGetUUID(self, gpu: Handle, /) -> str: ...
    def nvmlDeviceGetName(self, gpu: Handle, /) -> str: ...
    def nvmlDeviceGetMinorNumber(self, gpu: Handle, /) -> int: ...
    def nvmlDeviceGetPciInfo(self, gpu: Handle, /) -> Pci: ...
    def nvmlDeviceGetUtilizationRates(self, gpu: Handle, /) -> Rates: ...
    def nvmlDeviceGetMemoryInfo(self, gpu: Handle, version: int | None = None, /) -> Memory: ...
    def nvmlDeviceGetTotalEnergyConsumption(self, gpu: Handle, /) -> int: ...
    def nvmlDeviceGetProcessUtilization(
        self, gpu: Handle, since_us: int, /
    ) -> Sequence[ProcessSample]: ...
    def nvmlDeviceGetProcessesUtilizationInfo(
        self, gpu: Handle, since_us: int, /
    ) -> Sequence[ProcessSample]: ...
    def nvmlDeviceGetAccountingMode(self, gpu: Handle, /) -> int: ...
    def nvmlDeviceGetAccountingStats_v2(self, gpu: Handle, pid: int, /) -> AccountingStats: ...
    def nvmlDeviceGetMigMode(self, gpu: Handle, /) -> Sequence[int]: ...
    def nvmlDeviceGetMaxMigDeviceCount(self, gpu: Handle, /) -> int: ...
    def nvmlDeviceGetMigDeviceHandleByIndex(self, gpu: Handle, index: int, /) -> Handle: ...
    def nvmlDeviceIsMigDeviceHandle(self, device: Handle, /) -> Value: ...
    def nvmlDeviceGetGpuInstanceId(self, mig: Handle, /) -> int: ...
    def nvmlDeviceGetAttributes_v2(self, mig: Handle, /) -> Attributes: ...
    def nvmlGpmQueryDeviceSupport(self, gpu: Handle, /) -> GpmSupport: ...
    def nvmlGpmSampleAlloc(self) -> Handle: ...
    def nvmlGpmSampleFree(self, sample: Handle, /) -> None: ...
    def nvmlGpmMigSampleGet(self, gpu: Handle, instance: int, sample: Handle, /) -> Handle: ...
    def nvmlGpmMetricsGet(self, question: MetricsGet, /) -> MetricsGet: ...
