"""Which devices which pod holds, out of the pod-resources API's two answers. Pure.

A pod is known there by namespace and name alone. A pod that was removed and made again
under its name, while the kubelet still knows of the first one, is there twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent.jobs.kubernetes.devices import (
    MAX_DEVICES,
    Held,
    Holding,
    Kinds,
    count_replicas,
    holding_of,
    take_apart,
)

if TYPE_CHECKING:
    from proto.podresources.v1 import podresources_pb2 as pb

PodName = tuple[str, str]
"""Namespace and name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocations:
    """One answer, asked for at `asked_at_ms` by the agent's clock.

    `replicas`: how many shares each shared device has; `guessed`: the devices of which that
    is not known, and only the shares that somebody holds are counted.
    """

    asked_at_ms: int
    holdings: Mapping[PodName, Sequence[Holding]] = field(
        default_factory=dict[PodName, Sequence[Holding]]
    )
    replicas: Mapping[str, int] = field(default_factory=dict[str, int])
    guessed: frozenset[str] = frozenset()


def read_allocations(
    listed: pb.ListPodResourcesResponse,
    allocatable: pb.AllocatableResourcesResponse | None,
    kinds: Kinds,
    *,
    before: Allocations | None,
    asked_at_ms: int,
) -> Allocations:
    """Put both answers together; without `allocatable` the last count of replicas stands."""
    held = [((pod.namespace, pod.name), _held_by(pod)) for pod in listed.pod_resources]
    told = _ids_in(allocatable.devices) if allocatable else ()
    counted = {**(before.replicas if before else {}), **count_replicas(take_apart(told, kinds))}
    seen = _highest(one for _, ids in held for one in _copies_in(ids, kinds))
    guessed = {base: many for base, many in seen.items() if base not in counted}
    replicas = counted | guessed
    holdings: dict[PodName, list[Holding]] = {}
    for name, ids in held:
        holdings.setdefault(name, []).append(holding_of(ids, kinds, replicas))
    return Allocations(
        asked_at_ms=asked_at_ms, holdings=holdings, replicas=counted, guessed=frozenset(guessed)
    )


def _copies_in(held: Iterable[Held], kinds: Kinds) -> Iterator[tuple[str, int]]:
    """The shares among these ids: of which device, and its number."""
    for part in take_apart(held, kinds):
        if part.copy is not None:
            yield part.base, part.copy


def _highest(copies: Iterable[tuple[str, int]]) -> Mapping[str, int]:
    """How many shares each device has at least: they are numbered from 0."""
    least: dict[str, int] = {}
    for base, copy in copies:
        least[base] = max(least.get(base, 0), copy + 1)
    return least


def _held_by(pod: pb.PodResources) -> Sequence[Held]:
    held = [one for container in pod.containers for one in _ids_in(container.devices)]
    held += [
        (resource.driver_name, resource.device_name)
        for container in pod.containers
        for claim in container.dynamic_resources
        for resource in claim.claim_resources
    ]
    return held[: 2 * MAX_DEVICES]


def _ids_in(devices: Iterable[pb.ContainerDevices]) -> Iterator[Held]:
    for group in devices:
        for text in group.device_ids:
            yield group.resource_name, text
