"""Asks providers and samplers, and bears it when one of them fails.

A failure is logged when it begins and when it ends, not at every tick.
"""

import logging
from collections.abc import Collection, Mapping, Sequence

from agent.daemon.counters import DaemonCounters
from agent.errors import AgentError
from agent.jobs import JobProvider
from agent.model import MeterKey, Reading, Run, RunKey
from agent.samplers import Sampler

_LOGGER = logging.getLogger(__name__)


class Sources:
    """All providers and samplers of the node."""

    def __init__(
        self,
        providers: Sequence[JobProvider],
        samplers: Sequence[Sampler],
        counters: DaemonCounters,
    ) -> None:
        """Ask them in this order."""
        self.providers = providers
        self._samplers = samplers
        self._counters = counters
        self._failing: dict[str, str] = {}

    def runs(self, provider: JobProvider) -> Sequence[Run] | None:
        """A provider's complete answer; None = it has none now, and the last one stands."""
        try:
            runs = provider.runs()
        except (AgentError, OSError) as error:
            self._counters.provider_failures[provider.name] += 1
            self._note(f"provider {provider.name}", str(error))
            return None
        self._note(f"provider {provider.name}", None)
        return runs

    def readings(self, runs: Sequence[Run]) -> Mapping[MeterKey, Reading]:
        """What can be read of these runs now."""
        readings: dict[MeterKey, Reading] = {}
        for sampler in self._samplers:
            try:
                readings.update(sampler.sample(runs))
            except (AgentError, OSError) as error:
                self._counters.sampler_failures[sampler.name] += 1
                self._note(f"sampler {sampler.name}", str(error))
            else:
                self._note(f"sampler {sampler.name}", None)
        return readings

    def settled(self, ended: Mapping[str, Collection[RunKey]]) -> None:
        """The ends of these runs, by provider, are durable."""
        for provider in self.providers:
            if keys := ended.get(provider.name):
                provider.settled(keys)
        for sampler in self._samplers:
            for keys in ended.values():
                sampler.forget(keys)

    def _note(self, who: str, reason: str | None) -> None:
        if reason == self._failing.get(who):
            return
        if reason is None:
            del self._failing[who]
            _LOGGER.info("works again", extra={"action": "recover", "source": who})
        else:
            self._failing[who] = reason
            _LOGGER.warning(
                "does not answer; what it said last stands",
                extra={"action": "fail", "source": who, "reason": reason},
            )
