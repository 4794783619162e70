"""What Slurm's controller says of a job: real answers, and names made to look like fields."""

import stat
from pathlib import Path

import pytest

from agent.errors import ProviderError
from agent.jobs.slurm import scontrol
from agent.jobs.slurm.facts import Facts, Gpu
from agent.jobs.slurm.scontrol import NoProgramError, read_job, show_job

# `scontrol -d -o show job` of Slurm 22.05.8 with SLURM_TIME_FORMAT=%s.
ANSWER = (
    "JobId=3 JobName={name} UserId=alice(1001) GroupId=alice(1001) MCS_label=N/A "
    "Priority=4294901759 Nice=0 Account={account} QOS=(null) JobState=RUNNING Reason=None "
    "Dependency=(null) Requeue=1 Restarts=0 BatchFlag=1 Reboot=0 ExitCode=0:0 DerivedExitCode=0:0 "
    "RunTime=00:00:03 TimeLimit=UNLIMITED TimeMin=N/A SubmitTime=1795215708 "
    "EligibleTime=1795215708 AccrueTime=1795215708 StartTime=1795215709 EndTime=Unknown "
    "Deadline=N/A SuspendTime=None SecsPreSuspend=0 LastSchedEval=1795215709 Scheduler=Main "
    "Partition=main AllocNode:Sid=localhost:19938 ReqNodeList=(null) ExcNodeList=(null) "
    "NodeList=n1 BatchHost=n1 NumNodes={nodes} NumCPUs=1 NumTasks=1 CPUs/Task=1 "
    "ReqB:S:C:T=0:0:*:* TRES=cpu=1,mem=200M,node=1,billing=1 Socks/Node=* NtasksPerN:B:S:C=0:0:*:* "
    "CoreSpec=* JOB_GRES=gpu:1   {detail} MinCPUsNode=1 MinMemoryNode=200M MinTmpDiskNode=0 "
    "Features=(null) DelayBoot=00:00:00 OverSubscribe=OK Contiguous=0 Licenses=(null) "
    "Network=(null) Command=(null) WorkDir=/tmp StdErr=/tmp/o.3 StdIn=/dev/null StdOut=/tmp/o.3 "
    "Power= TresPerNode=gres:gpu:1 \n"
)
DETAIL = "Nodes=n1 CPU_IDs=0 Mem=200 GRES=gpu:1(IDX:1)"


def answer(
    name: str = "train", account: str = "(null)", detail: str = DETAIL, nodes: int = 1
) -> str:
    return ANSWER.format(name=name, account=account, detail=detail, nodes=nodes)


def test_a_real_answer_says_everything() -> None:
    """User, account, CPUs, memory, GPUs and start."""
    assert read_job(answer(account="physics"), "3", "n1") == Facts(
        job_id="3",
        job_name="train",
        uid=1001,
        username="alice",
        account="physics",
        partition="main",
        node="n1",
        cpus=1,
        mem_kib=200 * 1024,
        gpus=(Gpu("1"),),
        started_ms=1_795_215_709_000,
    )


@pytest.mark.parametrize(
    ("gres", "gpus"),
    [
        ("", []),
        ("gpu:a100:2(IDX:0-1)", [Gpu("0"), Gpu("1")]),
        ("gpu:2(IDX:0,3),lustre:1(IDX:0)", [Gpu("0"), Gpu("3")]),
        ("shard:2(IDX:0)", [Gpu("0", "shard", 2, 0)]),
        ("mps:tesla:50(IDX:3)", [Gpu("3", "mps", 50, 0)]),
        ("shard:8(-/5,5/5,3/5)", [Gpu("1", "shard", 5, 5), Gpu("2", "shard", 3, 5)]),
        ("gpu(CNT:2)", []),
    ],
)
def test_generic_resources_are_gpus_and_parts_of_them(gres: str, gpus: list[Gpu]) -> None:
    """Shards without a total are of as many as the configuration says."""
    facts = read_job(answer(detail=f"Nodes=n1 CPU_IDs=0 Mem=200 GRES={gres}"), "3", "n1")
    assert facts
    assert list(facts.gpus or ()) == gpus


def test_only_what_the_job_has_on_this_node_counts() -> None:
    """A job on many nodes has a line for each kind of them."""
    detail = "Nodes=n[1-2] CPU_IDs=0-3,8 Mem=100 GRES=   Nodes=n3 CPU_IDs=0 Mem=0 GRES="
    first = read_job(answer(detail=detail, nodes=3), "3", "n2")
    third = read_job(answer(detail=detail, nodes=3), "3", "n3")
    other = read_job(answer(detail=detail, nodes=3), "3", "n4")
    assert first
    assert third
    assert other
    assert (first.cpus, first.mem_kib) == (5, 100 * 1024)
    assert (third.cpus, third.mem_kib) == (1, 200 * 1024)  # MinMemoryNode
    assert (other.cpus, other.gpus) == (None, None)


@pytest.mark.parametrize(
    ("request_", "kib"),
    [
        ("MinMemoryNode=50M", 50 * 1024),
        ("MinMemoryCPU=10M", 20 * 1024),
        ("MinMemoryNode=0", 0),
        ("MinMemoryNode=1 MinMemoryNode=2", None),
        ("", None),
    ],
)
def test_memory_that_slurm_does_not_give_out_is_what_was_asked_for(
    request_: str, kib: int | None
) -> None:
    """With SelectTypeParameters=CR_CPU a job has its limit, and `Mem=0`."""
    text = answer(detail="Nodes=n1 CPU_IDs=0-1 Mem=0 GRES=")
    facts = read_job(text.replace("MinMemoryNode=200M", request_), "3", "n1")
    assert facts
    assert facts.mem_kib == kib


def test_without_a_name_for_this_node_a_single_one_is_it() -> None:
    """Of several nobody says which."""
    single = read_job(answer(), "3", None)
    several = read_job(answer(nodes=2), "3", None)
    assert single
    assert several
    assert (single.cpus, several.cpus) == (1, None)


@pytest.mark.parametrize(
    "name",
    [
        "x UserId=root(0)",
        "x Account=rich",
        "x\nJobId=3 JobName=y UserId=root(0) GroupId=root(0)",
        "x Partition=cheap",
        "x StartTime=1",
    ],
)
def test_a_name_that_looks_like_fields_spoils_the_answer(name: str) -> None:
    """Who can say which one is Slurm's? Then Slurm has said nothing."""
    assert read_job(answer(name=name), "3", "n1") is None


def test_a_name_that_looks_like_an_allocation_spoils_that() -> None:
    """Whose job it is remains certain."""
    facts = read_job(answer(name="x Nodes=n[1-9] CPU_IDs=0 Mem=1 GRES="), "3", "n1")
    assert facts
    assert (facts.uid, facts.cpus, facts.gpus) == (1001, None, None)


def test_a_name_with_spaces_is_taken_whole() -> None:
    """It ends where the user begins."""
    facts = read_job(answer(name="my job (3) = best"), "3", "n1")
    assert facts
    assert facts.job_name == "my job (3) = best"


def test_of_an_array_the_right_task_is_read() -> None:
    """Slurm shows them all when asked for the one that has the array's number."""
    other = answer(name="other").replace("JobId=3 ", "JobId=4 ArrayJobId=3 ArrayTaskId=1 ")
    facts = read_job(other + answer(), "3", "n1")
    assert facts
    assert (facts.job_id, facts.job_name) == ("3", "train")


def test_a_job_may_be_asked_for_by_its_sluid() -> None:
    """Where its number is not known."""
    text = answer().replace("JobId=3 ", "JobId=3 SLUID=s5K1KKYAYG5D00 ")
    facts = read_job(text, "s5K1KKYAYG5D00", "n1")
    assert facts
    assert facts.job_id == "3"
    assert read_job(text, "s5K1KKYAYG5D01", "n1") is None


@pytest.mark.parametrize("text", ["", "\n", "JobId=3", "JobId=33 x", "garbage \0 UserId=", "["])
def test_what_is_no_answer_says_nothing(text: str) -> None:
    """Another version, another job, a broken pipe."""
    assert read_job(text, "3", "n1") is None


def script(folder: Path, body: str) -> str:
    path = folder / "scontrol"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_it_is_asked_for_one_job_with_details_and_plain_times(tmp_path: Path) -> None:
    """Instants as numbers, so that no time zone is between us."""
    program = script(tmp_path, 'echo "$SLURM_TIME_FORMAT" "$@"')
    assert show_job(program, "3") == "%s -d -o show job 3\n"


def test_a_job_that_slurm_forgot_is_no_failure(tmp_path: Path) -> None:
    """It keeps an ended job for MinJobAge."""
    program = script(tmp_path, "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1")
    assert show_job(program, "3") is None


def test_a_controller_that_does_not_answer_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it says so or hangs; and a missing program is told apart from it."""
    failing = script(tmp_path, "echo 'Unable to contact slurm controller' >&2; exit 1")
    with pytest.raises(ProviderError, match="Unable to contact"):
        show_job(failing, "3")
    monkeypatch.setattr(scontrol, "TIMEOUT_SECONDS", 0.05)
    with pytest.raises(ProviderError, match="did not answer"):
        show_job(script(tmp_path, "exec sleep 60"), "3")
    with pytest.raises(NoProgramError):
        show_job(str(tmp_path / "missing"), "3")
