"""Which GPUs a job has: what a prolog noted, and what Slurm's numbers mean."""

import os
from pathlib import Path

import pytest

from agent.jobs.slurm.facts import Gpu
from agent.jobs.slurm.gpus import GpuNames, distrust, noted_gpus

UUID = "GPU-8a56a4bc-1111-2222-3333-444444444444"
MIG = "MIG-8a56a4bc-5555-6666-7777-888888888888"


def noted(folder: Path, job_id: str = "7", uid: int | None = 1001) -> list[Gpu] | None:
    found = noted_gpus([str(folder), "/nonexistent"], job_id, uid)
    return None if found is None else list(found)


def test_jobstats_files_name_a_gpu_by_number_and_uuid(tmp_path: Path) -> None:
    """One GPU, not two; the uuid is the better name."""
    (tmp_path / "0").write_text("7 1001\n")
    (tmp_path / UUID).write_text("7 1001\n")
    (tmp_path / "1").write_text("8 1002\n")
    assert noted(tmp_path) == [Gpu(UUID)]
    assert noted(tmp_path, "8", 1002) == [Gpu("1")]
    assert noted(tmp_path, "9") is None


def test_a_mig_device_is_not_the_gpu_that_it_is_cut_from(tmp_path: Path) -> None:
    """The helper notes both."""
    for name in ("0", UUID, MIG):
        (tmp_path / name).write_text("7 1001\n")
    assert noted(tmp_path) == [Gpu(MIG)]


def test_dcgm_files_list_jobs_by_gpu_and_instance(tmp_path: Path) -> None:
    """Several jobs may share one; the number is NVML's there."""
    (tmp_path / "0").write_text("7\n8\n")
    (tmp_path / "1.3").write_text("8\n")
    assert noted(tmp_path) == [Gpu("nvml:0")]
    assert noted(tmp_path, "8") == [Gpu("nvml:0"), Gpu("1.3")]
    names = GpuNames()
    assert [share.id for share in names.shares([Gpu("nvml:0"), Gpu("1.3")])] == ["0", "1.3"]


def test_a_file_about_another_users_job_of_that_number_does_not_count(tmp_path: Path) -> None:
    """Left behind by another cluster, or written by mistake."""
    (tmp_path / "0").write_text("7 1002\n")
    assert noted(tmp_path) is None
    assert noted(tmp_path, uid=None) == [Gpu("0")]


@pytest.mark.parametrize("content", ["", "7x", "77 1001", "\0\xff", "x 7 1001", "7 1001" * 99999])
def test_a_broken_file_says_nothing(tmp_path: Path, content: str) -> None:
    """Nor does a name that is no GPU's."""
    (tmp_path / "0").write_text(content)
    (tmp_path / "README").write_text("7 1001\n")
    (tmp_path / "0.tmp").write_text("7 1001\n")
    assert noted(tmp_path) is None


def test_nobody_else_may_say_who_has_a_gpu(tmp_path: Path) -> None:
    """A folder or file that anybody may write is not believed, nor a link followed."""
    trusted = tmp_path / "trusted"
    trusted.mkdir()
    (trusted / "0").write_text("7 1001\n")
    (trusted / "0").chmod(0o666)
    (tmp_path / "outside").write_text("7 1001\n")
    (trusted / "1").symlink_to(tmp_path / "outside")
    os.mkfifo(trusted / "2")
    assert noted(trusted) is None
    (trusted / "0").chmod(0o644)
    assert noted(trusted) == [Gpu("0")]
    trusted.chmod(0o777)
    assert noted(trusted) is None
    assert "chmod" in (distrust(str(trusted)) or "")
    assert distrust(str(tmp_path / "missing")) is None


def test_slurms_number_is_a_minor_number_unless_told_otherwise() -> None:
    """NVML's counts by PCI address; gres.conf may have any order."""
    gpus = [Gpu("1"), Gpu(UUID)]
    assert [share.id for share in GpuNames().shares(gpus)] == ["minor:1", UUID]
    assert [share.id for share in GpuNames(is_minor=False).shares(gpus)] == ["1", UUID]
    listed = GpuNames(listed=[UUID, MIG])
    assert [share.id for share in listed.shares([*gpus, Gpu("2")])] == [MIG, UUID, "slurm:2"]


def test_shards_and_mps_are_parts_of_a_gpu() -> None:
    """As many as the configuration cuts it into; unknown parts count as all of it."""
    gpus = [Gpu("0", "shard", 2, 0), Gpu("1", "mps", 25, 0), Gpu("2", "shard", 3, 4)]
    known, unknown = GpuNames(shards=8), GpuNames()
    assert [share.part for share in known.shares(gpus)] == [(0, 2, 8), (0, 25, 100), (0, 3, 4)]
    assert [share.part for share in unknown.shares(gpus)] == [(0, 1, 1), (0, 25, 100), (0, 3, 4)]
    assert [unknown.is_unknown(gpu) for gpu in gpus] == [True, False, False]
    assert GpuNames(shards=1).shares(gpus[:1])[0].part == (0, 1, 1)  # never more than all
