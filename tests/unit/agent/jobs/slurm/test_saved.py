"""Jobs on a saved tree, in both cgroup versions: whose they are, and what they were given."""

import json

import pytest

from agent.model import DEVICE_UNITS, DeviceShare, ResourceType
from tests.unit.agent.jobs.slurm.slurmnodes import CPU, ENVIRON, MEM, NOW_MS, SLUID, SlurmNode, only


def gpu(name: str) -> DeviceShare:
    return DeviceShare(type=ResourceType.GPU, id=name, model=None)


def test_a_job_is_told_with_everything_that_slurm_told_it(node: SlurmNode) -> None:
    """Number, name, user, account, allocation; from its first process on."""
    node.make(node.path())
    node.start(node.path(), 100, ENVIRON | {"SLURM_JOB_GPUS": "0,2"})
    run = only(node.saved().runs())
    assert (run.provider, run.job_id, run.job_name) == ("slurm", "7", "train")
    assert (run.username, run.vc, run.kind) == ("alice", "physics", "job")
    assert run.quotas == {CPU: 2000, MEM: 200 * 1024}
    assert run.devices == (gpu("minor:0"), gpu("minor:2"))
    assert run.cgroup == node.path()
    assert run.key.startswith(f"slurm:{node.path()}#")
    assert run.started_at_ms == NOW_MS - 100_000
    assert run.ended_at_ms is None


def test_a_node_without_slurm_has_no_jobs(node: SlurmNode) -> None:
    """An empty answer, no failure; also with nothing mounted at all."""
    assert node.saved().runs() == []
    for path in node.cgroup_root.rglob("*"):
        if path.is_file():
            path.unlink()
    assert node.saved().runs() == []


def test_several_slurmd_on_a_machine_have_their_own_jobs(node: SlurmNode) -> None:
    """The same number may run on each of them."""
    for at, name in enumerate(("n1", "n2")):
        node.make(node.path(node=name))
        node.start(node.path(node=name), 100 + at, ENVIRON | {"SLURMD_NODENAME": name})
    runs = node.saved().runs()
    assert [run.job_id for run in runs] == ["7", "7"]
    assert len({run.key for run in runs}) == 2


def test_a_job_has_as_many_steps_as_it_likes_and_is_one_run(node: SlurmNode) -> None:
    """The script speaks for it, not what it started later under other names."""
    node.make(node.path())
    node.start(node.path(), 90, ENVIRON | {"SLURM_JOB_NAME": "step"}, step="step_0")
    node.start(node.path(), 95, ENVIRON | {"SLURM_JOB_NAME": "later"}, step="step_10")
    node.start(node.path(), 100, ENVIRON)
    node.start(node.path(), 80, {}, uid=0, step="step_extern")
    assert only(node.saved().runs()).job_name == "train"


def test_a_name_may_be_anything_and_is_made_fit_for_a_bill(node: SlurmNode) -> None:
    """Control characters, endless names, none at all."""
    node.make(node.path())
    node.start(node.path(), 100, ENVIRON | {"SLURM_JOB_NAME": "a\x1b[2Jb" + "x" * 999})
    run = only(node.saved().runs())
    assert len(run.job_name) == 256
    assert "\x1b" not in run.job_name
    nameless = {name: value for name, value in ENVIRON.items() if name != "SLURM_JOB_NAME"}
    node.start(node.path(), 99, nameless)
    assert only(node.saved().runs()).job_name == "7"


@pytest.mark.parametrize(
    ("settings", "vc"),
    [
        ({}, "physics"),
        ({"vc_from": "partition"}, "gold"),
        ({"vc_names": "physics=VC 1,gold=VC 2"}, "VC 1"),
        ({"vc_from": "partition", "vc_names": "gold=VC 2"}, "VC 2"),
    ],
)
def test_account_or_partition_make_the_virtual_cluster(
    v2_node: SlurmNode, settings: dict[str, str], vc: str
) -> None:
    """As they stand, or by names of the administrator's own."""
    v2_node.make(v2_node.path())
    v2_node.start(v2_node.path(), 100, ENVIRON)
    assert only(v2_node.saved(**settings).runs()).vc == vc


def test_without_an_account_the_partition_stands_for_it(v2_node: SlurmNode) -> None:
    """Slurm without its database knows no accounts."""
    v2_node.make(v2_node.path())
    environ = {name: value for name, value in ENVIRON.items() if name != "SLURM_JOB_ACCOUNT"}
    v2_node.start(v2_node.path(), 100, environ)
    assert only(v2_node.saved().runs()).vc == "gold"


def test_nothing_requested_is_nothing_never_the_node(node: SlurmNode) -> None:
    """A limit of the whole memory is none, nor is no limit, nor the CPUs of the parent."""
    node.make(node.path(), cpus=None, mem_bytes=25_275_924_480)
    environ = {"SLURM_JOB_ID": "7", "SLURM_JOB_UID": "1001"}
    node.start(node.path(), 100, environ)
    node.make(node.path("job_8"), cpus=None, mem_bytes=None)
    node.start(node.path("job_8"), 101, environ | {"SLURM_JOB_ID": "8"})
    assert [run.quotas for run in node.saved().runs()] == [{CPU: 0, MEM: 0}] * 2


def test_without_limits_the_environment_says_what_was_allocated(node: SlurmNode) -> None:
    """Where cgroup.conf constrains nothing."""
    node.make(node.path(), cpus=None, mem_bytes=None)
    node.start(node.path(), 100, ENVIRON)
    assert only(node.saved().runs()).quotas == {CPU: 2000, MEM: 200 * 1024}


def test_an_environment_about_another_job_is_not_believed(node: SlurmNode) -> None:
    """Nor is CUDA's numbering; what the path says remains."""
    node.make(node.path())
    node.start(node.path(), 100, ENVIRON | {"SLURM_JOB_ID": "8", "SLURM_JOB_GPUS": "0"})
    node.start(node.path(), 101, {"CUDA_VISIBLE_DEVICES": "0"})
    run = only(node.saved().runs())
    assert (run.job_id, run.job_name, run.username) == ("7", "7", "alice")
    assert run.devices == ()


def test_an_environment_of_another_user_is_not_believed(node: SlurmNode) -> None:
    """Who pays is who the processes belong to, whatever they claim."""
    node.make(node.path())
    liar = ENVIRON | {"SLURM_JOB_UID": "0", "SLURM_JOB_NAME": "liar"}
    node.start(node.path(), 100, liar, uid=1001 if node.is_v2 else 1002)
    node.start(node.path(), 101, ENVIRON)
    run = only(node.saved().runs())
    assert (run.username, run.job_name) == ("alice", "train")


def test_a_job_of_roots_may_be_roots(node: SlurmNode) -> None:
    """0 is a user."""
    node.make(node.path(uid=0))
    node.start(node.path(uid=0), 100, ENVIRON | {"SLURM_JOB_UID": "0"}, uid=0)
    assert only(node.saved().runs()).username == "root"


def test_a_user_without_an_account_here_is_a_number(node: SlurmNode) -> None:
    """His name is not taken from his own environment."""
    node.make(node.path(uid=4242))
    environ = ENVIRON | {"SLURM_JOB_UID": "4242", "SLURM_JOB_USER": "alice"}
    node.start(node.path(uid=4242), 100, environ, uid=4242)
    assert only(node.saved().runs()).username == "4242"


def test_a_prologs_note_counts_more_than_the_environment(node: SlurmNode) -> None:
    """It is root's, and has the uuid."""
    noted = node.root / "run/gpustat"
    noted.mkdir(parents=True)
    (noted / "GPU-ab").write_text("7 1001\n")
    (noted / "3").write_text("7 1001\n")
    node.make(node.path())
    node.start(node.path(), 100, ENVIRON | {"SLURM_JOB_GPUS": "0"})
    assert only(node.saved().runs()).devices == (gpu("GPU-ab"),)


def test_where_nobody_says_how_large_a_shard_is_it_counts_as_its_gpu(node: SlurmNode) -> None:
    """No environment makes it smaller: only Slurm itself could say what is shared."""
    node.make(node.path())
    shared = {"SLURM_JOB_GPUS": "1", "SLURM_SHARDS_ON_NODE": "2"}
    mine = {"CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "1"}
    node.start(node.path(), 100, ENVIRON | shared | mine)
    (device,) = only(node.saved().runs()).devices
    assert (device.id, device.part, device.share) == ("minor:1", (0, 1, 1), DEVICE_UNITS)


def test_a_sluid_is_a_job_whose_number_slurmstepd_shows(v2_node: SlurmNode) -> None:
    """From its title, which is root's; not from a process that only looks like it."""
    path = v2_node.path(SLUID)
    v2_node.make(path)
    v2_node.start(path, 90, uid=0, title="slurmstepd: [1234.batch]\0")
    environ = ENVIRON | {"SLURM_JOB_ID": "9", "SLURM_JOB_SLUID": SLUID}
    v2_node.start(path, 100, environ)
    run = only(v2_node.saved().runs())
    assert (run.job_id, run.job_name, run.username) == ("1234", "train", "alice")
    assert run.started_at_ms == NOW_MS - 100_000


def test_a_sluid_without_slurmstepd_has_its_number_from_its_environment(v2_node: SlurmNode) -> None:
    """And where nobody says it, the SLUID itself is the number."""
    path, other = v2_node.path(SLUID), v2_node.path("s5K1KKYAYG5D01")
    for each in (path, other):
        v2_node.make(each)
        v2_node.start(each, 100 + len(each), uid=1001, title="slurmstepd: [666.batch]\0")
    v2_node.start(path, 100, ENVIRON | {"SLURM_JOB_SLUID": SLUID})
    v2_node.start(other, 101, ENVIRON | {"SLURM_JOB_SLUID": SLUID})
    runs = {run.cgroup: run for run in v2_node.saved().runs()}
    assert runs[path].job_id == "7"
    assert runs[other].job_id == "s5K1KKYAYG5D01"
    assert runs[other].username == "alice"  # whose processes they are is seen anyway


def test_a_moved_slice_is_found_where_the_settings_say(v2_node: SlurmNode) -> None:
    """CgroupSlice=batch.slice."""
    path = "/batch.slice/slurmstepd.scope/job_7"
    v2_node.make(path)
    v2_node.start(path, 100, ENVIRON)
    assert v2_node.saved().runs() == []
    assert only(v2_node.saved(cgroup_slices="batch.slice").runs()).job_id == "7"


def test_a_folder_that_slurm_left_behind_is_no_job(node: SlurmNode) -> None:
    """It would be billed for ever."""
    node.make(node.path())
    assert node.saved().runs() == []


def test_an_environment_that_is_hidden_leaves_what_the_cgroup_says(node: SlurmNode) -> None:
    """And says what to do about it."""
    node.make(node.path())
    node.start(node.path(), 100)
    provider = node.saved()
    run = only(provider.runs())
    assert (run.job_id, run.username) == ("7", "alice")
    assert run.quotas == {CPU: 2000, MEM: 200 * 1024}
    (problem, *_) = provider.problems()
    assert problem.source == node.path()
    assert "root" in problem.message


@pytest.mark.parametrize("text", ["", "\0\0\0", "=\0=7\0SLURM_JOB_ID\0", "\xff\xfe=\xff"])
def test_a_broken_environment_harms_nobody(node: SlurmNode, text: str) -> None:
    """Whatever a process made of it."""
    node.make(node.path())
    node.start(node.path(), 100, ENVIRON)
    (node.root / "proc/100/environ").write_text(text, encoding="latin-1")
    node.make(node.path("job_8"))
    node.start(node.path("job_8"), 101, ENVIRON | {"SLURM_JOB_ID": "8"})
    runs = {run.job_id: run for run in node.saved().runs()}
    assert runs["8"].job_name == "train"
    assert runs["7"].job_name == "7"


def test_what_is_told_can_be_printed(node: SlurmNode) -> None:
    """No surrogate of a broken text is left in what goes to a bill."""
    node.make(node.path())
    node.start(node.path(), 100, ENVIRON)
    raw = b"SLURM_JOB_ID=7\0SLURM_JOB_NAME=\xff\xfe\0SLURM_JOB_PARTITION=\xff\0"
    (node.root / "proc/100/environ").write_bytes(raw)
    run = only(node.saved().runs())
    json.dumps([run.job_name, run.vc]).encode()
    (run.job_name + run.vc).encode()
