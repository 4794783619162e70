"""What is known of each pod's cgroup so far, and what holds of several of one name. Pure.

What was learnt once stays until better is told: an answer that does not name a pod says
nothing about it.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from agent.cgroupwatch import FoundCgroup
from agent.jobs.kubernetes.allocations import Allocations, PodName
from agent.jobs.kubernetes.devices import Holding
from agent.jobs.kubernetes.identity import Identity
from agent.jobs.kubernetes.pods import Pod
from agent.model import DeviceShare, ResourceType, Run

GRACE_SECONDS = 30
"""For so long a new cgroup waits to be told whose it is."""


class Description(NamedTuple):
    """What a run is made of, besides its cgroup."""

    identity: Identity
    quotas: Mapping[ResourceType, int]
    devices: tuple[DeviceShare, ...]


@dataclass(slots=True)
class Tracked:
    """One incarnation of a pod's cgroup. Mutable: it learns with every look.

    `seen_ns`: when it was first looked at, monotonic. `is_told`: it has been answered.
    """

    found: FoundCgroup
    uid: str
    seen_ns: int
    pod: Pod | None = None
    name: PodName | None = None
    holding: Holding | None = None
    description: Description | None = None
    run: Run | None = None
    is_told: bool = False

    @property
    def is_live(self) -> bool:
        """Whether its cgroup is there."""
        return self.found.ended_at_ms is None

    @property
    def is_new(self) -> bool:
        """Whether it was made before our eyes: nobody has been told of it by an earlier agent."""
        return self.found.born_at_ms is not None

    def devices(self) -> tuple[DeviceShare, ...]:
        """What it holds; of NPUs what is annotated, which are those really mounted."""
        if self.holding is None:
            return ()
        npus = self.pod.npus if self.pod and self.holding.has_npus else None
        if npus is None:
            return self.holding.devices
        return (*(one for one in self.holding.devices if one.type is not ResourceType.NPU), *npus)

    @property
    def misses_devices(self) -> bool:
        """Whether it has requested some and still runs, but nobody says which it has."""
        pod = self.pod
        return bool(pod and pod.wants_devices and not pod.is_over and not self.devices())

    def learn_pod(self, pod: Pod | None) -> None:
        """Take what the kubelet's list says of it."""
        if pod is not None and pod != self.pod:
            self.pod = pod
            self.name = (pod.identity.namespace, pod.identity.name)

    def lacks(self, allocations: Allocations, *, has_pods: bool) -> bool:
        """Whether there is something about it that is yet to be told.

        `has_pods` False = the kubelet will not show its pods to us, so there is nothing to
        wait for.
        """
        if not self._is_told_by(allocations) or (has_pods and self.pod is None):
            return True
        if self.pod is None:
            return False
        if (self.pod.wants_devices or self.pod.has_claims) and not self.devices():
            return True
        return self.holding is not None and self.holding.has_npus and self.pod.npus is None

    def learn_holding(self, allocations: Allocations, taken: Collection[DeviceShare]) -> None:
        """Take what pods of its name hold, but for what is `taken` by others of that name."""
        told = allocations.holdings.get(self.name) if self.name else None
        if told is None or not self._is_told_by(allocations):
            return
        shares = {share for one in told for share in one.devices}.difference(taken)
        ordered = sorted(shares, key=lambda share: (share.type, share.id, share.part))
        has_npus = any(one.has_npus for one in told)
        self.holding = Holding(devices=tuple(ordered), has_npus=has_npus)

    def _is_told_by(self, allocations: Allocations) -> bool:
        """An answer that was asked for before it was there is about another pod of its name."""
        born_at_ms = self.found.born_at_ms
        return born_at_ms is None or allocations.asked_at_ms >= born_at_ms


def learn_holdings(tracked: Iterable[Tracked], allocations: Allocations) -> None:
    """Give each pod what the kubelet says of its name.

    Several of one name: what is new is the newest one's, for a pod's devices never change.
    """
    by_name: dict[PodName, list[Tracked]] = {}
    for one in tracked:
        if one.name is not None:
            by_name.setdefault(one.name, []).append(one)
    for namesakes in by_name.values():
        living = [one for one in namesakes if one.is_live]
        newest = max(living or namesakes, key=lambda one: one.found.born_at_ms or 0)
        held = (one.holding for one in living if one is not newest)
        taken = {share for holding in held if holding for share in holding.devices}
        newest.learn_holding(allocations, taken)
