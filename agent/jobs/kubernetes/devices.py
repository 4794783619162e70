"""What the device ids that the kubelet hands out mean. Pure.

NVIDIA's plugin: `GPU-<uuid>` and `MIG-<uuid>`; a GPU that is shared by time or MPS has
replicas `GPU-<uuid>::<n>`, each 1/R of it where the node has R of them. Google's plugin:
`nvidia0`, `nvidia0/gi1`, and replicas `nvidia0/vgpu1`, `nvidia0/gi1/vgpu0`. Ascend's: see
`agent.jobs.kubernetes.ascend`. NVIDIA's driver for dynamic resource allocation: `gpu-<minor>`.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import NamedTuple

from agent.jobs.kubernetes.ascend import is_npu_core, split_npu_id
from agent.jobs.terms import bill_text
from agent.model import DeviceShare, ResourceType

MAX_DEVICES = 1024
"""No pod holds more; what is listed beyond is passed over."""

_REPLICA = re.compile(r"(?P<base>[^:]+)::(?P<copy>\d{1,5})", re.ASCII)
_GKE_REPLICA = re.compile(r"(?P<base>nvidia\d+(?:/gi\d+)?)/vgpu(?P<copy>\d{1,5})", re.ASCII)
_CLAIMED_GPU = re.compile(r"gpu-(?P<minor>\d{1,5})", re.ASCII)
_CLAIM_DRIVERS = {"gpu.nvidia.com": ResourceType.GPU}

Held = tuple[str, str]
"""The name of a resource, or of a driver of claims, and the id of one device of it."""


class Kinds:
    """Which of the node's resources are devices to be metered."""

    def __init__(self, gpus: Sequence[str], npus: Sequence[str]) -> None:
        """Take patterns of resource names, in which `*` is any text."""
        self._patterns = [
            *((pattern, ResourceType.GPU) for pattern in gpus),
            *((pattern, ResourceType.NPU) for pattern in npus),
        ]

    def type_of(self, resource: str) -> ResourceType | None:
        """What it is; None = it is not metered. A driver of claims is one, too."""
        found = (type_ for pattern, type_ in self._patterns if fnmatchcase(resource, pattern))
        return next(found, _CLAIM_DRIVERS.get(resource))


class Part(NamedTuple):
    """One device id taken apart: `copy` None = it is all of `base`."""

    type: ResourceType
    base: str
    copy: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """What one pod holds.

    `has_npus`: the kubelet allocated NPUs to it, whichever; then annotations may say better.
    """

    devices: tuple[DeviceShare, ...] = ()
    has_npus: bool = False


def take_apart(held: Iterable[Held], kinds: Kinds) -> Iterable[Part]:
    """The parts of devices that these ids stand for."""
    for resource, text in held:
        type_ = kinds.type_of(resource)
        if type_ is None or is_npu_core(resource):
            continue
        base, copy = split_npu_id(text) if type_ is ResourceType.NPU else _split_gpu_id(text)
        yield Part(type_, _of_claim(text) if resource in _CLAIM_DRIVERS else base, copy)


def count_replicas(parts: Iterable[Part]) -> Mapping[str, int]:
    """How many replicas each shared device has, if these are all of the node."""
    copies: dict[str, set[int]] = {}
    for part in parts:
        if part.copy is not None:
            copies.setdefault(part.base, set()).add(part.copy)
    return {base: len(seen) for base, seen in copies.items()}


def holding_of(held: Sequence[Held], kinds: Kinds, replicas: Mapping[str, int]) -> Holding:
    """What these ids are together; each counts once, whichever containers share it."""
    parts = {*take_apart(held, kinds)}
    shares = (_share(part, replicas) for part in parts)
    ordered = sorted(shares, key=lambda share: (share.type, share.id, share.part))
    has_npus = any(kinds.type_of(resource) is ResourceType.NPU for resource, _ in held)
    return Holding(devices=tuple(ordered[:MAX_DEVICES]), has_npus=has_npus)


def _split_gpu_id(text: str) -> tuple[str, int | None]:
    match = _REPLICA.fullmatch(text) or _GKE_REPLICA.fullmatch(text)
    return (match["base"], int(match["copy"])) if match else (text, None)


def _of_claim(device: str) -> str:
    match = _CLAIMED_GPU.fullmatch(device)
    return f"minor:{int(match['minor'])}" if match else device


def _share(part: Part, replicas: Mapping[str, int]) -> DeviceShare:
    """A part of a device; a replica of unknown many is one of those up to it."""
    fraction = (0, 1, 1)
    if part.copy is not None:
        fraction = (part.copy, part.copy + 1, replicas.get(part.base, part.copy + 1))
    return DeviceShare(type=part.type, id=bill_text(part.base, "?"), model=None, part=fraction)
