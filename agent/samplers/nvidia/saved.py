"""The GPUs of a saved tree: there is nobody to ask how busy they are."""

from collections.abc import Collection, Mapping, Sequence

from agent.model import Device, MeterKey, Reading, Run, RunKey


class SavedGpus:
    """Lists the GPUs that the tree's /proc has; see `DeviceSampler`."""

    name = "nvidia"

    def __init__(self, devices: Sequence[Device]) -> None:
        """List these."""
        self._devices = devices

    def devices(self) -> Sequence[Device]:
        """See `DeviceSampler`."""
        return self._devices

    def sample(self, runs: Sequence[Run]) -> Mapping[MeterKey, Reading]:  # noqa: ARG002
        """See `Sampler`: nothing can be read."""
        return {}

    def forget(self, keys: Collection[RunKey]) -> None:
        """See `Sampler`: nothing is kept."""
