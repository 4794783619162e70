"""The agent's vocabulary: runs as providers describe them, readings as samplers take them.

Values only: no I/O, no clock, no policy. Every quantity is an integer; instants are
milliseconds since 1970-01-01T00:00Z on the agent's own clock (see `agent.clock`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, NewType

RunKey = NewType("RunKey", str)
"""Names one incarnation of a job on this node, for ever: provider's id + inode or start."""

DEVICE_UNITS = 126_000
"""Base units of one whole device: divisible by 7, 8, 9, 16 and 1000."""


class ResourceType(StrEnum):
    """What is metered; the base unit is in the comment."""

    CPU = "cpu"  # milli-core
    MEM = "mem"  # KiB
    GPU = "gpu"  # 1/126,000 device
    NPU = "npu"  # 1/126,000 device
    STORAGE = "storage"  # KiB


class ReadingKind(StrEnum):
    """How a reading becomes usage."""

    COUNTER = "counter"  # base unit x ms since the run began; deltas are usage
    LEVEL = "level"  # base units in use at the instant; usage is its integral
    AVERAGE = "average"  # mean base units in use since the last reading, as a driver averages


class MeterKey(NamedTuple):
    """Addresses a meter among the live ones: one run, one type, one device."""

    run: RunKey
    type: ResourceType
    device: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One raw value at one instant.

    A CPU counter in microseconds of CPU time is a `COUNTER` in m x ms as it stands:
    1 us of CPU = 1 m x ms.
    """

    kind: ReadingKind
    value: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A device of this node, or a slice of one (MIG, vNPU) that can be held by itself.

    `units` is what the whole of it counts, of the `DEVICE_UNITS` of a physical device;
    `parent` is the physical device that it is cut from, None = it is one itself. `names`
    are the other ways to refer to it; `agent.devices` says which there are.
    """

    type: ResourceType
    id: str  # the vendor's uuid
    model: str
    units: int = DEVICE_UNITS
    parent: str | None = None
    names: frozenset[str] = frozenset()
    is_up: bool = True  # False = its driver has lost it

    @property
    def physical(self) -> str:
        """The id of the physical device."""
        return self.parent or self.id


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceShare:
    """A device that a run holds: `share` of the `DEVICE_UNITS` of the physical device.

    A provider may refer to it by any of a `Device`'s names; then `model` is None, and
    `part` says which part of that device is meant: (first, through, of) are the replicas
    [first, through) of so many, so (0, 1, 4) is a quarter. The inventory puts the uuid, the
    model, the physical device and the share in their places.
    """

    type: ResourceType
    id: str
    model: str | None
    share: int = DEVICE_UNITS
    part: tuple[int, int, int] = (0, 1, 1)
    physical: str | None = None  # None = not resolved


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One incarnation of a job on this node, as its provider describes it now.

    `quotas` holds base units for cpu and mem (0 = nothing requested; both always
    present) and storage where paths are declared. `started_at_ms` never changes for a
    key. `ended_at_ms` set = the run has ended there (before its start, if the clock was set
    back meanwhile: a start never moves); a run that a complete answer no
    longer holds has ended when it was last seen. `final` holds readings that the
    provider took at the very end (`cpu_usec` of a jobs.d file), exact where a sampler
    comes too late. `metered_until_ms` set = it was named as ended there before, and
    settled; what is told of its end now is a later word, and only the rest is new. Of a run
    that lives: what its counter holds until then was metered as another one's.
    """

    key: RunKey
    provider: str
    job_id: str
    job_name: str
    user_id: str | None = None
    username: str | None = None
    vc: str = "default"
    project: str = ""
    namespace: str = ""
    kind: str = "job"
    started_at_ms: int
    ended_at_ms: int | None = None
    metered_until_ms: int | None = None
    quotas: Mapping[ResourceType, int]
    devices: tuple[DeviceShare, ...] = ()
    cgroup: str | None = None  # below each hierarchy's root, "/nodemeter/burn-1a2b"
    pids: tuple[int, ...] = ()  # roots of process trees, where there is no cgroup
    storage_paths: tuple[str, ...] = ()
    own_word_of: int | None = None  # nobody but the account of this number says so
    final: Mapping[ResourceType, Reading] = field(default_factory=dict[ResourceType, Reading])
