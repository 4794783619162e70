"""The keys of [slurm]: defaults that fit a stock machine, and mistakes that are named."""

from typing import TYPE_CHECKING

import pytest

from agent.config import Reader
from agent.sections.slurm import SlurmSettings, ask_slurm

if TYPE_CHECKING:
    from agent.config import Toml


def ask(**keys: str | int | list[str]) -> tuple[SlurmSettings, list[str]]:
    values: dict[str, Toml] = {
        key: [*value] if isinstance(value, list) else value for key, value in keys.items()
    }
    reader = Reader({"slurm": values}, {})
    return ask_slurm(reader), list(reader.problems())


def test_a_stock_machine_needs_no_key() -> None:
    """Slurm's own slice and numbers, jobstats' folder, and scontrol from the path."""
    settings, problems = ask()
    assert problems == []
    assert settings == SlurmSettings(
        cgroup_slices=("system.slice",),
        vc_from="account",
        vc_names={},
        gpu_index="minor",
        gpu_devices=(),
        gpu_files=("/run/gpustat",),
        shards_per_gpu=0,
        mps_per_gpu=100,
        scontrol="scontrol",
        ask_scontrol="missing",
    )


def test_every_key_can_be_set() -> None:
    """As the documentation has them."""
    settings, problems = ask(
        cgroup_slices=["batch.slice", "/a/b"],
        vc_from="partition",
        vc_names=["physics = VC 1", "gold=VC 2"],
        gpu_index="nvml",
        gpu_devices=["GPU-ab", "MIG-cd"],
        gpu_files=["/var/run/gpus"],
        shards_per_gpu=8,
        mps_per_gpu=200,
        scontrol="/opt/slurm/bin/scontrol",
        ask_scontrol="never",
    )
    assert problems == []
    assert settings.vc_names == {"physics": "VC 1", "gold": "VC 2"}
    assert (settings.gpu_index, settings.gpu_devices) == ("nvml", ("GPU-ab", "MIG-cd"))
    assert (settings.shards_per_gpu, settings.scontrol) == (8, "/opt/slurm/bin/scontrol")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("cgroup_slices", ["system"]),
        ("cgroup_slices", ["/a/../b"]),
        ("vc_from", "user"),
        ("vc_names", ["physics"]),
        ("vc_names", ["=x"]),
        ("gpu_index", "pci"),
        ("gpu_devices", ["a b"]),
        ("gpu_files", ["gpustat"]),
        ("shards_per_gpu", -1),
        ("mps_per_gpu", 0),
        ("scontrol", "bin/scontrol"),
        ("scontrol", ""),
        ("ask_scontrol", "often"),
    ],
)
def test_a_mistake_is_named_by_its_key(key: str, value: str | int | list[str]) -> None:
    """And the default stands in its place."""
    settings, (problem, *_) = ask(**{key: value})
    assert f"[slurm] {key}" in problem
    assert settings == ask()[0]
