"""A node with pods' cgroups, and a kubelet that says what the test tells it to."""

from collections.abc import Callable, Mapping
from pathlib import Path

from agent.cgroups import find_hierarchies
from agent.errors import ProviderError
from agent.jobs.found import Starts
from agent.jobs.kubernetes.allocations import Allocations, PodName
from agent.jobs.kubernetes.cgroups import PodCgroups
from agent.jobs.kubernetes.devices import Held, Holding, holding_of
from agent.jobs.kubernetes.document import Object
from agent.jobs.kubernetes.pods import parse_pods
from agent.jobs.kubernetes.provider import KubernetesProvider
from agent.jobs.kubernetes.sources import Pods, Source, Told
from agent.jobs.limits import LimitReader
from agent.model import Run
from tests.unit.agent.cgrouptrees import CgroupTree
from tests.unit.agent.jobs.contexts import NOW_MS, Machine
from tests.unit.agent.jobs.kubernetes.manifests import KINDS, RULES, UID, pod_list

NS_PER_MS = 1_000_000


def pod_path(uid: str = UID, driver: str = "systemd") -> str:
    """Where the kubelet puts a burstable pod."""
    if driver == "cgroupfs":
        return f"/kubepods/burstable/pod{uid}"
    name = f"kubepods-burstable-pod{uid.replace('-', '_')}.slice"
    return f"/kubepods.slice/kubepods-burstable.slice/{name}"


class FakeKubelet:
    """At the port to the kubelet: what it last said, and how often somebody was in a hurry."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self.resources_error: str | None = None
        self.pods_failure: str | None = None
        self.holdings: dict[PodName, list[Holding]] = {}
        self.asked_at_ms: int | None = None  # None = just now
        self.pods: Pods | None = None
        self.hurries: list[bool] = []
        self.asked = 0
        self.told: Callable[[], None] = lambda: None

    def make(self, told: Callable[[], None]) -> Source:
        self.told = told
        return self

    def ask(self) -> Told:
        """See `Source`."""
        self.asked += 1
        if self.resources_error is not None:
            raise ProviderError(self.resources_error)
        asked_at_ms = self._now_ms() if self.asked_at_ms is None else self.asked_at_ms
        allocations = Allocations(asked_at_ms=asked_at_ms, holdings=dict(self.holdings))
        return Told(allocations=allocations, pods=self.pods, failure=self.pods_failure)

    def hurry(self, *, has_newcomers: bool) -> None:
        """See `Source`."""
        self.hurries.append(has_newcomers)

    def lists(self, *pods: Object) -> None:
        """It has answered `/pods` now."""
        self.pods = Pods(listed=parse_pods(pod_list(*pods), RULES))

    def denies(self, why: str = "the kubelet answers 403") -> None:
        """It does not let us see its pods."""
        self.pods = Pods(denied=why)

    def allocates(self, *held: tuple[PodName, list[Held]]) -> None:
        """This is what pods hold now."""
        self.holdings = {name: [] for name, _ in held}
        for name, ids in held:
            self.holdings[name].append(holding_of(ids, KINDS, {}))


class Node:
    """One machine and its provider."""

    def __init__(self, folder: Path, layout: str = "v2", proc: Path | None = None) -> None:
        self.tree = CgroupTree(folder / "cgroup", layout)
        self.machine = Machine(self.tree, "", proc=proc)
        self.kubelet = FakeKubelet(lambda: self.machine.now_ms)
        self.names: dict[str, PodName] = {}
        self.boot_ms = NOW_MS - 1_000_000_000_000
        self.provider: KubernetesProvider
        self.restart()

    def restart(self) -> None:
        """A new agent; what there is was there before it."""
        self.machine.restart()
        self.provider = KubernetesProvider(
            PodCgroups(self.machine.watch, ["/"]),
            self.kubelet.make,
            names=self._names,
            limits=LimitReader(find_hierarchies(str(self.tree.root))),
            starts=Starts(self.machine.watch, lambda: self.machine.now_ms),
            boot_ms=lambda: self.boot_ms,
            monotonic_ns=lambda: self.machine.now_ms * NS_PER_MS,
            wake=self.machine.wake,
            addon_namespaces=["kube-system"],
        )

    def pass_ms(self, elapsed: int) -> None:
        self.machine.now_ms += elapsed

    def runs(self) -> dict[str, Run]:
        """By job id."""
        return {run.job_id: run for run in self.provider.runs()}

    def only(self) -> Run:
        (run,) = self.provider.runs()
        return run

    def problems(self) -> Mapping[str, str]:
        return {problem.source: problem.message for problem in self.provider.problems()}

    def _names(self) -> Mapping[str, PodName]:
        return self.names
