"""Jobs as they come and go, in both cgroup versions, and what happens where a source fails."""

import pytest

from agent.errors import ProviderError
from agent.jobs.slurm import SlurmProvider
from agent.model import RunKey
from tests.unit.agent.conftest import wait_until
from tests.unit.agent.jobs.slurm.slurmnodes import (
    CPU,
    ENVIRON,
    MEM,
    NOW_MS,
    SLUID,
    SlurmNode,
    known,
    only,
)

TOLD = (
    "JobId={job} JobName=told UserId=alice(1001) GroupId=alice(1001) Account=told-account "
    "JobState=RUNNING StartTime=1699999000 Partition=told-partition NumNodes=1 "
    "Nodes=n1 CPU_IDs=0-3 Mem={mem} GRES={gres} MinCPUsNode=1\n"
)


def told(job: str = "7", *, gres: str = "", mem: int = 300) -> str:
    return TOLD.format(job=job, gres=gres, mem=mem)


def looked(provider: SlurmProvider) -> None:
    """Wait until every cgroup has been looked into."""
    provider.runs()
    provider._desk.lookout.wait_for_first(20)


def test_a_job_begins_with_its_cgroup_and_ends_with_it(node: SlurmNode) -> None:
    """However late it is known who it was; and it is told until its end is durable."""
    provider = node.provider()
    assert provider.runs() == []
    node.make(node.path())
    node.now_ms += 5_000
    assert provider.runs() == []  # nobody knows whose it is
    node.start(node.path(), 100, ENVIRON, age_s=1)
    node.now_ms += 1_000
    run = only(known(provider))
    assert run.started_at_ms == NOW_MS + 5_000  # when its cgroup was found
    node.now_ms += 60_000
    assert provider.runs()[0] is run  # nothing has changed
    node.stop(node.path())
    node.remove(node.path())
    node.now_ms += 1_000
    ended = only(provider.runs())
    assert (ended.key, ended.started_at_ms) == (run.key, run.started_at_ms)
    assert ended.ended_at_ms == node.now_ms
    node.now_ms += 10_000
    assert provider.runs() == [ended]
    provider.settled([run.key])
    assert provider.runs() == []
    provider.settled([run.key])


def test_a_job_is_awaited_until_it_is_known_whose_it_is(node: SlurmNode) -> None:
    """From its cgroup on, so that nothing in it is metered as somebody else's; to its end."""
    node.make(node.path("job_3"))
    provider = node.provider()
    provider._desk.lookout.wait_for_first(20)
    assert (provider.runs(), provider.awaited()) == ([], [])  # it was left behind
    node.make(node.path())
    assert (provider.runs(), provider.awaited()) == ([], [node.path()])
    node.start(node.path(), 100, ENVIRON)
    only(known(provider))
    assert provider.awaited() == []
    node.make(node.path("job_8"))
    provider.runs()
    assert provider.awaited() == [node.path("job_8")]
    node.remove(node.path("job_8"))
    provider.runs()
    assert provider.awaited() == []


def test_a_requeued_job_is_another_run(node: SlurmNode) -> None:
    """The same number in another cgroup, also before the end of the first was durable."""
    provider = node.provider()
    node.make(node.path())
    node.start(node.path(), 100, ENVIRON)
    first = only(known(provider))
    node.remove(node.path())
    node.now_ms += 5_000
    provider.runs()
    node.make(node.path())
    node.start(node.path(), 101, ENVIRON)
    node.now_ms += 5_000
    runs = {run.key: run for run in known(provider, 2)}
    ended = runs.pop(first.key)
    again = only(list(runs.values()))
    assert (ended.job_id, ended.ended_at_ms) == ("7", NOW_MS + 5_000)
    assert (again.job_id, again.started_at_ms, again.ended_at_ms) == ("7", NOW_MS + 10_000, None)


def test_a_suspended_job_holds_what_it_holds(v2_node: SlurmNode) -> None:
    """Frozen, or stopped for hours: the allocation stays."""
    provider = v2_node.provider()
    v2_node.make(v2_node.path())
    v2_node.start(v2_node.path(), 100, ENVIRON)
    run = only(known(provider))
    events = v2_node.cgroup_root / f"{v2_node.path()[1:]}/cgroup.events"
    events.write_text("populated 1\nfrozen 1\n")
    v2_node.now_ms += 7_200_000
    assert provider.runs() == [run]


def test_a_new_allocation_is_another_quota_of_the_same_run(node: SlurmNode) -> None:
    """`scontrol update`: noticed within a minute of looks also where nobody tells."""
    provider = node.provider()
    node.make(node.path())
    node.start(node.path(), 100, ENVIRON)
    before = only(known(provider))
    node.limit(node.path(), cpus="0", mem_bytes=104_857_600)
    runs = [only(provider.runs()) for _ in range(6)]
    assert runs[-1].quotas == {CPU: 1000, MEM: 100 * 1024}
    assert (runs[-1].key, runs[-1].started_at_ms) == (before.key, before.started_at_ms)


def test_limits_that_cannot_be_read_stay_as_they_were(node: SlurmNode) -> None:
    """A file that is gone for a moment is no smaller allocation."""
    provider = node.provider()
    node.make(node.path())
    node.start(node.path(), 100, ENVIRON)
    before = only(known(provider))
    for pattern in ("**/cpuset.cpus", "**/memory.max", "**/memory.limit_in_bytes"):
        for path in node.cgroup_root.glob(pattern):
            path.unlink()
    assert [provider.runs() for _ in range(6)] == [[before]] * 6


def test_jobs_that_were_there_are_waited_for(node: SlurmNode) -> None:
    """To leave one out of the first answer would end the run that it had before."""
    node.make(node.path())
    node.start(node.path(), 100, {"SLURM_JOB_ID": "8"})
    node.make(node.path("job_9"))
    node.start(node.path("job_9"), 101, ENVIRON | {"SLURM_JOB_ID": "9"})
    provider = node.provider()
    provider._desk.lookout.wait_for_first(20)
    with pytest.raises(ProviderError, match="not known yet whose"):
        provider.runs()
    node.now_ms += 30_000
    runs = {run.job_id: run for run in known(provider, 2)}
    assert runs["9"].username == "alice"
    assert runs["7"].started_at_ms == NOW_MS - 100_000  # its process's start, told once
    assert [problem.source for problem in provider.problems()] == [node.path()]


def test_a_new_job_that_nobody_knows_is_metered_after_half_a_minute(node: SlurmNode) -> None:
    """From its beginning, with what is known; others are not held up."""
    provider = node.provider()
    node.make(node.path())
    node.start(node.path(), 100, {"SLURM_JOB_ID": "8"}, uid=1001)
    looked(provider)
    node.now_ms += 29_000
    assert provider.runs() == []
    node.now_ms += 2_000
    run = only(known(provider))
    assert (run.job_id, run.job_name, run.username) == ("7", "7", "alice")
    assert run.started_at_ms == NOW_MS
    assert "not known" in provider.problems()[0].message


def test_what_is_learned_later_makes_its_quotas_right(node: SlurmNode) -> None:
    """Its first process may come after the half minute; then nothing is open any more."""
    provider = node.provider()
    node.make(node.path(), cpus=None, mem_bytes=None)
    node.start(node.path(), 99, {}, uid=0, step="step_extern")
    looked(provider)
    node.now_ms += 31_000
    assert only(known(provider)).quotas == {CPU: 0, MEM: 0}
    node.start(node.path(), 100, ENVIRON)
    wait_until(lambda: only(provider.runs()).quotas == {CPU: 2000, MEM: 200 * 1024})
    assert provider.problems() == []


def test_a_job_that_nobody_saw_alive_is_told_with_what_its_path_says(v1_node: SlurmNode) -> None:
    """Gone before the first look into it."""
    provider = v1_node.provider()
    v1_node.make(v1_node.path())
    provider.runs()
    v1_node.remove(v1_node.path())
    v1_node.now_ms += 500
    run = only(known(provider))
    assert (run.job_id, run.username) == ("7", "alice")
    assert (run.started_at_ms, run.ended_at_ms) == (NOW_MS, NOW_MS + 500)


def test_scontrol_is_asked_once_where_something_is_open(node: SlurmNode) -> None:
    """A shared GPU: only Slurm knows how much of it the job has."""
    program = node.scontrol(told(gres="shard:3(IDX:1)"))
    provider = node.provider(ask_scontrol="missing", scontrol=program, shards_per_gpu="4")
    shared = {"SLURM_JOB_GPUS": "1", "SLURM_SHARDS_ON_NODE": "3"}
    node.make(node.path())
    node.start(node.path(), 100, ENVIRON | shared)
    (device,) = only(known(provider)).devices
    assert (device.id, device.part) == ("minor:1", (0, 3, 4))
    for _ in range(20):
        provider.runs()
    assert node.asked() == ["7"]


def test_scontrol_is_not_asked_where_nothing_is(node: SlurmNode) -> None:
    """The usual job costs the controller nothing."""
    provider = node.provider(ask_scontrol="missing", scontrol=node.scontrol(told()))
    node.make(node.path())
    node.start(node.path(), 100, ENVIRON | {"SLURM_JOB_GPUS": "0"})
    assert only(known(provider)).job_name == "train"
    node.now_ms += 60_000
    provider.runs()
    assert node.asked() == []


def test_a_job_without_a_process_of_its_own_is_asked_about(node: SlurmNode) -> None:
    """An allocation that waits for its user to start something."""
    provider = node.provider(
        ask_scontrol="missing", scontrol=node.scontrol(told(gres="gpu:1(IDX:0)"))
    )
    node.make(node.path(), cpus=None, mem_bytes=None)
    node.start(node.path(), 99, {"SLURMD_NODENAME": "n1"}, uid=0, step="step_extern")
    looked(provider)
    assert node.asked() == []  # its first process may be about to start
    node.now_ms += 2_000
    run = only(known(provider))
    assert (run.job_name, run.username, run.vc) == ("told", "alice", "told-account")
    assert run.quotas == {CPU: 4000, MEM: 300 * 1024}
    assert [device.id for device in run.devices] == ["minor:0"]
    assert run.started_at_ms == NOW_MS


def test_an_administrator_may_believe_slurm_alone(node: SlurmNode) -> None:
    """`ask_scontrol = "always"`: names, accounts and GPUs are not the user's to say."""
    program = node.scontrol(told(gres="gpu:2(IDX:0-1)"))
    provider = node.provider(ask_scontrol="always", scontrol=program)
    node.make(node.path())
    node.start(node.path(), 100, ENVIRON)
    run = only(known(provider))
    assert (run.job_name, run.vc) == ("told", "told-account")
    assert [device.id for device in run.devices] == ["minor:0", "minor:1"]
    assert run.quotas == {CPU: 2000, MEM: 200 * 1024}  # the cgroup counts more


def test_slurms_word_about_another_users_job_is_not_taken(node: SlurmNode) -> None:
    """Of another cluster's controller, or of another run of that number."""
    other = told().replace("alice(1001)", "bob(1002)")
    provider = node.provider(ask_scontrol="always", scontrol=node.scontrol(other))
    node.make(node.path())
    node.start(node.path(), 100, ENVIRON)
    run = only(known(provider))
    assert (run.job_name, run.username, run.vc) == ("train", "alice", "physics")


def test_a_controller_that_does_not_answer_holds_up_nobody_for_long(node: SlurmNode) -> None:
    """The job is told after half a minute, as its environment has it; runs stay."""
    program = node.scontrol("Unable to contact slurm controller", status=1)
    provider = node.provider(ask_scontrol="missing", scontrol=program)
    node.make(node.path("job_8"))
    node.start(node.path("job_8"), 101, ENVIRON | {"SLURM_JOB_ID": "8"})
    kept = only(known(provider))
    node.make(node.path())
    node.start(node.path(), 100, ENVIRON | {"SLURM_STEP_GPUS": "2"})
    looked(provider)
    wait_until(lambda: provider.runs() == [kept] and node.asked())
    node.now_ms += 30_000
    runs = {run.job_id: run for run in known(provider, 2)}
    assert runs["8"] is kept
    assert runs["7"].job_name == "train"
    assert [device.id for device in runs["7"].devices] == ["minor:2"]
    wait_until(lambda: any("Unable" in problem.message for problem in provider.problems()))


def test_a_missing_scontrol_is_not_waited_for(node: SlurmNode) -> None:
    """It will not come; what is open stays open, and it is said why."""
    provider = node.provider(ask_scontrol="missing", scontrol="/nonexistent/scontrol")
    node.make(node.path())
    node.start(node.path(), 100, ENVIRON | {"SLURM_STEP_GPUS": "2"})
    assert [device.id for device in only(known(provider)).devices] == ["minor:2"]
    assert any("/nonexistent/scontrol" in problem.message for problem in provider.problems())


def test_a_job_that_slurm_has_forgotten_is_told_as_it_was_seen(node: SlurmNode) -> None:
    """scontrol knows a job no longer than MinJobAge."""
    program = node.scontrol("Invalid job id specified", status=1)
    provider = node.provider(ask_scontrol="always", scontrol=program)
    node.make(node.path())
    node.start(node.path(), 100, ENVIRON)
    assert only(known(provider)).job_name == "train"
    assert node.asked() == ["7"]


def test_a_sluid_is_asked_for_as_it_is(v2_node: SlurmNode) -> None:
    """Where neither slurmstepd nor a process says the number."""
    text = told("1234").replace("JobId=1234 ", f"JobId=1234 SLUID={SLUID} ")
    provider = v2_node.provider(ask_scontrol="missing", scontrol=v2_node.scontrol(text))
    path = v2_node.path(SLUID)
    v2_node.make(path)
    v2_node.start(path, 100, {"SLURM_JOB_ID": "9"})
    looked(provider)
    v2_node.now_ms += 2_000
    run = only(known(provider))
    assert (run.job_id, run.job_name) == ("1234", "told")
    assert v2_node.asked() == [SLUID]


def test_a_hierarchy_that_is_gone_ends_nothing(node: SlurmNode) -> None:
    """Unmounted under us: no answer, and afterwards the same run."""
    provider = node.provider()
    node.make(node.path())
    node.start(node.path(), 100, ENVIRON)
    run = only(known(provider))
    away = node.cgroup_root.with_name("away")
    node.cgroup_root.rename(away)
    with pytest.raises(ProviderError, match="not mounted"):
        provider.runs()
    away.rename(node.cgroup_root)
    assert provider.runs() == [run]


def test_a_cgroup_that_stays_behind_ends_with_its_last_process(
    node: SlurmNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slurm leaves some for ever; one that is used again is another run."""
    monkeypatch.setattr("agent.jobs.slurm.lookout._SELDOM_SECONDS", 0.01)
    provider = node.provider()
    node.make(node.path())
    node.start(node.path(), 100, ENVIRON)
    run = only(known(provider))
    node.now_ms += 10_000
    node.stop(node.path())
    sighting = provider._desk.lookout.sighting
    key = run.key.removeprefix("slurm:")
    wait_until(lambda: not (seen := sighting(key)) or not seen.is_populated)
    assert provider.runs() == [run]
    node.now_ms += 119_000
    assert provider.runs() == [run]
    node.now_ms += 2_000
    ended = only(provider.runs())
    assert ended.ended_at_ms == NOW_MS + 10_000
    provider.settled([run.key])
    node.now_ms += 600_000
    assert provider.runs() == []
    node.start(node.path(), 101, ENVIRON)
    again = only(known(provider))
    assert again.job_id == "7"
    assert again.key != run.key
    assert (again.started_at_ms, again.ended_at_ms) == (node.now_ms, None)
    assert again.metered_until_ms == node.now_ms  # its counter holds the first one's usage
    node.remove(node.path())
    assert only(provider.runs()).ended_at_ms == node.now_ms
    provider.settled([again.key])
    assert provider.runs() == []


def test_a_folder_left_behind_before_we_came_is_never_told(node: SlurmNode) -> None:
    """Neither while it is there nor when somebody removes it."""
    node.make(node.path())
    provider = node.provider()
    provider._desk.lookout.wait_for_first(20)
    assert provider.runs() == []
    node.remove(node.path())
    assert provider.runs() == []
    assert provider.problems() == []


def test_a_forged_folder_of_gpus_is_reported(node: SlurmNode) -> None:
    """Anybody could say who pays for a GPU."""
    folder = node.root / "run/gpustat"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    (problem,) = node.provider().problems()
    assert problem.source == str(folder)


def test_keys_of_others_are_passed_over(node: SlurmNode) -> None:
    """A run that lives cannot be settled."""
    provider = node.provider()
    node.make(node.path())
    node.start(node.path(), 100, ENVIRON)
    run = only(known(provider))
    provider.settled([run.key, RunKey("slurm:/another#1"), RunKey("docker:x")])
    assert provider.runs() == [run]
    assert provider.watch_paths() == ()
