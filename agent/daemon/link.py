"""What the daemon needs of the uplink, which is its sibling's business otherwise."""

from collections.abc import Sequence
from typing import Protocol

from agent.model import Device


class Link(Protocol):
    """What we need of the uplink."""

    @property
    def lost_stream(self) -> str | None:
        """See `Uplink`."""
        ...

    def set_devices(self, devices: Sequence[Device]) -> None:
        """See `Uplink`."""
        ...

    def start(self) -> None:
        """See `Uplink`."""
        ...

    def wake(self) -> None:
        """See `Uplink`."""
        ...

    def resume(self) -> None:
        """See `Uplink`."""
        ...

    def stop(self, drain_seconds: float) -> bool:
        """See `Uplink`."""
        ...
