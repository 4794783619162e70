"""Finds the cgroups of pods, one for each pod that runs."""

from collections.abc import Iterator, Sequence

from agent.cgroupwatch import CgroupWatch, FoundCgroup
from agent.jobs.kubernetes.paths import STRAY_PATTERNS, pod_patterns, pod_uid


class PodCgroups:
    """The pods' cgroups below all roots of both drivers.

    After a change of the kubelet's driver the old tree may stay, with an empty cgroup for a
    pod that runs in the new one: then the one that holds processes is the pod's, else the
    newer one.
    """

    def __init__(self, watch: CgroupWatch, roots: Sequence[str]) -> None:
        """Follow them from now on."""
        self._watch = watch
        self._followed = watch.follow(pod_patterns(roots))
        self._strays = watch.follow(STRAY_PATTERNS)
        self._stale: set[str] = set()

    def look(self) -> Sequence[tuple[str, FoundCgroup]]:
        """What lives, and what has ended until it is settled, each with its pod's uid."""
        self._watch.scan()
        found = [(pod_uid(one.names[-1]), one) for one in self._followed.found()]
        pods = [(uid, one) for uid, one in found if uid is not None]
        ended = {one.key for _, one in pods if one.ended_at_ms is not None}
        over = ended & self._stale
        self._followed.settle(over)
        self._stale = {*self._find_stale(pods)}
        aside = self._stale | over
        return [(uid, one) for uid, one in pods if one.key not in aside] if aside else pods

    def settle(self, key: str) -> None:
        """Forget one that has ended."""
        self._followed.settle([key])

    def is_populated(self, cgroup: FoundCgroup) -> bool:
        """Whether a process is in it."""
        return self._watch.oldest_ms(cgroup) is not None

    def strays(self) -> Sequence[str]:
        """Cgroups of containers that are not within their pod's."""
        found = self._strays.found()
        self._strays.settle([one.key for one in found if one.ended_at_ms is not None])
        return [one.path for one in found if one.ended_at_ms is None]

    def _find_stale(self, pods: Sequence[tuple[str, FoundCgroup]]) -> Iterator[str]:
        living: dict[str, list[FoundCgroup]] = {}
        for uid, one in pods:
            if one.ended_at_ms is None:
                living.setdefault(uid, []).append(one)
        for candidates in living.values():
            if len(candidates) > 1:
                best = max(candidates, key=self._weight)
                yield from (one.key for one in candidates if one is not best)

    def _weight(self, one: FoundCgroup) -> tuple[bool, int, str]:
        return self.is_populated(one), one.born_at_ms or 0, one.path
