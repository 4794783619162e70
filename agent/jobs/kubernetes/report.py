"""Says what of the pods is not known, and what to do about it. Pure."""

from collections.abc import Iterable, Iterator, Sequence

from agent.jobs.kubernetes.sources import Told
from agent.jobs.kubernetes.tracked import Tracked
from agent.jobs.terms import Problem, bill_text

_MAX_PROBLEMS = 100
_NO_LIST = "the kubelet's list of pods"


def find_problems(
    tracked: Iterable[Tracked], told: Told, strays: Iterable[str]
) -> Sequence[Problem]:
    """Everything that the answers of now leave open."""
    found = [*_of_sources(told), *_of_strays(strays), *_of_pods(tracked, told)]
    return found[:_MAX_PROBLEMS]


def _of_sources(told: Told) -> Iterator[Problem]:
    denied = told.pods.denied if told.pods else None
    if denied is not None:
        meaning = "pods are metered by their cgroups, without owner and requests"
        yield Problem(source=_NO_LIST, message=f"{denied}. Until then {meaning}")
    if told.failure is not None:
        yield Problem(source=_NO_LIST, message=f"{told.failure}; what it said last stands")
    if told.pods is not None:
        yield from told.pods.listed.problems
    for base in sorted(told.allocations.guessed):
        yield Problem(
            source=f"device {bill_text(base)}",
            message="is shared by nobody knows how many: the kubelet does not tell what can be "
            "allocated; the shares that are held are taken for all",
        )


def _of_strays(strays: Iterable[str]) -> Iterator[Problem]:
    for path in strays:
        yield Problem(
            source=f"cgroup {bill_text(path)}",
            message="is a container outside of its pod's cgroup, and what it uses is not metered: "
            "let kubelet and container runtime use the same cgroup driver",
        )


def _of_pods(tracked: Iterable[Tracked], told: Told) -> Iterator[Problem]:
    is_denied = told.pods is not None and told.pods.denied is not None
    for one in tracked:
        if not one.is_live or one.run is None:
            continue
        if one.pod is None and not is_denied:
            yield Problem(
                source=f"cgroup {one.found.path}",
                message="is a pod that the kubelet does not list: it is metered without owner",
            )
        elif one.misses_devices:
            yield Problem(
                source=f"pod {one.run.namespace}/{bill_text(one.name[1] if one.name else '')}",
                message="has requested devices, but the kubelet tells of none that it holds",
            )
