"""The pod-resources API on a real Unix socket, and every way in which it may fail."""

import socket
import threading
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc
import pytest

from agent.errors import ProviderError
from agent.jobs.kubernetes.podresources import MAX_BYTES, PodResources
from proto.podresources.v1 import podresources_pb2 as pb
from tests.integration.agent.kubernetes.kubelets import Resources
from tests.unit.agent.jobs.kubernetes.manifests import KINDS

NAME = ("team", "train")
GPU = "GPU-3f5d1c4e-8a1b-4d6e-9b11-0d2f5c7a9e01"


def client(path: Path, timeout_seconds: float = 5.0) -> PodResources:
    return PodResources(str(path), KINDS, now_ms=lambda: 7, timeout_seconds=timeout_seconds)


def test_it_tells_who_holds_what(socket_path: Path, resources: Resources) -> None:
    """And of how many replicas each is one."""
    resources.holds("train", f"{GPU}::1", "nvidia1")
    resources.holds("idle")
    ids = [f"{GPU}::{at}" for at in range(4)]
    resources.allocatable.devices.add(resource_name="nvidia.com/gpu", device_ids=ids)
    told = client(socket_path).ask()
    (holding,) = told.holdings[NAME]
    assert [(share.id, share.part) for share in holding.devices] == [
        (GPU, (1, 2, 4)),
        ("nvidia1", (0, 1, 1)),
    ]
    assert told.holdings["team", "idle"][0].devices == ()
    assert (told.asked_at_ms, told.guessed) == (7, frozenset())


@pytest.mark.parametrize(
    "lack",
    [
        (grpc.StatusCode.UNIMPLEMENTED, "unknown method"),
        (grpc.StatusCode.UNKNOWN, "GetAllocatableResources disabled"),
    ],
)
def test_an_old_kubelet_does_not_know_what_can_be_allocated(
    socket_path: Path, resources: Resources, lack: tuple[grpc.StatusCode, str]
) -> None:
    """Everything else is told all the same."""
    resources.fails["GetAllocatableResources"] = lack
    resources.holds("train", f"{GPU}::1")
    told = client(socket_path).ask()
    assert told.holdings[NAME][0].devices[0].part == (1, 2, 2)
    assert told.guessed == {GPU}


def test_a_socket_that_is_gone_is_a_failure_not_an_empty_node(
    socket_path: Path, tmp_path: Path
) -> None:
    """It says which one is meant; a file in its place is none either."""
    with pytest.raises(ProviderError, match=f"no socket {socket_path}"):
        client(socket_path).ask()
    (tmp_path / "file").write_text("")
    with pytest.raises(ProviderError, match="no socket"):
        client(tmp_path / "file").ask()


def test_a_socket_of_a_kubelet_that_was_killed_fails_at_once(tmp_path: Path) -> None:
    """Nobody listens behind it."""
    path = tmp_path / "dead.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with pytest.raises(ProviderError, match="does not answer: UNAVAILABLE"):
        client(path).ask()


@pytest.mark.parametrize("method", ["List", "GetAllocatableResources"])
def test_a_method_that_fails_fails_the_whole_answer(
    socket_path: Path, resources: Resources, method: str
) -> None:
    """Half an answer is none."""
    resources.fails[method] = (grpc.StatusCode.INTERNAL, "out of\x1b[31m luck")
    with pytest.raises(ProviderError, match="INTERNAL: out of\N{REPLACEMENT CHARACTER}"):
        client(socket_path).ask()


def test_a_kubelet_that_hangs_is_not_waited_for(socket_path: Path, resources: Resources) -> None:
    """Longer than the deadline."""
    resources.hangs.set()
    began = time.monotonic()
    with pytest.raises(ProviderError, match="DEADLINE_EXCEEDED"):
        client(socket_path, timeout_seconds=0.2).ask()
    assert time.monotonic() - began < 10
    resources.hangs.clear()
    assert client(socket_path).ask().holdings == {}


def test_an_answer_beyond_all_measure_is_refused(socket_path: Path, resources: Resources) -> None:
    """Before it fills the memory."""
    resources.holds("train", "x" * MAX_BYTES)
    with pytest.raises(ProviderError, match="RESOURCE_EXHAUSTED"):
        client(socket_path).ask()


def test_strange_ids_do_no_harm(socket_path: Path, resources: Resources) -> None:
    """Any text may be an id, or a name; it fits a bill."""
    resources.holds("", "\x00" * 9999, "::", "GPU-::9", "")
    resources.listed.pod_resources.add()
    told = client(socket_path).ask()
    for share in told.holdings["team", ""][0].devices:
        assert 0 < len(share.id) <= 256
        assert "\x00" not in share.id


@contextmanager
def raw_server(path: Path, reply: bytes) -> Generator[None]:
    """Something on the socket that is no kubelet."""
    is_over = threading.Event()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(8)
        listener.settimeout(0.02)
        thread = threading.Thread(target=_reply_to_all, args=(listener, reply, is_over))
        thread.start()
        yield
        is_over.set()
        thread.join()


def _reply_to_all(listener: socket.socket, reply: bytes, is_over: threading.Event) -> None:
    while not is_over.is_set():
        with suppress(OSError):
            connection, _ = listener.accept()
            with connection:
                connection.sendall(reply)


@pytest.mark.parametrize("reply", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x00" * 4096])
def test_something_else_on_the_socket_is_a_failure(tmp_path: Path, reply: bytes) -> None:
    """Not gRPC at all."""
    path = tmp_path / "other.sock"
    with raw_server(path, reply), pytest.raises(ProviderError, match="does not answer"):
        client(path, timeout_seconds=2.0).ask()


def _garble(_request: bytes, _context: grpc.ServicerContext) -> bytes:
    return b"\xff\xff\xff"


def test_garbage_in_the_answer_is_a_failure(tmp_path: Path) -> None:
    """A message that is none of this interface's."""
    path = tmp_path / "garbage.sock"
    garble = grpc.unary_unary_rpc_method_handler(  # pyright: ignore[reportUnknownVariableType]
        _garble, request_deserializer=bytes, response_serializer=bytes
    )
    server = grpc.server(ThreadPoolExecutor(max_workers=1))
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("v1.PodResourcesLister", {"List": garble})]
    )
    server.add_insecure_port(f"unix:{path}")
    server.start()
    try:
        with pytest.raises(ProviderError, match="answers List with garbage"):
            client(path).ask()
    finally:
        server.stop(None).wait()


def test_fields_of_later_versions_are_passed_over(socket_path: Path, resources: Resources) -> None:
    """The answer of a kubelet with more to say: CPU ids, memory, NUMA nodes."""
    resources.holds("train", GPU)
    later = b"\x20\x01\x20\x02\x2a\x04\x0a\x02hp"  # cpu_ids 1 and 2; memory {memory_type: "hp"}
    one = resources.listed.pod_resources[0]
    one.MergeFromString(later)
    assert one.SerializeToString().endswith(later)
    assert client(socket_path).ask().holdings[NAME][0].devices[0].id == GPU


def test_what_is_on_the_wire_is_kubernetes_own() -> None:
    """Names and numbers are the interface's, not ours."""
    assert pb.DESCRIPTOR.package == "v1"
    methods = pb.DESCRIPTOR.services_by_name["PodResourcesLister"].methods_by_name
    assert set(methods) == {"List", "GetAllocatableResources"}
    numbers = {
        f"{message.name}.{field.name}": field.number
        for message in pb.DESCRIPTOR.message_types_by_name.values()
        for field in message.fields
    }
    assert numbers == {
        "AllocatableResourcesResponse.devices": 1,
        "ListPodResourcesResponse.pod_resources": 1,
        "PodResources.name": 1,
        "PodResources.namespace": 2,
        "PodResources.containers": 3,
        "ContainerResources.name": 1,
        "ContainerResources.devices": 2,
        "ContainerResources.dynamic_resources": 5,
        "ContainerDevices.resource_name": 1,
        "ContainerDevices.device_ids": 2,
        "DynamicResource.claim_name": 2,
        "DynamicResource.claim_namespace": 3,
        "DynamicResource.claim_resources": 4,
        "ClaimResource.driver_name": 2,
        "ClaimResource.pool_name": 3,
        "ClaimResource.device_name": 4,
        "ClaimResource.share_id": 5,
    }
