"""What an inspect says of a container: quotas as requested, devices as asked for."""

import json
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.jobs.docker.container import Container, parse_container, parse_running
from agent.model import ResourceType
from tests.unit.agent.jobs.docker.engines import Document, container, listed

CPU, MEM = ResourceType.CPU, ResourceType.MEM
ID = "ab" * 32
RUNTIMES = ("nvidia*", "ascend*")


def parse(document: Document | None = None) -> Container:
    return parse_container(json.dumps(document or container(ID)).encode(), RUNTIMES)


def devices(env: list[str] | None = None, **host: object) -> list[str]:
    return [share.id for share in parse(container(ID, host, env=env)).devices]


@pytest.mark.parametrize(
    ("host", "cpu_m"),
    [
        ({}, 0),
        ({"NanoCpus": 1_500_000_000}, 1500),
        ({"NanoCpus": 1_500_000_000, "CpuQuota": 1, "CpusetCpus": "0"}, 1500),
        ({"CpuQuota": 50_000}, 500),
        ({"CpuQuota": 50_000, "CpuPeriod": 10_000}, 5000),
        ({"CpuQuota": -1, "CpuPeriod": 100_000}, 0),
        ({"CpusetCpus": "0-3,8,2"}, 5000),
        ({"CpusetCpus": "3-0,x,"}, 0),
        ({"CpuShares": 2048}, 0),
        ({"NanoCpus": 1 << 80}, 10_000_000),
    ],
)
def test_cpu_is_what_was_requested(host: dict[str, object], cpu_m: int) -> None:
    """Weights are no quantities, and nothing requested is 0."""
    assert parse(container(ID, host)).quotas == {CPU: cpu_m, MEM: 0}


def test_memory_is_what_was_requested() -> None:
    """Bytes become KiB; a reservation is no limit."""
    assert parse(container(ID, {"Memory": 3 << 30})).quotas[MEM] == 3 << 20
    assert parse(container(ID, {"MemoryReservation": 1 << 30})).quotas[MEM] == 0
    assert parse(container(ID, {"Memory": (1 << 63) - 4096})).quotas[MEM] == 0


GPU_CAPABILITIES = {"Capabilities": [["gpu"]]}


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ({"Count": -1, "DeviceIDs": None} | GPU_CAPABILITIES, ["all"]),
        ({"Count": 2, "DeviceIDs": []} | GPU_CAPABILITIES, ["0", "1"]),
        ({"Count": 0, "DeviceIDs": ["3", "GPU-5d2e"]} | GPU_CAPABILITIES, ["3", "GPU-5d2e"]),
        ({"Count": 0, "DeviceIDs": ["0:1", "MIG-5d2e"]} | GPU_CAPABILITIES, ["0:1", "MIG-5d2e"]),
        ({"Driver": "nvidia", "Count": 1}, ["0"]),
        ({"Driver": "cdi", "DeviceIDs": ["nvidia.com/gpu=all"]}, ["all"]),
        ({"Driver": "cdi", "DeviceIDs": ["vendor.com/net=eth0"]}, []),
        ({"Driver": "other", "Count": 3, "Capabilities": [["tpu"]]}, []),
        ({"Count": "2"} | GPU_CAPABILITIES, []),
        ({}, []),
        ("x", []),
    ],
)
def test_device_requests(request_: object, expected: list[str]) -> None:
    """`--gpus` and CDI names; other drivers' devices are not ours."""
    assert devices(DeviceRequests=[request_]) == expected


@pytest.mark.parametrize(
    ("runtime", "value", "expected"),
    [
        ("nvidia", "all", ["all"]),
        ("nvidia-cdi", "all", ["all"]),
        ("runc", "all", []),
        ("runc", "0,2", ["0", "2"]),
        ("nvidia", "GPU-5d2e", ["GPU-5d2e"]),
        ("nvidia", "void", []),
        ("nvidia", "none", []),
        ("nvidia", "", []),
    ],
)
def test_the_visible_devices(runtime: str, value: str, expected: list[str]) -> None:
    """CUDA images say `all`, and mean nothing by it where the runtime does not act on it."""
    assert devices(Runtime=runtime, env=[f"NVIDIA_VISIBLE_DEVICES={value}"]) == expected


def test_a_request_comes_before_the_image_and_the_last_word_counts() -> None:
    """`--gpus 1` of a CUDA image is one GPU; a variable set again is what it was set to last."""
    env = ["NVIDIA_VISIBLE_DEVICES=all"]
    request = {"Count": 1} | GPU_CAPABILITIES
    assert devices(Runtime="nvidia", env=env, DeviceRequests=[request]) == ["0"]
    assert devices(Runtime="nvidia", env=[*env, "NVIDIA_VISIBLE_DEVICES=3"]) == ["3"]


def test_npus_by_variable() -> None:
    """Ascend's runtime, physical numbers; GPUs of the same container beside them."""
    env = ["ASCEND_VISIBLE_DEVICES=0-1,5", "NVIDIA_VISIBLE_DEVICES=0"]
    found = parse(container(ID, {"Runtime": "ascend"}, env=env)).devices
    assert [(share.type, share.id) for share in found] == [
        (ResourceType.GPU, "0"),
        *((ResourceType.NPU, f"phy:{number}") for number in (0, 1, 5)),
    ]


def test_device_files_count_where_nothing_else_was_said() -> None:
    """`--device /dev/nvidia0`, by its minor; the helpers beside it are no devices."""
    files = [
        {"PathOnHost": path, "PathInContainer": path, "CgroupPermissions": "rwm"}
        for path in ("/dev/nvidia1", "/dev/nvidiactl", "/dev/davinci3", "/dev/fuse")
    ]
    assert devices(Devices=files) == ["minor:1", "phy:3"]
    assert devices(Devices=files, env=["ASCEND_VISIBLE_DEVICES=7"]) == ["minor:1", "phy:7"]
    assert devices(Devices=None) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:01Z", None),
        ("2026-02-06T04:00:00Z", 1_770_350_400_000),
        ("2026-02-06T04:00:00.123456789Z", 1_770_350_400_123),
        ("2026-02-06T05:00:00.5+01:00", 1_770_350_400_500),
        ("0001-01-01T00:00:00Z", None),
        ("2026-02-30T00:00:00Z", None),
        ("yesterday", None),
        ("", None),
    ],
)
def test_the_start(text: str, expected: int | None) -> None:
    """Docker's and Podman's way to write it; the year 1 is Go's word for never."""
    assert parse(container(ID, started=text)).started_at_ms == expected


def test_the_first_word_counts() -> None:
    """A label before the variable of the same name, one name before the next; empty is nothing."""
    document = container(ID, labels={"b": "B", "c": ""}, env=["a=A", "b=no", "c=C", "d"])
    found = parse(document)
    assert found.first(["a", "b"]) == "A"
    assert found.first(["b", "a"]) == "B"
    assert found.first(["c"]) == "C"
    assert found.first(["d", "e"]) == ""
    assert found.first([]) == ""


def test_a_pods_container_says_so() -> None:
    """By the label that every kubelet sets."""
    assert parse(container(ID, labels={"io.kubernetes.pod.uid": "u"})).is_pods
    assert not parse().is_pods


def test_the_list_leaves_pods_out() -> None:
    """Name by id, fit to be shown; what has no id is no container."""
    pod = container("cd" * 32, labels={"io.kubernetes.pod.uid": "u"})
    nameless: Document = {"Id": "ef" * 32, "Names": []}
    body = json.dumps([listed(container(ID, name="/a\n")), listed(pod), "x", nameless, {"Id": "e"}])
    assert parse_running(body.encode()) == {ID: "a\N{REPLACEMENT CHARACTER}", "ef" * 32: ""}


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"{}", b"null", b'{"Id": "x"}', b"\xff", b"[" * 100_000]
)
def test_what_is_no_container_is_refused(body: bytes) -> None:
    """Cut off, empty, of another shape, or made to hurt."""
    with pytest.raises(ValueError, match=r"."):
        parse_container(body, RUNTIMES)


@pytest.mark.parametrize("body", [b"", b"{}", b"null", b"[" * 100_000])
def test_what_is_no_list_is_refused(body: bytes) -> None:
    """An answer that says nothing is not an answer of nothing."""
    with pytest.raises(ValueError, match=r"."):
        parse_running(body)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@settings(max_examples=50)
@given(st.data())
def test_no_value_of_any_type_gets_through(data: st.DataObject) -> None:
    """Whatever stands in a field that is read: a container with quantities, or a refusal."""
    document = container(ID)
    for part in ("State", "HostConfig", "Config"):
        for name in document[part]:
            if data.draw(st.booleans()):
                document[part][name] = data.draw(json_values)
    found = parse_container(json.dumps(document).encode(), RUNTIMES)
    assert all(0 <= value * 60_000 < 1 << 63 for value in found.quotas.values())
    assert len(set(found.devices)) == len(found.devices)


@given(json_values)
def test_no_document_of_any_shape_breaks_it(document: object) -> None:
    """Only a ValueError, or an answer."""
    body = json.dumps(document).encode()
    with suppress(ValueError):
        parse_running(body)
    with suppress(ValueError):
        parse_container(body, RUNTIMES)
