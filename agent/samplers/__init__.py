"""Samplers: what each run uses at this instant.

One file per sampler, one line per sampler in `SAMPLERS`. What could not be read is absent
from the answer, never 0.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from agent.model import MeterKey, Reading, Run, RunKey
from agent.samplers.cgroup import open_cgroup_sampler
from agent.samplers.process import open_process_sampler
from agent.settings import AgentSettings


class Sampler(Protocol):
    """What the daemon asks of every sampler."""

    @property
    def name(self) -> str:
        """Its name in `SAMPLERS`."""
        ...

    def sample(self, runs: Sequence[Run]) -> Mapping[MeterKey, Reading]:
        """Read what it can of `runs` now; no key but theirs.

        Raises:
            SamplerError: it cannot work at all now; everything stays unobserved.
        """
        ...

    def forget(self, keys: Collection[RunKey]) -> None:
        """These runs are over: let go of what was kept for them."""
        ...


SAMPLERS: Mapping[str, Callable[[AgentSettings], Sampler]] = {
    "cgroup": open_cgroup_sampler,
    "process": open_process_sampler,
}
