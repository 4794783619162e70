"""Whose the use of a shared device was, as far as its processes tell.

Only asked of devices that several runs hold, and only when there is use to divide: a list
of processes stops the GPU's work for milliseconds. Which is also why it is asked for at
most every ten seconds, and only where the processes' own figures say nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from agent.model import Run
from agent.samplers.nvidia.binding import Handle
from agent.samplers.nvidia.driver import Driver
from agent.samplers.nvidia.gpus import Gpu
from agent.samplers.nvidia.ledger import Shared, Split
from agent.samplers.nvidia.library import NvmlError
from agent.samplers.nvidia.owners import Owners
from agent.samplers.nvidia.processlist import GpuProcess, ProcessLists
from agent.samplers.nvidia.weights import ProcessWeights, Weights

LIST_MS = 10_000
"""How often the processes of a device are listed at most."""


class _Part(NamedTuple):
    """A GPU or MIG device; `has_weights` False = it does not tell processes apart."""

    handle: Handle
    lists: ProcessLists
    gpu: Gpu
    has_weights: bool


class Divider:
    """Divides the use of shared devices of a driver that is prepared."""

    def __init__(self, driver: Driver, owners: Owners, interval_ms: int) -> None:
        """Ask about every `interval_ms`."""
        self._driver = driver
        self._owners = owners
        self._interval_ms = interval_ms
        self._session = 0
        self._weights: dict[str, ProcessWeights] = {}
        self._listed: dict[str, tuple[int, Sequence[GpuProcess] | None]] = {}

    def divide(self, shared: Mapping[str, Shared], now_ms: int, now_us: int) -> Mapping[str, Split]:
        """The division of those of which it can be told; `now_us` is the wall clock's.

        Raises:
            SamplerError: the driver is gone.
        """
        self._let_go(shared)
        splits: dict[str, Split] = {}
        for device, part in self._parts(shared):
            try:
                split = self._divide(device, part, shared[device], now_ms, now_us)
            except NvmlError as error:
                self._driver.suffer(part.gpu, error, now_ms)
            else:
                if split is not None:
                    splits[device] = split
        return splits

    def _divide(
        self, device: str, part: _Part, shared: Shared, now_ms: int, now_us: int
    ) -> Split | None:
        weights = self._weights.get(device)
        if weights is None:
            weights = ProcessWeights(now_us - self._interval_ms * 1_000)
            self._weights[device] = weights
        if not shared.busy:
            return Split({}, 0)
        if part.has_weights:
            library, handle = self._driver.library, part.gpu.handle

            def listed() -> Sequence[GpuProcess] | None:
                return self._list(device, part, now_ms)

            found = weights.read(library, handle, listed, now_us)
            if found and (split := self._by_weights(found, shared.runs)):
                return split
        return self._by_presence(self._list(device, part, now_ms), shared.runs)

    def _by_weights(self, weights: Weights, runs: Sequence[Run]) -> Split | None:
        """By what each process used; None = that says nothing of whose it was."""
        owners = self._owners.find(list(weights), runs)
        parts = {run.key: 0 for run in runs}
        for pid, weight in weights.items():
            if pid in owners:
                parts[owners[pid]] += weight
            elif weight and self._owners.is_mps_server(pid):
                return None
        return Split(parts, sum(weights.values())) if any(parts.values()) else None

    def _by_presence(
        self, listed: Sequence[GpuProcess] | None, runs: Sequence[Run]
    ) -> Split | None:
        """All to the only run that has processes there; None = there are several, or strangers."""
        pids = [process.pid for process in listed or ()]
        owners = self._owners.find(pids, runs)
        strangers = [pid for pid in pids if pid not in owners]
        present = set(owners.values())
        if len(present) != 1 or not all(map(self._owners.is_mps_server, strangers)):
            return None
        (only,) = present
        return Split({run.key: int(run.key == only) for run in runs}, 1)

    def _list(self, device: str, part: _Part, now_ms: int) -> Sequence[GpuProcess] | None:
        at_ms, listed = self._listed.get(device, (-LIST_MS, None))
        if now_ms - at_ms >= LIST_MS:
            listed = part.lists.read(self._driver.library, part.handle, self._owners.exists)
            self._listed[device] = now_ms, listed
        return listed

    def _parts(self, shared: Mapping[str, Shared]) -> Iterator[tuple[str, _Part]]:
        for gpu in self._driver.living():
            if gpu.device.id in shared:
                yield gpu.device.id, _Part(gpu.handle, gpu.lists, gpu, has_weights=True)
            for mig in gpu.migs or ():
                if mig.device.id in shared:
                    yield mig.device.id, _Part(mig.handle, mig.lists, gpu, has_weights=False)

    def _let_go(self, shared: Mapping[str, Shared]) -> None:
        """Of devices that are no longer shared, and of another session's."""
        is_void = self._session != self._driver.session
        self._session = self._driver.session
        for device in list(self._weights):
            if is_void or device not in shared:
                del self._weights[device]
        for device in self._listed.keys() - shared.keys():
            del self._listed[device]
