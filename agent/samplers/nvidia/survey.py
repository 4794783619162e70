"""One look at all GPUs: how busy they were since the last one, how full they are."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from agent.samplers.nvidia.binding import Handle, Memory
from agent.samplers.nvidia.driver import Driver
from agent.samplers.nvidia.gpus import Calls, Gpu
from agent.samplers.nvidia.library import NvmlError
from agent.samplers.nvidia.timeline import Span
from agent.samplers.nvidia.utilisation import read_rates

_FIRST_MS = 60_000
"""So far back what is in the driver's buffer counts at the first look."""


class Facts(NamedTuple):
    """Of one device besides its use; None = it does not tell."""

    memory: Memory | None
    energy_mj: int | None


class Surveyor:
    """Asks the GPUs of a driver that is prepared.

    Raises in every call:
        SamplerError: the driver is gone.
    """

    def __init__(self, driver: Driver, interval_ms: int) -> None:
        """Look at these GPUs about every `interval_ms`."""
        self._driver = driver
        self._library = driver.library
        self._interval_ms = interval_ms

    def measure(self, now_ms: int) -> Mapping[str, Sequence[Span]]:
        """How busy each device was since the last look, in base units."""
        measured: dict[str, Sequence[Span]] = {}
        troubled = 0
        gpus = self._driver.living()
        for gpu in gpus:
            gpu.calls.begin()
            try:
                found = self._measure(gpu, now_ms)
            except NvmlError as error:
                self._driver.suffer(gpu, error, now_ms)
            else:
                measured |= found
                troubled += gpu.calls.trouble is not None and not any(found.values())
        self._driver.note(is_barren=0 < troubled == len(gpus), now_ms=now_ms)
        return measured

    def facts(self, now_ms: int) -> Mapping[str, Facts]:
        """Memory and energy of each device."""
        facts: dict[str, Facts] = {}
        energy = self._library.binding.nvmlDeviceGetTotalEnergyConsumption
        for gpu in self._driver.living():
            try:
                energy_mj = gpu.calls.ask("energy", self._library.call, energy, gpu.handle)
                facts[gpu.device.id] = Facts(self._memory(gpu.calls, gpu.handle), energy_mj)
                for mig in gpu.migs or ():
                    facts[mig.device.id] = Facts(self._memory(mig.calls, mig.handle), None)
            except NvmlError as error:
                self._driver.suffer(gpu, error, now_ms)
        return facts

    def _measure(self, gpu: Gpu, now_ms: int) -> Mapping[str, Sequence[Span]]:
        since_ms, gpu.looked_ms = gpu.looked_ms, now_ms
        measured = {gpu.device.id: self._measure_gpu(gpu, since_ms, now_ms)}
        for mig in gpu.migs or ():
            if mig.is_alone and self._has_gpm(gpu):
                read, units = mig.gpm.read, mig.device.units
                ask = (self._library, gpu.handle, mig.instance, units, now_ms)
                measured[mig.device.id] = mig.calls.ask("gpm", read, *ask) or ()
        return measured

    def _measure_gpu(self, gpu: Gpu, since_ms: int | None, now_ms: int) -> Sequence[Span]:
        from_ms = now_ms - _FIRST_MS if since_ms is None else since_ms
        ask = (self._library, gpu.handle)
        if spans := gpu.calls.ask("samples", gpu.ring.read, *ask, from_ms, now_ms):
            return spans
        # A single mean holds for an interval, not for an outage.
        held_ms = None if since_ms is None else max(since_ms, now_ms - self._interval_ms * 3 // 2)
        return gpu.calls.ask("rates", read_rates, *ask, held_ms, now_ms) or ()

    def _has_gpm(self, gpu: Gpu) -> bool:
        if gpu.has_gpm is None:
            query = self._library.binding.nvmlGpmQueryDeviceSupport
            support = gpu.calls.ask("gpm", self._library.call, query, gpu.handle)
            gpu.has_gpm = bool(support and support.isSupportedDevice)
        return gpu.has_gpm

    def _memory(self, calls: Calls, device: Handle) -> Memory | None:
        call, binding = self._library.call, self._library.binding
        info = binding.nvmlDeviceGetMemoryInfo
        found = calls.ask("memory v2", call, info, device, binding.nvmlMemory_v2)
        if found is None and "memory v2" in calls.absent:
            found = calls.ask("memory", call, info, device)
        return found
