"""Finds the names of pods without the kubelet: its folders `/var/log/pods/<ns>_<name>_<uid>`."""

# Paths as text: a Path costs several times the system call.
# ruff: noqa: PTH208

import os
import re
from collections.abc import Mapping, Sequence

from agent.jobs.kubernetes.allocations import PodName
from agent.jobs.kubernetes.paths import same_uid

LOGS = "/var/log/pods"

_FOLDER = re.compile(
    r"(?P<namespace>[a-z0-9.-]{1,253})_(?P<name>[a-z0-9.-]{1,253})_(?P<uid>[0-9A-Za-z-]{1,128})",
    re.ASCII,
)
_MAX_FOLDERS = 16_384


def pod_folders(folder: str) -> Sequence[str]:
    """Names of folders that are a pod's; [] where `folder` is not there, or not for us."""
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    return [name for name in names[:_MAX_FOLDERS] if _FOLDER.fullmatch(name)]


def pod_names(folder: str) -> Mapping[str, PodName]:
    """Namespace and name by uid; {} where there is no such folder, or it is not for us."""
    matches = (_FOLDER.fullmatch(name) for name in pod_folders(folder))
    return {
        same_uid(match["uid"]): (match["namespace"], match["name"]) for match in matches if match
    }
