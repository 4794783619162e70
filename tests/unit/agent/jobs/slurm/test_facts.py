"""What an environment says of a job; nothing in it is believed to be well-formed."""

import pytest

from agent.jobs.slurm.facts import Facts, Gpu, facts_of, is_about, memory_kib, numbers_in

BATCH = {
    "SLURM_JOB_ID": "7",
    "SLURM_JOB_NAME": "train",
    "SLURM_JOB_UID": "1001",
    "SLURM_JOB_USER": "alice",
    "SLURM_JOB_ACCOUNT": "physics",
    "SLURM_JOB_PARTITION": "gold",
    "SLURM_JOB_CPUS_PER_NODE": "4(x2)",
    "SLURM_CPUS_ON_NODE": "4",
    "SLURM_MEM_PER_NODE": "2048",
    "SLURM_JOB_GPUS": "0,3",
    "CUDA_VISIBLE_DEVICES": "0,1",
    "SLURMD_NODENAME": "n1",
}


def test_a_batch_job_says_everything() -> None:
    """As Slurm sets it for the script; the GPUs are the node's numbers, never CUDA's."""
    assert facts_of(BATCH) == Facts(
        job_id="7",
        job_name="train",
        uid=1001,
        account="physics",
        partition="gold",
        node="n1",
        cpus=4,
        mem_kib=2048 * 1024,
        gpus=(Gpu("0"), Gpu("3")),
    )


def test_without_gpus_there_are_none() -> None:
    """CUDA_VISIBLE_DEVICES alone is anybody's."""
    assert facts_of({"CUDA_VISIBLE_DEVICES": "0"}).gpus == ()
    assert facts_of({"SLURM_JOB_GPUS": "NoDevFiles"}).gpus == ()
    assert not facts_of({"CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "5"}).is_doubtful


@pytest.mark.parametrize(
    "more",
    [
        {"SLURM_STEP_GPUS": "2"},
        {"SLURM_JOB_GPUS": "2", "SLURM_SHARDS_ON_NODE": "3"},
        {"SLURM_JOB_GPUS": "2", "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "50"},
    ],
)
def test_gpus_of_a_step_and_shared_ones_are_doubtful(more: dict[str, str]) -> None:
    """A step may have fewer than its job; a percentage may be the user's own."""
    facts = facts_of(more)
    assert facts.gpus == (Gpu("2"),)
    assert facts.is_doubtful


def test_the_cpus_of_the_job_count_where_all_nodes_have_the_same() -> None:
    """Else those of the step: nobody says which of the numbers is ours."""
    assert facts_of({"SLURM_JOB_CPUS_PER_NODE": "8", "SLURM_CPUS_ON_NODE": "2"}).cpus == 8
    assert facts_of({"SLURM_JOB_CPUS_PER_NODE": "8(x2),4", "SLURM_CPUS_ON_NODE": "2"}).cpus == 2
    assert facts_of({"SLURM_JOB_CPUS_PER_NODE": "many"}).cpus is None


def test_memory_may_be_requested_by_node_by_cpu_or_by_gpu() -> None:
    """In MiB; without any nothing is said."""
    by_cpu = {"SLURM_CPUS_ON_NODE": "3", "SLURM_MEM_PER_CPU": "100"}
    by_gpu = {"SLURM_JOB_GPUS": "0,1", "SLURM_MEM_PER_GPU": "100"}
    assert facts_of(by_cpu).mem_kib == 300 * 1024
    assert facts_of(by_gpu).mem_kib == 200 * 1024
    assert facts_of({"SLURM_MEM_PER_CPU": "100"}).mem_kib is None
    assert facts_of({"SLURM_MEM_PER_NODE": "-1"}).mem_kib is None


@pytest.mark.parametrize(
    ("text", "kib"),
    [("200", 204800), ("1G", 1 << 20), ("2T", 1 << 31), ("5.5M", 5120), ("7K", 7), ("x", None)],
)
def test_amounts_are_as_slurm_writes_them(text: str, kib: int | None) -> None:
    """MiB where no unit is given."""
    assert memory_kib(text) == kib


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("0", ["0"]),
        ("0,2-4,2", ["0", "2", "3", "4"]),
        ("GPU-ab12,MIG-cd/1/0", ["GPU-ab12", "MIG-cd/1/0"]),
        ("gpu0,,-1,../x,9-2", []),
        ("", []),
    ],
)
def test_lists_of_devices_are_numbers_ranges_or_uuids(text: str, names: list[str]) -> None:
    """What is no device is passed over."""
    assert numbers_in(text) == names


def test_a_list_without_end_is_cut() -> None:
    """Nobody fills our memory by a variable."""
    assert len(numbers_in("0-9999,0-9999")) <= 1024


def test_only_an_environment_about_the_very_job_counts() -> None:
    """By number where the path has one, by SLUID where it has that."""
    assert is_about({"SLURM_JOB_ID": "7"}, job_id="7", sluid=None)
    assert not is_about({"SLURM_JOB_ID": "8"}, job_id="7", sluid=None)
    assert not is_about({"SLURM_JOB_ID": "7"}, job_id=None, sluid="s0")
    assert is_about({"SLURM_JOB_SLUID": "s0"}, job_id=None, sluid="s0")
    assert not is_about({}, job_id=None, sluid=None)


@pytest.mark.parametrize("uid", ["", "-1", "x", "99999999999", "\u0661"])
def test_a_user_is_a_number(uid: str) -> None:
    """Anything else is nobody."""
    assert facts_of({"SLURM_JOB_UID": uid}).uid is None
