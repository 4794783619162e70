"""The `nvidia` sampler: GPUs and MIG devices, through nvidia-ml-py.

    sampler      what the daemon asks; answers at once
    ├── ledger       whose the use of a device was (pure)     timeline   spans of use (pure)
    └── worker       a thread, because the driver may hang
        ├── driver       sessions with the driver: lost, found, replaced
        │   ├── library, binding    NVML and its errors
        │   └── gpus, static        what there is: by NVML, by /proc
        ├── survey       how busy: utilisation
        └── sharing      whose: weights, processlist, owners

A reading is the mean of a device's utilisation since the run's last reading, in base units;
what a run holds of a device is the most that it is told to use. What could not be read is
absent. Processes are looked at only on devices that several runs hold.
"""

from agent.clock import SystemTime
from agent.context import Context
from agent.procfs import ProcFs
from agent.samplers import Sampler
from agent.samplers.nvidia.driver import Driver
from agent.samplers.nvidia.library import Library, preload
from agent.samplers.nvidia.owners import Owners
from agent.samplers.nvidia.sampler import NvidiaSampler
from agent.samplers.nvidia.saved import SavedGpus
from agent.samplers.nvidia.state import DeviceState, DriverState
from agent.samplers.nvidia.static import has_hardware, has_module, read_gpus

__all__ = ["DeviceState", "DriverState", "NvidiaSampler", "SavedGpus", "open_nvidia_sampler"]

_START_SECONDS = 5.0
"""So long the first look may take before the agent begins; without persistence a GPU takes one."""


def open_nvidia_sampler(context: Context) -> Sampler | None:
    """Make the sampler, where there is NVIDIA's library or its kernel module."""
    settings = context.settings
    proc = settings.at("/proc")
    if not context.is_live:
        gpus = read_gpus(proc)
        return SavedGpus(gpus) if gpus else None
    path = settings.nvidia.library
    is_loaded = has_module(proc)
    if not preload(path) and not is_loaded:
        return None
    sampler = NvidiaSampler(
        Driver(Library(path), proc),
        Owners(ProcFs(proc), proc),
        SystemTime(),
        context.now_ms,
        interval_ms=settings.agent.sample_interval_seconds * 1_000,
        is_expected=is_loaded or has_hardware(settings.at("/sys")),
        told=context.wake,
    )
    sampler.start(_START_SECONDS)
    return sampler
