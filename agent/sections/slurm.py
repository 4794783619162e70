"""[slurm]: where Slurm puts its jobs on this node, what it calls devices, what makes a vc."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.config import Check, Reader, check_path

ASK_WHEN = ("missing", "always", "never")
VC_FROM = ("account", "partition")
GPU_INDEX = ("minor", "nvml")

_SLICE = re.compile(r"[^/\0]+\.slice")
_DEVICE = re.compile(r"[A-Za-z0-9:./-]{1,128}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SlurmSettings:
    """How this cluster's Slurm is set up; the defaults are Slurm's own.

    `cgroup_slices` are systemd slices (cgroup.conf's CgroupSlice) or cgroups that hold
    slurmstepd.scope. `gpu_index` says what Slurm's number of a GPU means; where that is
    neither, `gpu_devices` names the devices in the order of gres.conf. `gpu_files` are the
    folders in which a prolog notes which job has which GPU. `shards_per_gpu` 0 = unknown: a
    shard counts as its GPU. scontrol is asked once a job at most: where other sources do not
    say everything (`ask_scontrol` missing), always, or never.
    """

    cgroup_slices: tuple[str, ...]
    vc_from: str
    vc_names: Mapping[str, str] = field(default_factory=dict[str, str])
    gpu_index: str
    gpu_devices: tuple[str, ...]
    gpu_files: tuple[str, ...]
    shards_per_gpu: int
    mps_per_gpu: int
    scontrol: str
    ask_scontrol: str


def ask_slurm(reader: Reader) -> SlurmSettings:
    """Take [slurm]."""
    names = reader.texts("slurm", "vc_names", (), _check_name)
    return SlurmSettings(
        cgroup_slices=reader.texts("slurm", "cgroup_slices", ("system.slice",), _check_slice),
        vc_from=reader.text("slurm", "vc_from", "account", _one_of(VC_FROM)),
        vc_names=dict(_split(name) for name in names),
        gpu_index=reader.text("slurm", "gpu_index", "minor", _one_of(GPU_INDEX)),
        gpu_devices=reader.texts("slurm", "gpu_devices", (), _check_device),
        gpu_files=reader.texts("slurm", "gpu_files", ("/run/gpustat",), check_path),
        shards_per_gpu=reader.whole("slurm", "shards_per_gpu", 0, least=0, most=100_000),
        mps_per_gpu=reader.whole("slurm", "mps_per_gpu", 100, least=1, most=100_000),
        scontrol=reader.text("slurm", "scontrol", "scontrol", _check_program),
        ask_scontrol=reader.text("slurm", "ask_scontrol", "missing", _one_of(ASK_WHEN)),
    )


def _one_of(words: tuple[str, ...]) -> Check:
    def check(value: str) -> str | None:
        return None if value in words else f"must be one of {', '.join(words)}"

    return check


def _split(name: str) -> tuple[str, str]:
    source, _, vc = name.partition("=")
    return source.strip(), vc.strip()


def _check_name(value: str) -> str | None:
    source, vc = _split(value)
    fits = source and vc and len(vc) <= 256 and value.isprintable()
    return None if fits else "must be NAME=VC, such as physics=vc-physics"


def _check_slice(value: str) -> str | None:
    is_path = value.startswith("/") and "/../" not in f"{value}/" and "\0" not in value
    fits = is_path or _SLICE.fullmatch(value)
    return None if fits else "must be a slice such as system.slice, or a cgroup such as /a/b"


def _check_device(value: str) -> str | None:
    fits = _DEVICE.fullmatch(value)
    return None if fits else "must be a device's uuid or another name that this agent knows"


def _check_program(value: str) -> str | None:
    is_name = value and "/" not in value
    return None if is_name else check_path(value)
