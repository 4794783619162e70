"""Where the kubelet puts the cgroups of pods, and which pod one belongs to. Pure.

Below the root of each hierarchy, by the kubelet's cgroup driver:

- cgroupfs: `/kubepods[/burstable|/besteffort]/pod<uid>`;
- systemd: `/kubepods.slice[/kubepods-burstable.slice]/kubepods-burstable-pod<uid>.slice`,
  the uid's dashes as underscores; Guaranteed pods lie directly below `kubepods.slice`.

A kubelet with a `--cgroup-root` has all that below it, and with systemd the root's name
before each of its slices. After a change of the driver both trees may be there. A static
pod's uid is the hash of its manifest: 32 digits without a dash. What is below a pod's cgroup
(`cri-containerd-….scope`, `crio-….scope`, `docker-….scope`, or the bare id of a container)
is counted by it: pods are metered as a whole.
"""

import re
from collections.abc import Sequence

from agent.cgroupwatch import Pattern

_UID = r"[0-9A-Za-z_-]{1,128}"
_POD_FOLDER = re.compile(rf"(?:[^/]*-)?pod({_UID}?)(?:\.slice)?")
_CONTAINER = r"(?:cri-containerd|containerd|crio|docker)"


def pod_patterns(roots: Sequence[str]) -> Sequence[Pattern]:
    """What to follow, for kubelets whose `--cgroup-root` is any of these ("/" = none)."""
    patterns: list[Pattern] = []
    for root in roots:
        folders = [folder for folder in root.split("/") if folder]
        patterns += _cgroupfs([re.escape(folder) for folder in folders])
        patterns += _systemd([folder.removesuffix(".slice") for folder in folders])
    return patterns


STRAY_PATTERNS: Sequence[Pattern] = [
    [re.compile(r"system\.slice"), re.compile(rf"kubepods[^/]*-pod{_UID}\.slice:{_CONTAINER}:.*")],
    [
        re.compile(r"system\.slice"),
        re.compile(r"(?:containerd|crio|docker|k3s|kubelet)\.service"),
        re.compile(rf"kubepods[^/]*-pod{_UID}\.slice:{_CONTAINER}:.*"),
    ],
]
"""Containers that a runtime with another cgroup driver than the kubelet's put elsewhere."""


def pod_uid(folder: str) -> str | None:
    """The uid in the name of a pod's cgroup, as `same_uid` writes it; None = there is none."""
    match = _POD_FOLDER.fullmatch(folder.partition(":")[0])
    return same_uid(match[1]) if match and match[1] else None


def same_uid(uid: str) -> str:
    """One spelling for what the drivers spell differently: systemd has `_` for each `-`."""
    return uid.replace("_", "-")


def _cgroupfs(above: Sequence[str]) -> Sequence[Pattern]:
    pod = rf"pod{_UID}"
    return [
        _pattern(*above, "kubepods", pod),
        _pattern(*above, "kubepods", "burstable|besteffort", pod),
    ]


def _systemd(above: Sequence[str]) -> Sequence[Pattern]:
    """Each slice is named after all those above it: `a-b.slice` is in `a.slice`."""
    folders = [rf"{re.escape('-'.join(above[: at + 1]))}\.slice" for at in range(len(above))]
    kubepods = re.escape("-".join([*above, "kubepods"]))
    return [
        _pattern(*folders, rf"{kubepods}\.slice", rf"{kubepods}-pod{_UID}\.slice"),
        _pattern(
            *folders,
            rf"{kubepods}\.slice",
            rf"{kubepods}-(?:burstable|besteffort)\.slice",
            rf"{kubepods}-(?:burstable|besteffort)-pod{_UID}\.slice",
        ),
    ]


def _pattern(*folders: str) -> Pattern:
    return [re.compile(folder) for folder in folders]
