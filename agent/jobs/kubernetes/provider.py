"""Joins the cgroups of pods with what the kubelet says of them; see the package."""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from agent.errors import ProviderError
from agent.jobs.found import Starts
from agent.jobs.kubernetes.allocations import PodName
from agent.jobs.kubernetes.cgroups import PodCgroups
from agent.jobs.kubernetes.describe import PROVIDER, describe, describe_end
from agent.jobs.kubernetes.identity import nameless
from agent.jobs.kubernetes.report import find_problems
from agent.jobs.kubernetes.sources import Source, Told
from agent.jobs.kubernetes.tracked import GRACE_SECONDS, Description, Tracked, learn_holdings
from agent.jobs.limits import NOTHING_REQUESTED, LimitReader
from agent.jobs.terms import Problem
from agent.model import Run, RunKey

_LOGGER = logging.getLogger(__name__)
_GRACE_NS = GRACE_SECONDS * 1_000_000_000


class KubernetesProvider:
    """Answers with the pods that have a cgroup here."""

    name = PROVIDER

    def __init__(
        self,
        cgroups: PodCgroups,
        make_source: Callable[[Callable[[], None]], Source],
        *,
        names: Callable[[], Mapping[str, PodName]],
        limits: LimitReader,
        starts: Starts,
        boot_ms: Callable[[], int],
        monotonic_ns: Callable[[], int],
        wake: Callable[[], None],
        addon_namespaces: Sequence[str],
    ) -> None:
        """Ask nobody as long as there is no pod.

        Args:
            cgroups: decide who lives.
            make_source: makes what says who they are; it calls its argument with news.
            names: the pods' names by uid, where the source does not tell them.
            limits: the quotas, where the source does not tell the requests.
            starts: remembers when each run began.
            boot_ms: the instant when the machine began, agent time.
            monotonic_ns: a clock that is never stepped.
            wake: asks for a look.
            addon_namespaces: whose pods belong to the cluster itself.
        """
        self._cgroups = cgroups
        self._source = make_source(self._on_news)
        self._names = names
        self._limits = limits
        self._starts = starts
        self._boot_ms = boot_ms
        self._monotonic_ns = monotonic_ns
        self._wake = wake
        self._addon_namespaces = addon_namespaces
        self._tracked: dict[str, Tracked] = {}
        self._told: Told | None = None
        self._has_newcomers = False
        self._is_waiting = False
        self._was_listed = False
        self._problems: Sequence[Problem] = ()
        self._logged: set[Problem] = set()

    def runs(self) -> Sequence[Run]:
        """Every pod whose cgroup lives, and every ended one until it is `settled`."""
        self._track()
        if not self._tracked:
            self._is_waiting, self._problems = False, ()
            return ()
        self._is_waiting = True
        try:
            told = self._source.ask()
            self._learn(told)
            self._check_known(told)
        except ProviderError:
            if not any(map(self._is_somebody, self._known())):
                return ()
            self._source.hurry(has_newcomers=False)
            raise
        runs = self._describe_all(told)
        self._report(told)
        return runs

    def watch_paths(self) -> Sequence[Path]:
        """None: cgroups are heard of by their watch."""
        return ()

    def settled(self, keys: Collection[RunKey]) -> None:
        """Let go of these, if they have ended."""
        for one in list(self._tracked.values()):
            if one.run is not None and one.run.key in keys and not one.is_live:
                self._forget(one)

    def problems(self) -> Sequence[Problem]:
        """What the kubelet does not tell, or not to us."""
        return self._problems

    def _on_news(self) -> None:
        """Something was asked in the background; from any thread."""
        if self._is_waiting:
            self._wake()

    def _track(self) -> None:
        """Know of what is there now, and of nothing else."""
        now_ns, before = self._monotonic_ns(), self._tracked
        self._tracked = {}
        self._has_newcomers = False
        for uid, found in self._cgroups.look():
            one = before.get(found.key)
            if one is None:
                one = Tracked(found=found, uid=uid, seen_ns=now_ns)
                self._has_newcomers = True
            one.found = found
            self._tracked[found.key] = one
        self._starts.forget(before.keys() - self._tracked.keys())

    def _learn(self, told: Told) -> None:
        """Take what is told of each."""
        everybody, pods = self._known(), told.pods
        if pods is not None and pods.denied is None:
            self._was_listed = True
        if told == self._told and all(one.name for one in everybody):
            return
        self._told = told
        for one in everybody:
            one.learn_pod(pods.listed.pods.get(one.uid) if pods else None)
        if not all(one.name for one in everybody):
            names = self._names()
            for one in everybody:
                one.name = one.name or names.get(one.uid)
        learn_holdings(everybody, told.allocations)

    def _is_somebody(self, one: Tracked) -> bool:
        """Whether it is a pod, not what an uninstalled kubelet has left behind."""
        return one.is_told or one.is_new or self._cgroups.is_populated(one.found)

    def _check_known(self, told: Told) -> None:
        """What was there before us may be known to the state: without its owner it waits.

        Raises:
            ProviderError: the list of pods has not come yet, but may soon.
        """
        if told.pods is not None:
            return
        if any(not one.pod and not one.is_new and self._has_time(one) for one in self._known()):
            raise ProviderError(told.failure or "the kubelet has not told its pods yet")

    def _known(self) -> Sequence[Tracked]:
        return [*self._tracked.values()]

    def _has_time(self, one: Tracked) -> bool:
        return self._monotonic_ns() - one.seen_ns < _GRACE_NS

    def _describe_all(self, told: Told) -> Sequence[Run]:
        """The runs of all that is known well enough; the rest waits to be told."""
        is_denied = told.pods is not None and told.pods.denied is not None
        has_pods = self._was_listed or not is_denied
        self._is_waiting = False
        runs: list[Run] = []
        for one in self._known():
            may_wait = not one.is_told and one.is_new and self._has_time(one)
            if may_wait and one.lacks(told.allocations, has_pods=has_pods):
                self._is_waiting = True
            elif run := self._describe(one):
                one.is_told = True
                runs.append(run)
        if self._is_waiting:
            self._source.hurry(has_newcomers=self._has_newcomers)
        return runs

    def _describe(self, one: Tracked) -> Run | None:
        """The run of a pod; None = it is none, but a cgroup that was left behind."""
        if one.pod is None and not one.is_told and self._is_left_behind(one):
            if not one.is_live:
                self._forget(one)
            return None
        if one.is_live or one.run is None:
            run = describe(one, self._description(one), self._started_at_ms(one))
        else:
            run = one.run
        return run if one.is_live else describe_end(one, run)

    def _is_left_behind(self, one: Tracked) -> bool:
        """Nobody names it and nothing is in it; of one that is gone: we never saw it alive."""
        return not self._cgroups.is_populated(one.found) if one.is_live else not one.is_new

    def _description(self, one: Tracked) -> Description:
        if one.pod is not None:
            return Description(one.pod.identity, one.pod.quotas, one.devices())
        identity = nameless(one.uid, one.name, self._addon_namespaces)
        limits = self._limits.read_once(one.found.path)
        quotas = limits.quotas() if limits.is_known else NOTHING_REQUESTED
        return Description(identity, quotas, one.devices())

    def _started_at_ms(self, one: Tracked) -> int:
        """Its birth; else what the pod says, unless that was before the machine's."""
        told_ms = one.pod.started_at_ms if one.pod else None
        if one.is_new or one.run is not None or told_ms is None:
            return self._starts.at_ms(one.found)
        return self._starts.at_ms(one.found, told_ms if told_ms >= self._boot_ms() else None)

    def _forget(self, one: Tracked) -> None:
        self._cgroups.settle(one.found.key)
        self._starts.forget([one.found.key])
        del self._tracked[one.found.key]

    def _report(self, told: Told) -> None:
        """Keep the problems, and log each once while it lasts."""
        self._problems = find_problems(self._known(), told, self._cgroups.strays())
        for problem in self._problems:
            if problem not in self._logged:
                _LOGGER.warning(
                    "something about the pods of this node is not known",
                    extra={
                        "action": "miss_pod",
                        "source": problem.source,
                        "problem": problem.message,
                    },
                )
        self._logged = set(self._problems)
