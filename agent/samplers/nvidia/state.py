"""What the sampler shows of itself, for `inspect` and the metrics. Values only."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceState:
    """A GPU or MIG device at the last look; None = it does not tell.

    `busy` is in base units of the device, averaged over the last interval. `energy_mj`
    counts from the first look and never falls. `trouble` says what failed of late.
    """

    id: str
    model: str
    is_up: bool
    busy: int | None = None
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    energy_mj: int | None = None
    trouble: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverState:
    """The driver as a whole. `looked_at_ms` is agent time, None = it has not answered yet.

    `failure` says why it does not answer now.
    """

    version: str | None
    looked_at_ms: int | None
    failure: str | None
    devices: tuple[DeviceState, ...]
