"""Samplers: what each run uses at this instant, and which devices there are.

One file or package per sampler, one line per sampler in `SAMPLERS`. What could not be read
is absent from the answer, never 0. A sampler is a leaf: it knows no other one.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from importlib import import_module
from typing import Protocol, cast, runtime_checkable

from agent.context import Context
from agent.model import Device, MeterKey, Reading, Run, RunKey


class Sampler(Protocol):
    """What the daemon asks of every sampler."""

    @property
    def name(self) -> str:
        """Its name in `SAMPLERS`."""
        ...

    def sample(self, runs: Sequence[Run]) -> Mapping[MeterKey, Reading]:
        """Read what it can of `runs` now; no key but theirs.

        The devices of the runs are resolved: `DeviceShare.id` is a `Device.id`, where one
        is known.

        Raises:
            SamplerError: it cannot work at all now; everything stays unobserved.
        """
        ...

    def forget(self, keys: Collection[RunKey]) -> None:
        """These runs are over: let go of what was kept for them."""
        ...


@runtime_checkable
class DeviceSampler(Sampler, Protocol):
    """A sampler that knows devices, too."""

    def devices(self) -> Sequence[Device]:
        """All devices it has seen since the start, the lost ones as not up; never raises.

        The same object as last time where nothing has changed.
        """
        ...


@runtime_checkable
class TroubledSampler(Sampler, Protocol):
    """A sampler that can say of single runs why it has no reading."""

    def problems(self) -> Mapping[RunKey, str]:
        """What is wrong now, by run."""
        ...


@runtime_checkable
class MappedSampler(Sampler, Protocol):
    """A sampler whose library stays mapped as it was when the process loaded it."""

    @property
    def must_restart(self) -> bool:
        """Whether the library on the disk is another one now: only a new process can load it."""
        ...


_OPENERS: Mapping[str, str] = {
    "cgroup": "agent.samplers.cgroup:open_cgroup_sampler",
    "process": "agent.samplers.process:open_process_sampler",
    "nvidia": "agent.samplers.nvidia:open_nvidia_sampler",
    "ascend": "agent.samplers.ascend:open_ascend_sampler",
    "intel": "agent.samplers.intel:open_intel_sampler",
    "storage": "agent.samplers.storage:open_storage_sampler",
}


def _opener(name: str) -> Callable[[Context], Sampler | None]:
    """Load a sampler's module when the agent starts."""

    def open_sampler(context: Context) -> Sampler | None:
        module, _, function = _OPENERS[name].partition(":")
        opener = cast(
            "Callable[[Context], Sampler | None]", getattr(import_module(module), function)
        )
        return opener(context)

    return open_sampler


SAMPLERS: Mapping[str, Callable[[Context], Sampler | None]] = {
    name: _opener(name) for name in _OPENERS
}
"""By name; a maker gives None where the node has nothing for it, and never will until restart."""
