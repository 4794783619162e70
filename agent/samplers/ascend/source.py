"""Where what is known of Ascend chips comes from: the protocol of `dcmi` and `npusmi`."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from agent.errors import SamplerError
from agent.samplers.ascend.chips import Chip, Place


class Look(NamedTuple):
    """One chip or vNPU at one instant; `percent` None = not known now, or never."""

    percent: int | None
    is_lost: bool = False  # the driver says that it is gone


class NpuSource(Protocol):
    """Asked in a thread of its own only, so its calls may take their time."""

    @property
    def every_seconds(self) -> float:
        """How long to wait between two looks."""
        ...

    @property
    def inventory_seconds(self) -> float:
        """How long the answer of `chips` stands, if nothing gets lost."""
        ...

    def chips(self) -> Sequence[Chip]:
        """All chips that there are now.

        Raises:
            SamplerError: the driver does not say.
        """
        ...

    def look(self, chips: Sequence[Chip], /) -> Mapping[Place, Look]:
        """Their utilisation, and that of their vNPUs.

        Of a chip that is cut into vNPUs the driver reports 0, whatever they do: then its
        own is not known.

        Raises:
            SamplerError: the driver answers nothing at all.
        """
        ...

    def processes(self, chips: Sequence[Chip], /) -> Mapping[Place, frozenset[int]]:
        """The host's pids on these chips; a chip whose are not known is absent."""
        ...


class NoSource:
    """Stands for the driver on a node that has NPUs and nobody to ask: a failure, not none."""

    every_seconds = 60.0
    inventory_seconds = 60.0

    def chips(self) -> Sequence[Chip]:
        """See `NpuSource`."""
        raise SamplerError(
            "there are NPUs (/dev/davinci*), but neither libdcmi.so nor npu-smi; name them as "
            "[ascend] library or npu_smi, and start the agent again"
        )

    def look(self, _chips: Sequence[Chip], /) -> Mapping[Place, Look]:
        """See `NpuSource`."""
        return {}

    def processes(self, _chips: Sequence[Chip], /) -> Mapping[Place, frozenset[int]]:
        """See `NpuSource`."""
        return {}
