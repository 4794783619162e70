"""Asks the kubelet in the background, through both of its interfaces."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from agent.background import Background
from agent.context import NowMs
from agent.errors import ProviderError
from agent.jobs.kubernetes.allocations import Allocations
from agent.jobs.kubernetes.kubelet import AccessDeniedError, Kubelet
from agent.jobs.kubernetes.podresources import PodResources
from agent.jobs.kubernetes.pods import PodList, PodRules, parse_pods, version_marks

_FIRST_WAIT_SECONDS = 3.0
_WAIT_SECONDS = 0.2
_FIRST_GAP_NS = 1_000_000_000
_LAST_GAP_NS = 8_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Pods:
    """What the kubelet's list says. `denied`: why we may not see it; then it is empty."""

    listed: PodList = field(default_factory=PodList)
    denied: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """The last answers, and what failed since.

    `pods` None = there is none yet. `failure` is of the list of pods alone: without the
    other interface there is no answer at all.
    """

    allocations: Allocations
    pods: Pods | None
    failure: str | None


class Source(Protocol):
    """Who tells what the kubelet knows."""

    def ask(self) -> Told:
        """The last answers, as soon as there are any; never waits for long.

        Raises:
            ProviderError: nothing is known of the devices, or not any more.
        """
        ...

    def hurry(self, *, has_newcomers: bool) -> None:
        """Somebody waits for news: ask again soon, at once if there are newcomers."""
        ...


class KubeletSource:
    """Both interfaces of a kubelet that runs; `ask` starts to ask them."""

    def __init__(
        self,
        resources: PodResources,
        kubelet: Kubelet,
        rules: PodRules,
        *,
        refresh_seconds: int,
        now_ms: NowMs,
        monotonic_ns: Callable[[], int],
        told: Callable[[], None],
    ) -> None:
        """Ask each every `refresh_seconds`; `told` is called in a thread after each attempt."""
        self._kubelet = kubelet
        self._rules = rules
        self._monotonic_ns = monotonic_ns
        self._listed = Pods()
        self._marks: Sequence[bytes] = ()
        self._wait_seconds = _FIRST_WAIT_SECONDS
        self._next_ns = 0
        self._gap_ns = _FIRST_GAP_NS
        self._allocations = Background(
            "pod-resources", resources.ask, every_seconds=refresh_seconds, now_ms=now_ms, told=told
        )
        self._pods = Background(
            "kubelet-pods", self._ask_pods, every_seconds=refresh_seconds, now_ms=now_ms, told=told
        )

    def ask(self) -> Told:
        """See `Source`; at the very first time it waits a few seconds for the answers."""
        self._pods.start()
        for background in (self._allocations, self._pods):
            background.start(self._wait_seconds)
        self._wait_seconds = _WAIT_SECONDS
        allocations, pods = self._allocations.answer, self._pods.answer
        if allocations.failure is not None:
            raise ProviderError(allocations.failure)
        if allocations.value is None:
            raise ProviderError("the kubelet has not told yet who holds which device")
        return Told(allocations=allocations.value, pods=pods.value, failure=pods.failure)

    def hurry(self, *, has_newcomers: bool) -> None:
        """See `Source`; who waits for long is asked for less and less often."""
        now_ns = self._monotonic_ns()
        if has_newcomers:
            self._next_ns, self._gap_ns = now_ns, _FIRST_GAP_NS
        if now_ns >= self._next_ns:
            self._allocations.request()
            self._pods.request()
            self._next_ns = now_ns + self._gap_ns
            self._gap_ns = min(2 * self._gap_ns, _LAST_GAP_NS)

    def close(self) -> None:
        """Ask no more."""
        self._allocations.close()
        self._pods.close()

    def _ask_pods(self) -> Pods:
        """The list as it is now; the same one again if no pod has changed."""
        try:
            body = self._kubelet.get_pods()
        except AccessDeniedError as error:
            return Pods(denied=str(error))
        marks = version_marks(body)
        if not self._listed.listed.is_versioned or marks != self._marks:
            self._listed, self._marks = Pods(listed=self._parse(body)), marks
        return self._listed

    def _parse(self, body: bytes) -> PodList:
        try:
            return parse_pods(body, self._rules)
        except ValueError as error:
            raise ProviderError(f"the kubelet's list of pods is not understood: {error}") from error


class NoSource:
    """A saved tree: there is no kubelet to ask."""

    def ask(self) -> Told:
        """See `Source`."""
        denied = "a saved tree has no kubelet that could be asked"
        return Told(allocations=Allocations(asked_at_ms=0), pods=Pods(denied=denied), failure=None)

    def hurry(self, *, has_newcomers: bool) -> None:
        """See `Source`."""
