"""What providers and samplers are made from: the machine as they may see it."""

from collections.abc import Callable
from dataclasses import dataclass, field

from agent.cgroupwatch import CgroupWatch
from agent.clock import SystemTime, TimeSource
from agent.settings import AgentSettings

NowMs = Callable[[], int]
"""The agent's clock: milliseconds since 1970-01-01T00:00Z, never stepped inside a window."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Shared by all providers and samplers of one agent.

    `wake` asks the daemon to look soon; it may be called from any thread, and is what a
    provider calls when an answer that it fetched in the background is news. `is_live`
    False = a saved tree is looked at (`inspect --root`): there is nobody to talk to and no
    library to load, and `time` stands still at the instant when it was saved.
    """

    settings: AgentSettings
    now_ms: NowMs
    cgroups: CgroupWatch
    wake: Callable[[], None]
    is_live: bool = True
    time: TimeSource = field(default_factory=SystemTime)
