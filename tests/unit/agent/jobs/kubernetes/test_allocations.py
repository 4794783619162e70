"""The pod-resources API's answers: who holds what, and of how many."""

from agent.jobs.kubernetes.allocations import Allocations, read_allocations
from proto.podresources.v1 import podresources_pb2 as pb
from tests.unit.agent.jobs.kubernetes.manifests import KINDS

GPU = "GPU-3f5d1c4e-8a1b-4d6e-9b11-0d2f5c7a9e01"


def devices(*ids: str, resource: str = "nvidia.com/gpu") -> pb.ContainerDevices:
    return pb.ContainerDevices(resource_name=resource, device_ids=ids)


def pod(name: str, *held: pb.ContainerDevices, namespace: str = "team") -> pb.PodResources:
    containers = [
        pb.ContainerResources(name=f"c{at}", devices=[one]) for at, one in enumerate(held)
    ]
    return pb.PodResources(name=name, namespace=namespace, containers=containers)


def listed(*pods: pb.PodResources) -> pb.ListPodResourcesResponse:
    return pb.ListPodResourcesResponse(pod_resources=pods)


def read(
    answer: pb.ListPodResourcesResponse,
    allocatable: pb.AllocatableResourcesResponse | None = None,
    before: Allocations | None = None,
) -> Allocations:
    return read_allocations(answer, allocatable, KINDS, before=before, asked_at_ms=5)


def node(*ids: str) -> pb.AllocatableResourcesResponse:
    return pb.AllocatableResourcesResponse(devices=[devices(one) for one in ids])


def parts(found: Allocations, name: str, namespace: str = "team") -> list[tuple[int, int, int]]:
    return [share.part for one in found.holdings[namespace, name] for share in one.devices]


def test_pods_are_known_by_namespace_and_name() -> None:
    """Two of one name in two namespaces are two; who holds nothing is told, too."""
    found = read(listed(pod("a", devices("GPU-1")), pod("a", devices("GPU-2"), namespace="x")))
    assert found.holdings["team", "a"][0].devices[0].id == "GPU-1"
    assert found.holdings["x", "a"][0].devices[0].id == "GPU-2"
    assert found.asked_at_ms == 5
    assert read(listed(pod("b"))).holdings["team", "b"][0].devices == ()


def test_the_containers_of_a_pod_are_taken_together() -> None:
    """With what its claims hold."""
    claim = pb.ClaimResource(driver_name="gpu.nvidia.com", device_name="gpu-1")
    other = pb.ClaimResource(driver_name="dra.net", device_name="nic-1")
    one = pod("a", devices("GPU-2"), devices("GPU-1"))
    one.containers[0].dynamic_resources.add(claim_resources=[claim, other])
    found = read(listed(one))
    assert [share.id for share in found.holdings["team", "a"][0].devices] == [
        "GPU-1",
        "GPU-2",
        "minor:1",
    ]


def test_the_number_of_replicas_is_what_can_be_allocated() -> None:
    """Not what is: two of four are held here."""
    held = listed(pod("a", devices(f"{GPU}::0")), pod("b", devices(f"{GPU}::2")))
    found = read(held, node(*(f"{GPU}::{at}" for at in range(4)), "GPU-whole"))
    assert parts(found, "a") == [(0, 1, 4)]
    assert parts(found, "b") == [(2, 3, 4)]
    assert not found.guessed


def test_an_old_kubelet_lets_us_guess_the_number_of_replicas() -> None:
    """By the highest that anybody holds; and that it is a guess is known."""
    found = read(listed(pod("a", devices(f"{GPU}::0")), pod("b", devices(f"{GPU}::2"))))
    assert parts(found, "a") == [(0, 1, 3)]
    assert found.guessed == {GPU}


def test_the_last_count_stands_when_it_is_not_told() -> None:
    """A device that is not healthy cannot be allocated, but its shares are still held."""
    held = listed(pod("a", devices(f"{GPU}::0")))
    first = read(held, node(*(f"{GPU}::{at}" for at in range(4))))
    for unknown in (None, node()):
        found = read(held, unknown, before=first)
        assert parts(found, "a") == [(0, 1, 4)]
        assert not found.guessed


def test_a_plugin_that_was_configured_anew_is_believed() -> None:
    """The newest count holds; a guess gives way to it, too."""
    held = listed(pod("a", devices(f"{GPU}::1")))
    guess = read(held)
    assert parts(guess, "a") == [(1, 2, 2)]
    found = read(held, node(*(f"{GPU}::{at}" for at in range(8))), before=guess)
    assert parts(found, "a") == [(1, 2, 8)]
    assert not found.guessed


def test_a_pod_that_is_there_twice_is_told_twice() -> None:
    """Removed and made again under its name, while the first one still ends."""
    found = read(listed(pod("a", devices("GPU-1")), pod("a", devices("GPU-2"))))
    assert len(found.holdings["team", "a"]) == 2
