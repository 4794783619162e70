"""Where engines put the cgroups of containers, and what such a place tells. Pure.

    /docker/ID, /PARENT/ID                                    Docker, cgroupfs
    /system.slice/docker-ID.scope, /A.slice/A-B.slice/…       Docker, systemd
    /machine.slice[/machine-libpod_pod_POD.slice]/libpod-ID.scope     Podman, systemd
    /libpod_parent[/POD]/libpod-ID                            Podman, cgroupfs
    /system.slice/NAME.service/libpod-payload-ID              Podman, in a unit (quadlet)
    /user.slice/user-UID.slice/user@UID.service/…             all of these, rootless

Podman's own helpers (libpod-conmon-ID) are no containers, and what lies below kubepods is
for Kubernetes to say.
"""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from agent.cgroupwatch import Pattern

_ID = "[0-9a-f]{64}"
_SLICE = re.compile(r"(?!kubepods).+\.slice")
_SERVICE = re.compile(r".+\.service")
_SCOPE = re.compile(rf"(docker|libpod)-{_ID}\.scope")
_PAYLOAD = re.compile(rf"libpod-payload-{_ID}")
_BARE = re.compile(_ID)
_LIBPOD = re.compile(rf"libpod-{_ID}")
_IN_PARENT = re.compile(rf"({_ID}|libpod-{_ID}|(docker|libpod)-{_ID}\.scope)")
_TOP = re.compile(r"(?!kubepods).+")
_PODMANS = re.compile("libpod_parent")
_USER = [re.compile(r"user\.slice"), re.compile(r"user-[0-9]{1,10}\.slice")]
_MANAGER = re.compile(r"user@[0-9]{1,10}\.service")
_NAME = re.compile(rf"(docker-|libpod-|libpod-payload-)?({_ID})(?:\.scope)?")
_UID = re.compile(r"user-([0-9]{1,10})\.slice")
_MAX_SLICES = 4


class Place(NamedTuple):
    """What the path of a container's cgroup tells.

    `uid` is the account whose rootless engine runs it, None = the machine's engine.
    `is_certain` = no other software puts a cgroup of this name there. `is_dockers` = the
    engine is Docker, which has no container without a daemon; Podman needs none.
    """

    id: str
    uid: int | None
    is_certain: bool
    is_dockers: bool


def patterns(parents: Sequence[str]) -> Sequence[Pattern]:
    """Every place that is looked at; `parents` are further cgroups with containers in them."""
    configured = [[*map(re.compile, map(re.escape, _parts(path))), _IN_PARENT] for path in parents]
    return [*_machines(), *_rootless(), *configured]


def place_of(names: Sequence[str], parents: Sequence[str]) -> Place:
    """Read a path that one of the patterns matched."""
    match = _NAME.fullmatch(names[-1])
    assert match is not None
    users = _UID.fullmatch(names[1]) if len(names) > 2 and names[0] == "user.slice" else None
    is_dockers = match[1] == "docker-" or names[0] == "docker"
    is_configured = "/" + "/".join(names[:-1]) in parents
    return Place(
        id=match[2],
        uid=int(users[1]) if users else None,
        is_certain=match[1] is not None or is_dockers or is_configured,
        is_dockers=is_dockers,
    )


def _machines() -> Iterator[Pattern]:
    for depth in range(1, _MAX_SLICES + 1):
        yield [*[_SLICE] * depth, _SCOPE]
    yield [_SLICE, _SERVICE, _PAYLOAD]
    yield [_TOP, _BARE]
    yield [_PODMANS, _LIBPOD]
    yield [_PODMANS, _BARE, _LIBPOD]


def _rootless() -> Iterator[Pattern]:
    for depth in range(4):
        yield [*_USER, _MANAGER, *[_SLICE] * depth, _SCOPE]
    for depth in range(1, 3):
        yield [*_USER, _MANAGER, *[_SLICE] * depth, _SERVICE, _PAYLOAD]


def _parts(path: str) -> Sequence[str]:
    return path.removeprefix("/").split("/")
