"""Asks providers and samplers, and bears it when one of them fails.

Of the providers' answers it makes one picture: what two of them claim is left to the more
trusted one, and what they say of devices is put into the inventory's words. A provider that
fails keeps its last complete answer, with its age. A failure is logged when it begins and
when it ends, not at every tick.
"""

import logging
from collections.abc import Callable, Collection, Container, Mapping, Sequence
from dataclasses import dataclass

from agent.daemon.arbiter import Arbiter
from agent.daemon.counters import DaemonCounters
from agent.devices import Inventory
from agent.errors import AgentError
from agent.jobs import AwaitingProvider, JobProvider
from agent.model import Device, MeterKey, Reading, Run, RunKey
from agent.procfs import ProcFs
from agent.samplers import DeviceSampler, MappedSampler, Sampler

PATIENCE_MS = 60_000
"""Providers themselves wait up to half as long for a scheduler that does not answer yet."""

_LOGGER = logging.getLogger(__name__)


@dataclass(slots=True)
class Source:
    """How a provider or a sampler fares. `answered_at_ms` None = it has not answered yet."""

    answered_at_ms: int | None = None
    failure: str | None = None


class Sources:
    """All providers and samplers of the node."""

    def __init__(
        self,
        providers: Sequence[JobProvider],
        samplers: Sequence[Sampler],
        counters: DaemonCounters,
        *,
        now_ms: Callable[[], int],
        procfs: ProcFs,
        patience_ms: int = PATIENCE_MS,
    ) -> None:
        """Ask them in this order: the most trusted provider first.

        `patience_ms`: for so long after the start a new run of one provider waits for the
        first answer of those that are trusted more, whose it may be.
        """
        self.providers = providers
        self.status: dict[str, Source] = {}
        self._samplers = samplers
        self._counters = counters
        self._now_ms = now_ms
        self._arbiter = Arbiter(procfs.cgroups, now_ms)
        self._answers: dict[str, Sequence[Run]] = {provider.name: () for provider in providers}
        self._patient_until_ms = now_ms() + patience_ms
        self._have_answered: set[str] = set()
        self._devices: Sequence[Sequence[Device]] = []
        self.inventory = Inventory(())

    @property
    def refused(self) -> Mapping[RunKey, str]:
        """Runs that another provider meters, and why."""
        return self._arbiter.refused

    @property
    def must_restart(self) -> str | None:
        """Why only a new process can go on; None = this one can."""
        for sampler in self._samplers:
            if isinstance(sampler, MappedSampler) and sampler.must_restart:
                return f"the driver of the {sampler.name} sampler was replaced"
        return None

    def runs(self, live: Container[RunKey] = ()) -> Mapping[str, Sequence[Run] | None]:
        """Each provider's complete answer; None = it has none now, and the last one stands.

        What a failing one said last still counts against the claims of the others; while it
        has said nothing at all, runs that are not `live` yet wait for it.
        """
        failed: set[str] = set()
        for provider in self.providers:
            if not self._ask(provider):
                failed.add(provider.name)
        self.look_at_devices()
        before = self._arbiter.refused
        kept = self._arbiter.decide(self._without_hasty(live), self._awaited())
        self._tell_refused(before)
        self._settle_refused(kept)
        resolved = self._resolve(kept)
        return {name: None if name in failed else runs for name, runs in resolved.items()}

    def look_at_devices(self) -> bool:
        """Take the inventory of all device samplers; whether it has changed."""
        known = [
            sampler.devices() for sampler in self._samplers if isinstance(sampler, DeviceSampler)
        ]
        if all(new is old for new, old in zip(known, self._devices, strict=False)) and len(
            known
        ) == len(self._devices):
            return False
        self._devices = known
        self.inventory = Inventory(device for devices in known for device in devices)
        return True

    def readings(self, runs: Sequence[Run]) -> Mapping[MeterKey, Reading]:
        """What can be read of these runs now."""
        readings: dict[MeterKey, Reading] = {}
        for sampler in self._samplers:
            try:
                readings.update(sampler.sample(runs))
            except Exception as error:  # noqa: BLE001  see `_ask`
                self._counters.sampler_failures[sampler.name] += 1
                self._note_failure(f"sampler {sampler.name}", error)
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

    def _tell_refused(self, before: Mapping[RunKey, str]) -> None:
        """Log each run that is not metered for another one's sake, once."""
        for key, why in self._arbiter.refused.items():
            if key not in before:
                _LOGGER.warning(
                    "a run is not metered by itself",
                    extra={"action": "refuse_run", "run": key, "reason": why},
                )

    def _without_hasty(self, live: Container[RunKey]) -> Mapping[str, Sequence[Run]]:
        """Leave out what somebody may claim who has not spoken since the start."""
        is_patient = self._now_ms() < self._patient_until_ms
        answers: dict[str, Sequence[Run]] = {}
        is_waiting = False
        for name, runs in self._answers.items():
            answers[name] = [run for run in runs if run.key in live] if is_waiting else runs
            is_waiting |= is_patient and name not in self._have_answered
        return answers

    def _awaited(self) -> Mapping[str, Collection[str]]:
        return {
            provider.name: provider.awaited()
            for provider in self.providers
            if isinstance(provider, AwaitingProvider)
        }

    def _ask(self, provider: JobProvider) -> bool:
        try:
            self._answers[provider.name] = provider.runs()
        except Exception as error:  # noqa: BLE001  what nobody foresaw must not end the metering
            self._counters.provider_failures[provider.name] += 1
            self._note_failure(f"provider {provider.name}", error)
            return False
        self._note(f"provider {provider.name}", None)
        self._have_answered.add(provider.name)
        return True

    def _settle_refused(self, kept: Mapping[str, Sequence[Run]]) -> None:
        """What we do not meter has nothing to be made durable."""
        for provider in self.providers:
            said = self._answers[provider.name]
            if len(said) == len(kept[provider.name]):
                continue
            over = [run.key for run in said if run.ended_at_ms is not None]
            if keys := [key for key in over if key in self._arbiter.refused]:
                provider.settled(keys)

    def _resolve(self, kept: Mapping[str, Sequence[Run]]) -> Mapping[str, Sequence[Run]]:
        """Put devices into the inventory's words, over all providers together."""
        everybody = [run for runs in kept.values() for run in runs]
        resolved = self.inventory.resolve(everybody)
        if resolved is everybody:
            return kept
        rest = iter(resolved)
        return {name: [next(rest) for _ in runs] for name, runs in kept.items()}

    def _note_failure(self, who: str, error: Exception) -> None:
        """A fault of our own is logged with its place, once."""
        if isinstance(error, AgentError | OSError):
            self._note(who, str(error))
            return
        reason = f"{type(error).__name__}: {error}"[:500]
        source = self.status.get(who)
        if source is None or source.failure != reason:
            _LOGGER.error("an unforeseen failure", extra={"action": "fail"}, exc_info=error)
        self._note(who, reason)

    def _note(self, who: str, reason: str | None) -> None:
        source = self.status.setdefault(who, Source())
        if reason is None:
            source.answered_at_ms = self._now_ms()
        if reason == source.failure:
            return
        source.failure = reason
        if reason is None:
            _LOGGER.info("works again", extra={"action": "recover", "source": who})
        else:
            _LOGGER.warning(
                "does not answer; what it said last stands",
                extra={"action": "fail", "source": who, "reason": reason},
            )
