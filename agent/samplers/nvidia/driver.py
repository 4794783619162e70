"""The driver: begun to talk to, lost, and found again; for one thread.

What may happen, and what is done about it:

- it is not loaded, its library is missing, or it fails as a whole: ask again, at growing
  intervals; the devices that were seen stay, as not up;
- it loses one GPU (it fell off the bus, or wants a reset): that one is down and not asked
  any more. Only a new session can find it again, so at growing intervals there is one;
- GPUs come and go: where the kernel's list has changed, there is a new session;
- it was replaced under us: the library that we have loaded can never talk to the new
  module. `must_restart` says so, unless a restart would find the same library.
"""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from agent.errors import SamplerError
from agent.model import Device
from agent.samplers.nvidia.gpus import Gpu, all_devices, enumerate_gpus, enumerate_migs
from agent.samplers.nvidia.library import Code, Library, NvmlError, Outcome, is_replaced
from agent.samplers.nvidia.static import read_gpus

MIG_MS = 60_000
"""How often it is looked whether the GPUs are cut anew."""

_BARREN_LOOKS = 3
"""So often in a row nothing but errors may come from all GPUs: then a new session is tried."""

_WORDS = {
    Code.DRIVER_NOT_LOADED: "NVIDIA's driver is not loaded",
    Code.LIBRARY_NOT_FOUND: "NVIDIA's driver has no libnvidia-ml.so.1 that can be loaded",
    Code.VERSION_MISMATCH: "NVIDIA's library and kernel module are of different versions: "
    "reload the module or reboot",
}
_REPLACED = "NVIDIA's driver was replaced under the agent, which has to restart to follow"


class Pause:
    """Growing waits: `first_ms`, then twice as long each time, `most_ms` at most."""

    def __init__(self, first_ms: int, most_ms: int) -> None:
        """Nothing has failed yet."""
        self._first_ms = first_ms
        self._most_ms = most_ms
        self._next_ms = first_ms
        self._due_ms: int | None = None

    def is_over(self, now_ms: int) -> bool:
        """Whether it may be tried (again)."""
        return self._due_ms is None or now_ms >= self._due_ms

    def begin(self, now_ms: int) -> None:
        """It has failed: wait."""
        self._due_ms = now_ms + self._next_ms
        self._next_ms = min(self._next_ms * 2, self._most_ms)

    def reset(self) -> None:
        """It works."""
        self._due_ms, self._next_ms = None, self._first_ms


class Driver:
    """See the module."""

    def __init__(self, library: Library, proc: str) -> None:
        """Know of the GPUs that the kernel lists below `proc`; talk to nobody yet."""
        self.library = library
        self.gpus: Sequence[Gpu] = ()
        self.version: str | None = None
        self.must_restart = False
        self.was_open = False
        self.session = 0  # what was kept of an earlier one is void
        self.devices: tuple[Device, ...] = tuple(read_gpus(proc))
        self._proc = proc
        self._is_open = False
        self._failure: NvmlError | None = None
        self._open_pause = Pause(2_000, 60_000)
        self._lost_pause = Pause(15_000, 300_000)
        self._listed: Sequence[str] = ()
        self._faults: Sequence[str] = ()
        self._barren = 0
        self._migs_ms = 0

    def troubles(self) -> Mapping[str, str]:
        """What is wrong with single devices, by their ids."""
        troubles = {gpu.device.id: gpu.lost or gpu.calls.trouble for gpu in self.gpus}
        troubles |= {
            mig.device.id: mig.calls.trouble for gpu in self.gpus for mig in gpu.migs or ()
        }
        return {device: trouble for device, trouble in troubles.items() if trouble}

    @property
    def faults(self) -> Sequence[str]:
        """What is wrong with single GPUs."""
        lost = [f"GPU {gpu.index}: {gpu.lost}" for gpu in self.gpus if gpu.lost]
        return [*self._faults, *lost]

    def living(self) -> Sequence[Gpu]:
        """The GPUs that can be asked."""
        return [gpu for gpu in self.gpus if gpu.lost is None] if self._is_open else []

    def prepare(self, now_ms: int, *, wants_migs: bool = False) -> None:
        """Make sure that there is a session, and that it is of the GPUs that are there.

        Raises:
            SamplerError: the driver does not answer, or is not to be asked yet.
        """
        try:
            if self._is_open and self._is_outdated(now_ms):
                self._close()
            if not self._is_open:
                self._open(now_ms)
            elif now_ms - self._migs_ms >= (MIG_MS // 12 if wants_migs else MIG_MS):
                self._look_at_migs(now_ms)
        except NvmlError as error:
            raise self.fail(error, now_ms) from error
        except Exception:  # what nobody foresaw leaves no session half begun
            self._close()
            raise

    def suffer(self, gpu: Gpu, error: NvmlError, now_ms: int) -> None:
        """A call for a GPU has failed in a way that concerns more than this call.

        Raises:
            SamplerError: it is the driver that is gone.
        """
        if error.outcome is not Outcome.DOWN:
            raise self.fail(error, now_ms) from error
        gpu.lost = str(error)
        if self._lost_pause.is_over(now_ms):
            self._lost_pause.begin(now_ms)
        self._publish()

    def fail(self, error: NvmlError, now_ms: int) -> SamplerError:
        """The driver has failed as a whole: end the session, and say so."""
        self._close()
        self._failure = error
        self._open_pause.begin(now_ms)
        if error.code == Code.VERSION_MISMATCH:
            self.must_restart = self.was_open or is_replaced()
        self._publish()
        return self._say(error)

    def note(self, *, is_barren: bool, now_ms: int) -> None:
        """How a look at all GPUs went.

        Raises:
            SamplerError: it was the last that could be borne.
        """
        self._barren = self._barren + 1 if is_barren else 0
        if self._barren >= _BARREN_LOOKS:
            self._barren = 0
            trouble = next((gpu.calls.trouble for gpu in self.gpus if gpu.calls.trouble), "")
            raise self.fail(NvmlError(Code.UNKNOWN, trouble or "every call fails"), now_ms)

    def close(self) -> None:
        """Talk to it no more."""
        self._close()

    # Sessions ----------------------------------------------------------------------------

    def _open(self, now_ms: int) -> None:
        if not self._open_pause.is_over(now_ms):
            assert self._failure is not None
            raise self._say(self._failure)
        before = {gpu.device.id: gpu for gpu in self.gpus}
        self.library.open()
        self.version = self.library.call(self.library.binding.nvmlSystemGetDriverVersion)
        self.gpus, self._faults = enumerate_gpus(self.library)
        for gpu in self.gpus:
            if known := before.get(gpu.device.id):
                gpu.looked_ms = known.looked_ms
        self._is_open = self.was_open = True
        self.session += 1
        self._failure = None
        self._open_pause.reset()
        if not self._faults:
            self._lost_pause.reset()
        elif self._lost_pause.is_over(now_ms):
            self._lost_pause.begin(now_ms)
        self._listed, self._migs_ms = self._list(), now_ms
        self._publish()

    def _close(self) -> None:
        if self._is_open:
            self._is_open = False
            for gpu in self.gpus:
                for mig in gpu.migs or ():
                    mig.gpm.close(self.library)
        self.library.close()

    def _is_outdated(self, now_ms: int) -> bool:
        """Whether other GPUs are there than the session has, or a lost one may be back."""
        if self._list() != self._listed:
            return True
        return bool(self.faults) and self._lost_pause.is_over(now_ms)

    def _list(self) -> Sequence[str]:
        with suppress(OSError):
            return sorted(os.listdir(f"{self._proc}/driver/nvidia/gpus"))  # noqa: PTH208
        return ()

    def _look_at_migs(self, now_ms: int) -> None:
        self._migs_ms = now_ms
        for gpu in self.gpus:
            if gpu.lost is None and "mig mode" not in gpu.calls.absent:
                self._cut(gpu, now_ms)
        self._publish()

    def _cut(self, gpu: Gpu, now_ms: int) -> None:
        """Take note of how a GPU is cut now."""
        try:
            migs = enumerate_migs(self.library, gpu)
        except NvmlError as error:
            self.suffer(gpu, error, now_ms)
            return
        old = None if gpu.migs is None else [mig.device for mig in gpu.migs]
        if old == (None if migs is None else [mig.device for mig in migs]):
            return
        for mig in gpu.migs or ():
            mig.gpm.close(self.library)
        gpu.migs = migs
        gpu.calls.absent.clear()

    # What is told ------------------------------------------------------------------------

    def _say(self, error: NvmlError) -> SamplerError:
        words = _REPLACED if self.must_restart else _WORDS.get(error.code, "NVIDIA's driver fails")
        return SamplerError(f"{words}: {error}; GPUs stay unobserved")

    def _publish(self) -> None:
        """All devices ever seen: those that are there first, so that names are theirs."""
        is_ours = self._failure is not None and self._failure.code in (
            Code.VERSION_MISMATCH,
            Code.LIBRARY_NOT_FOUND,
        )  # then the devices work, and only we do not see them
        if self._is_open or not is_ours:
            devices = {device.id: device for device in all_devices(self.living())}
            for device in (*self.devices, *all_devices(self.gpus), *read_gpus(self._proc)):
                devices.setdefault(device.id, replace(device, is_up=False))
            if tuple(devices.values()) != self.devices:
                self.devices = tuple(devices.values())
