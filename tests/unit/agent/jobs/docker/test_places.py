"""Every place where an engine puts a container, and none that only looks like one."""

import pytest

from agent.jobs.docker.places import patterns, place_of

ID = "0123456789abcdef" * 4
POD = "f" * 64
USER = "user.slice/user-1000.slice/user@1000.service"


def is_found(path: str, *parents: str) -> bool:
    names = path.split("/")
    return any(
        len(pattern) == len(names)
        and all(part.fullmatch(name) for part, name in zip(pattern, names, strict=True))
        for pattern in patterns(parents)
    )


@pytest.mark.parametrize(
    ("path", "uid", "is_certain", "is_dockers"),
    [
        (f"docker/{ID}", None, True, True),
        (f"system.slice/docker-{ID}.scope", None, True, True),
        (f"jobs.slice/jobs-gpu.slice/docker-{ID}.scope", None, True, True),
        (f"jobs/{ID}", None, False, False),
        (f"machine.slice/libpod-{ID}.scope", None, True, False),
        (f"machine.slice/machine-libpod_pod_{POD}.slice/libpod-{ID}.scope", None, True, False),
        (f"libpod_parent/libpod-{ID}", None, True, False),
        (f"libpod_parent/{POD}/libpod-{ID}", None, True, False),
        (f"system.slice/web.service/libpod-payload-{ID}", None, True, False),
        (f"{USER}/user.slice/libpod-{ID}.scope", 1000, True, False),
        (f"{USER}/libpod-{ID}.scope", 1000, True, False),
        (f"{USER}/user.slice/user-libpod_pod_{POD}.slice/libpod-{ID}.scope", 1000, True, False),
        (f"{USER}/app.slice/docker-{ID}.scope", 1000, True, True),
        (f"{USER}/app.slice/web.service/libpod-payload-{ID}", 1000, True, False),
    ],
)
def test_places(path: str, uid: int | None, *, is_certain: bool, is_dockers: bool) -> None:
    """Both engines, both drivers, rootless and not."""
    assert is_found(path)
    place = place_of(path.split("/"), ())
    assert place == (ID, uid, is_certain, is_dockers)


@pytest.mark.parametrize(
    "path",
    [
        f"machine.slice/libpod-conmon-{ID}.scope",
        f"{USER}/user.slice/libpod-conmon-{ID}.scope",
        f"system.slice/cri-containerd-{ID}.scope",
        f"system.slice/crio-{ID}.scope",
        f"kubepods/{ID}",
        f"kubepods.slice/docker-{ID}.scope",
        f"kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/docker-{ID}.scope",
        f"kubepods/besteffort/pod1/{ID}",
        f"docker/{ID[:-1]}",
        f"docker/{ID}0",
        f"docker/{ID.upper()}",
        f"docker/{ID}/docker/{POD}",
        f"system.slice/docker-{ID}.scope.d",
        f"system.slice/docker-{ID}.service",
        "system.slice/docker.service",
        f"a/b/{ID}",
    ],
)
def test_what_is_no_container_of_an_engine(path: str) -> None:
    """Podman's helpers, other runtimes, pods, containers in containers, names of other lengths."""
    assert not is_found(path)


def test_parents_of_ones_own() -> None:
    """Whatever an engine makes in them is a container; their names are no expressions."""
    for path in (f"ecs/t.1/{ID}", f"ecs/t.1/libpod-{ID}", f"ecs/t.1/docker-{ID}.scope"):
        assert is_found(path, "/ecs/t.1")
        assert place_of(path.split("/"), ("/ecs/t.1",)).is_certain
    assert not is_found(f"ecs/tx1/{ID}", "/ecs/t.1")
