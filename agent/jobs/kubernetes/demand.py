"""What a pod has requested, counted as Kubernetes' scheduler counts it. Pure.

For each resource (KEP-753, KEP-1287, KEP-2837 and the pod overhead):

- a container's request, else its limit; where a resize in place is under way, the largest of
  what is wanted, granted and in force (what can never be granted does not count);
- the containers together with the sidecars (init containers that restart always), or what
  the most demanding init container needs beside the sidecars before it, whichever is more;
- in place of that sum what is requested for the pod as a whole, if anything is;
- and the overhead of its runtime class on top.
"""

from collections.abc import Iterable, Mapping

from agent.jobs.kubernetes.document import Json, Object, as_object, as_objects, as_text
from agent.jobs.kubernetes.quantity import parse_quantity


def requested(pod: Object, resource: str) -> int:
    """What the pod has requested of `resource`, in 10^-9; 0 = it has requested nothing.

    Raises:
        ValueError: its containers are not told, or a quantity is none.
    """
    spec = as_object(pod.get("spec"))
    if not as_objects(spec.get("containers")):
        raise ValueError("it has no containers")
    whole = _declared(spec, resource)
    if whole is None:
        whole = _sum_of_containers(spec, _Granted(pod, resource), resource)
    return whole + (_amount(as_object(spec.get("overhead")), resource) or 0)


class _Granted:
    """What the kubelet has granted to which container, where it tells."""

    def __init__(self, pod: Object, resource: str) -> None:
        status = as_object(pod.get("status"))
        names = ("containerStatuses", "initContainerStatuses")
        told = [one for name in names for one in as_objects(status.get(name))]
        self._amounts: Mapping[str, Iterable[int]] = {
            as_text(one.get("name")): _present(
                _amount(as_object(one.get("allocatedResources")), resource),
                _amount(as_object(as_object(one.get("resources")).get("requests")), resource),
            )
            for one in told
        }
        self._is_infeasible = _is_infeasible(status)

    def request_of(self, container: Object, resource: str) -> int:
        wanted = _declared(container, resource)
        granted = [*self._amounts.get(as_text(container.get("name")), ())]
        if granted and self._is_infeasible:
            return max(granted)
        return max([wanted or 0, *granted])


def _sum_of_containers(spec: Object, granted: _Granted, resource: str) -> int:
    running = sum(granted.request_of(one, resource) for one in as_objects(spec.get("containers")))
    sidecars = highest = 0
    for container in as_objects(spec.get("initContainers")):
        request = granted.request_of(container, resource)
        if container.get("restartPolicy") == "Always":
            sidecars += request
            request = 0
        highest = max(highest, sidecars + request)
    return max(running + sidecars, highest)


def _declared(holder: Object, resource: str) -> int | None:
    """The request of a container or a pod, else its limit; None = neither."""
    resources = as_object(holder.get("resources"))
    request = _amount(as_object(resources.get("requests")), resource)
    return _amount(as_object(resources.get("limits")), resource) if request is None else request


def _is_infeasible(status: Object) -> bool:
    conditions = as_objects(status.get("conditions"))
    return as_text(status.get("resize")) == "Infeasible" or any(
        one.get("type") == "PodResizePending"
        and one.get("status") == "True"
        and one.get("reason") == "Infeasible"
        for one in conditions
    )


def _amount(amounts: Object, resource: str) -> int | None:
    value: Json = amounts.get(resource)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f"its {resource} is no quantity")  # noqa: TRY004  as a wrong text
    return parse_quantity(str(value))


def _present(*amounts: int | None) -> Iterable[int]:
    return [amount for amount in amounts if amount is not None]
