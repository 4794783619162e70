"""What happened to the daemon since the start, for whoever exposes it."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class DaemonCounters:
    """Counts only go up; failures by the name of who failed."""

    looks: int = 0
    records: int = 0
    frames: int = 0
    clock_steps: int = 0
    lost_streams: int = 0
    provider_failures: Counter[str] = field(default_factory=Counter[str])
    sampler_failures: Counter[str] = field(default_factory=Counter[str])
