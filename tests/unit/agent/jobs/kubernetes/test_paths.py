"""The cgroups of pods: both drivers, all classes, static pods, a root of their own."""

import pytest

from agent.cgroupwatch import Pattern
from agent.jobs.kubernetes.paths import STRAY_PATTERNS, pod_patterns, pod_uid

UID = "0c9b7c35-3e3c-4c1e-9e0e-6a7f0b8d9e21"
UNDERSCORED = UID.replace("-", "_")
HASH = "f0c58c7e5d3e4b1a9d2c6b7a8e9f0d1c"
SLICE = "kubepods.slice"
ID = "5" * 64


def matches(path: str, patterns: list[Pattern]) -> bool:
    folders = path.strip("/").split("/")
    return any(
        len(folders) == len(pattern)
        and all(one.fullmatch(folder) for one, folder in zip(pattern, folders, strict=True))
        for pattern in patterns
    )


@pytest.mark.parametrize(
    ("path", "uid"),
    [
        (f"/kubepods/pod{UID}", UID),
        (f"/kubepods/burstable/pod{UID}", UID),
        (f"/kubepods/besteffort/pod{UID}", UID),
        (f"/kubepods/burstable/pod{HASH}", HASH),
        (f"/{SLICE}/kubepods-pod{UNDERSCORED}.slice", UID),
        (f"/{SLICE}/kubepods-burstable.slice/kubepods-burstable-pod{UNDERSCORED}.slice", UID),
        (f"/{SLICE}/kubepods-besteffort.slice/kubepods-besteffort-pod{UNDERSCORED}.slice", UID),
        (f"/{SLICE}/kubepods-burstable.slice/kubepods-burstable-pod{HASH}.slice", HASH),
    ],
)
def test_both_drivers_pods_are_found_with_their_uid(path: str, uid: str) -> None:
    """Guaranteed pods have no folder for their class; static pods a uid without dashes."""
    assert matches(path, [*pod_patterns(["/"])])
    assert pod_uid(path.rpartition("/")[2]) == uid


@pytest.mark.parametrize(
    "path",
    [
        "/kubepods",
        "/kubepods/burstable",
        f"/{SLICE}/kubepods-burstable.slice",
        f"/kubepods/burstable/pod{UID}/{ID}",
        f"/{SLICE}/kubepods-pod{UNDERSCORED}.slice/cri-containerd-{ID}.scope",
        f"/{SLICE}/kubepods-pod{UNDERSCORED}.slice/crio-{ID}.scope",
        f"/kubepods/pod{UID}/docker-{ID}.scope",
        f"/docker/{ID}",
        f"/system.slice/pod{UID}",
        "/kubepods/pod",
    ],
)
def test_nothing_else_is_a_pod(path: str) -> None:
    """Containers are counted by their pod's cgroup, classes by nobody."""
    assert not matches(path, [*pod_patterns(["/"])])


def test_a_kubelet_may_have_a_root_of_its_own() -> None:
    """With systemd its name is before each slice's: as kind nodes have it."""
    patterns = [*pod_patterns(["/", "/kubelet.slice", "/a/b"])]
    assert matches(
        f"/kubelet.slice/kubelet-{SLICE}/kubelet-kubepods-pod{UNDERSCORED}.slice", patterns
    )
    assert matches(f"/a.slice/a-b.slice/a-b-{SLICE}/a-b-kubepods-pod{UNDERSCORED}.slice", patterns)
    assert matches(f"/a/b/kubepods/besteffort/pod{UID}", patterns)
    assert matches(f"/kubepods/pod{UID}", patterns)
    assert not matches(f"/c/kubepods/pod{UID}", patterns)
    assert pod_uid(f"kubelet-kubepods-pod{UNDERSCORED}.slice") == UID


@pytest.mark.parametrize(
    "above", ["/system.slice", "/system.slice/containerd.service", "/system.slice/crio.service"]
)
def test_a_container_beside_its_pod_is_noticed(above: str) -> None:
    """What a runtime makes of a path that was meant for the other driver."""
    stray = f"kubepods-burstable-pod{UNDERSCORED}.slice:cri-containerd:{ID}"
    assert matches(f"{above}/{stray}", [*STRAY_PATTERNS])
    assert not matches(f"{above}/containerd.service", [*STRAY_PATTERNS])
    assert pod_uid(stray) == UID
