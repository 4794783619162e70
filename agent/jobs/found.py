"""What a run takes from the cgroup that it was found in: key, start, end, last reading."""

import hashlib
from collections.abc import Collection, Mapping

from agent.cgroupwatch import CgroupWatch, FoundCgroup
from agent.context import NowMs
from agent.model import Reading, ReadingKind, ResourceType, RunKey

_MAX_KEY = 512


def run_key(provider: str, found: FoundCgroup) -> RunKey:
    """The run's key: one for each incarnation, the same after a restart of the agent."""
    key = f"{provider}:{found.key}"
    if len(key.encode(errors="surrogateescape")) > _MAX_KEY or not key.isprintable():
        digest = hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()
        key = f"{provider}:sha256:{digest}"
    return RunKey(key)


def final_readings(found: FoundCgroup) -> Mapping[ResourceType, Reading]:
    """What is known of its usage although it is gone."""
    if found.ended_at_ms is None or found.cpu_us is None:
        return {}
    return {ResourceType.CPU: Reading(kind=ReadingKind.COUNTER, value=found.cpu_us)}


class Starts:
    """When each run began: told once, and never differently after."""

    def __init__(self, watch: CgroupWatch, now_ms: NowMs) -> None:
        """Look at the processes of `watch` where nobody knows better."""
        self._watch = watch
        self._now_ms = now_ms
        self._by_key: dict[str, int] = {}

    def at_ms(self, found: FoundCgroup, told_ms: int | None = None) -> int:
        """Agent time of its birth; else what the scheduler told; else its oldest process's."""
        start_ms = self._by_key.get(found.key)
        if start_ms is None:
            start_ms = self._by_key[found.key] = self._find(found, told_ms)
        return start_ms

    def forget(self, keys: Collection[str]) -> None:
        """Let go of what was remembered for these cgroups."""
        for key in keys:
            self._by_key.pop(key, None)

    def _find(self, found: FoundCgroup, told_ms: int | None) -> int:
        now_ms = self._now_ms()
        if found.born_at_ms is not None:
            return found.born_at_ms
        start_ms = told_ms if told_ms is not None else self._watch.oldest_ms(found)
        return now_ms if start_ms is None else min(start_ms, now_ms)
