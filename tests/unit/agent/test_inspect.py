"""`nodemeter-agent inspect` shows what would be metered, here and on a saved tree."""

import json
import os
import subprocess
import sys
from collections import UserDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from agent.config import Reader
from agent.inspection.save import save_tree
from agent.jobs.kubernetes.podlogs import pod_names
from agent.jobs.slurm.facts import VARIABLES, facts_of, is_about
from agent.settings import build_settings
from tests.unit.agent.conftest import wait_until
from tests.unit.agent.launch.test_exec import ROOT


class Node:
    """A node with jobs directory and cgroup root of the test's own."""

    def __init__(self, tmp_path: Path) -> None:
        self.tmp_path = tmp_path
        self.jobs = tmp_path / "jobs.d"
        self.cgroups = tmp_path / "cgroups"
        self.jobs.mkdir()
        self.cgroups.mkdir()

    def agent(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "agent", *words]
        return subprocess.run(
            command,
            cwd=ROOT,
            env=self.environ(),
            text=True,
            capture_output=True,
            check=False,
            timeout=60,
        )

    def environ(self) -> dict[str, str]:
        ours = {
            "NODEMETER_AGENT_CONFIG": "/dev/null",
            "NODEMETER_JOBS_DIR": str(self.jobs),
            "NODEMETER_JOBS_PROVIDERS": "files,slurm",
            "NODEMETER_CGROUP_ROOT": str(self.cgroups),
        }
        return {k: v for k, v in os.environ.items() if not k.startswith("NODEMETER_")} | ours

    def inspect(self, *words: str) -> dict[str, Any]:
        """The report as a program reads it."""
        done = self.agent("inspect", "--json", *words)
        assert done.returncode == 0, done.stderr
        report: dict[str, Any] = json.loads(done.stdout)
        return report


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


@pytest.fixture
def job(node: Node) -> Iterator[Sequence[str]]:
    """A job that runs in a process tree until the test is over."""
    words = ["exec", "--name", "burn", "--vc", "lab", "--cpu", "500m", "--mem", "64Mi", "--", "cat"]
    with subprocess.Popen(
        [sys.executable, "-m", "agent", *words],
        cwd=ROOT,
        env=node.environ(),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    ) as process:
        wait_until(lambda: list(node.jobs.glob("*.json")))
        wait_until(lambda: node.inspect()["runs"])
        yield words
        process.communicate()


@pytest.mark.usefixtures("job")
def test_a_running_job_is_shown_with_quota_and_use(node: Node) -> None:
    """Who, what was requested, and what could be read of it just now."""
    (run,) = node.inspect()["runs"]
    assert (run["provider"], run["job_name"], run["vc"]) == ("files", "burn", "lab")
    assert run["quotas"] == {"cpu": 500, "mem": 65_536}
    assert {reading["type"] for reading in run["readings"]} == {"cpu", "mem"}
    text = node.agent("inspect").stdout
    (line,) = [line for line in text.splitlines() if line.startswith("burn-")]
    assert "burn" in line
    assert "lab" in line
    assert "  500  " in line
    assert "  64  " in line


@pytest.mark.usefixtures("job")
def test_a_saved_tree_shows_the_same(node: Node, tmp_path: Path) -> None:
    """A bug report can be replayed where it did not happen."""
    here = node.inspect()
    saved = node.agent("inspect", "--save", str(tmp_path / "tree"))
    assert saved.returncode == 0, saved.stderr
    there = node.inspect("--root", str(tmp_path / "tree"))
    assert there["root"] == str(tmp_path / "tree")
    assert there["capacity"] == here["capacity"]
    drop = {"readings"}
    runs = [[{k: v for k, v in run.items() if k not in drop} for run in report["runs"]]
            for report in (here, there)]  # fmt: skip
    assert runs[0] == runs[1]


def test_a_tree_does_not_hold_secrets(node: Node, tmp_path: Path) -> None:
    """Of environments only the variables that are read are saved, whatever others are called."""
    words = {"SLURM_JOB_ID": "7", "NVIDIA_VISIBLE_DEVICES": "0"}
    secret = {
        "AWS_SECRET_ACCESS_KEY": "hush",
        "SLURM_TOKEN": "hush",
        "SLURM_JWT": "hush",
        "JOB_URL": "https://u:hush@example.org",
        "PAI_WEBHOOK": "hush",
    }
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, env=words | secret) as process:
        node.agent("inspect", "--save", str(tmp_path / "tree"))
        environ = (tmp_path / f"tree/proc/{process.pid}/environ").read_bytes()
        process.communicate()
    assert environ == b"SLURM_JOB_ID=7\0NVIDIA_VISIBLE_DEVICES=0"


def test_what_anybody_may_put_into_the_jobs_directory_is_not_followed(
    node: Node, tmp_path: Path
) -> None:
    """Neither a link to what only root may read, nor a pipe to which nobody writes."""
    secret = tmp_path / "shadow"
    secret.write_text("hush")
    (node.jobs / "innocent.json").symlink_to(secret)
    (node.jobs / "twin.json").hardlink_to(secret)
    os.mkfifo(node.jobs / "pipe.json")
    (node.jobs / "job.json").write_text("{}")
    done = node.agent("inspect", "--save", str(tmp_path / "tree"))
    assert done.returncode == 0, done.stderr
    saved = Path(f"{tmp_path}/tree{node.jobs}")
    assert [path.name for path in saved.iterdir()] == ["job.json"]


def test_the_names_of_pods_are_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folders alone: what is in a log is nobody's business."""
    logs, pod = tmp_path / "pods", "lab_train-0_11111111-2222-3333-4444-555555555555"
    (logs / pod / "main").mkdir(parents=True)
    (logs / pod / "main/0.log").write_text("hush")
    (logs / "strange").mkdir()
    for place in ("jobs.d", "cgroups"):
        (tmp_path / place).mkdir()
    monkeypatch.setattr("agent.inspection.save.LOGS", str(logs))
    variables = {
        "NODEMETER_JOBS_DIR": str(tmp_path / "jobs.d"),
        "NODEMETER_CGROUP_ROOT": str(tmp_path / "cgroups"),
    }
    save_tree(build_settings(Reader({}, variables), "test"), tmp_path / "tree")
    saved = Path(f"{tmp_path}/tree{logs}")
    assert [path.relative_to(saved) for path in saved.rglob("*")] == [Path(pod)]
    assert pod_names(str(saved)) == {
        "11111111-2222-3333-4444-555555555555": ("lab", "train-0"),
    }


def test_every_variable_of_slurm_that_is_read_is_saved() -> None:
    """A replay sees what was seen."""
    names: set[str] = set()

    class Asked(UserDict[str, str]):
        def __getitem__(self, name: str) -> str:
            names.add(name)
            return super().__getitem__(name)

        def __contains__(self, name: object) -> bool:
            names.add(str(name))
            return super().__contains__(name)

    for environ in (Asked(), Asked({"SLURM_JOB_GPUS": "0"})):
        facts_of(environ)
        is_about(environ, job_id="7", sluid=None)
        is_about(environ, job_id=None, sluid="s7")
    assert names == VARIABLES


@pytest.mark.parametrize("name", ["proc/meminfo", "proc/7/environ", "sys/fs/cgroup/cpuacct.usage"])
@pytest.mark.parametrize("is_linked", [False, True])
def test_a_tree_with_a_pipe_in_it_is_refused(
    node: Node, tmp_path: Path, name: str, *, is_linked: bool
) -> None:
    """Whoever made it could have it looked at for ever."""
    pipe = tmp_path / "tree" / name
    pipe.parent.mkdir(parents=True)
    (tmp_path / "tree/proc").mkdir(exist_ok=True)
    os.mkfifo(tmp_path / "pipe")
    if is_linked:
        pipe.symlink_to(tmp_path / "pipe")
    else:
        os.mkfifo(pipe)
    done = node.agent("inspect", "--root", str(tmp_path / "tree"))
    assert done.returncode == 1
    assert f"{pipe} is neither a file nor a folder" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_cgroup_by_a_name_that_is_no_text_is_shown_as_text(node: Node) -> None:
    """A program reads UTF-8, whatever somebody called a unit."""
    name = os.fsdecode(b"job-\xff\xfe.scope")
    (node.cgroups / "cgroup.controllers").write_text("cpu memory")
    (node.cgroups / "system.slice" / name).mkdir(parents=True)
    (node.cgroups / "system.slice" / name / "cgroup.procs").write_text(f"{os.getpid()}\n")
    (node.cgroups / "system.slice" / name / "cpu.stat").write_text("usage_usec 5\n")
    ours = {"NODEMETER_JOBS_PROVIDERS": "systemd", "NODEMETER_SYSTEMD_UNITS": "job-*.scope"}
    for words in (["--json"], []):
        done = subprocess.run(
            [sys.executable, "-m", "agent", "inspect", *words],
            cwd=ROOT,
            env=node.environ() | ours | {"PYTHONIOENCODING": "utf-8:surrogateescape"},
            capture_output=True,
            check=True,
        )
        assert "job-\N{REPLACEMENT CHARACTER}" in done.stdout.decode()


@pytest.mark.parametrize("uptime", ["garbage", "\n", "nan 1", "inf", "-5 1", "1e99"])
def test_a_tree_whose_clock_is_garbage_is_refused(node: Node, tmp_path: Path, uptime: str) -> None:
    """In a sentence that names the file."""
    (tmp_path / "tree/proc").mkdir(parents=True)
    (tmp_path / "tree/proc/uptime").write_text(uptime)
    done = node.agent("inspect", "--root", str(tmp_path / "tree"))
    assert done.returncode == 1
    assert "proc/uptime does not say how long the machine has been up" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_fails_is_shown_and_the_rest_as_well(node: Node) -> None:
    """A provider without an answer does not hide the others."""
    node.jobs.rmdir()
    files = next(one for one in node.inspect()["providers"] if one["name"] == "files")
    assert "cannot be listed" in files["failure"]
    assert files["age_ms"] is None
    slurm = next(one for one in node.inspect()["providers"] if one["name"] == "slurm")
    assert slurm["failure"] is None


def test_a_faulty_job_file_is_a_problem_of_its_provider(node: Node) -> None:
    """Named with what is wrong with it."""
    (node.jobs / "bad.json").write_text("{")
    (files,) = [one for one in node.inspect()["providers"] if one["name"] == "files"]
    assert "bad.json" in files["problems"][0]
    assert "bad.json" in node.agent("inspect").stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--root", "/nowhere"], "is no saved tree"),
        (["--save", "/proc/here"], "cannot be written"),
        (["--root", "/", "--save", "/tmp/x"], "not allowed with"),
    ],
)
def test_wrong_calls_are_explained(node: Node, words: list[str], says: str) -> None:
    """In a sentence, with the status of a failure or of a wrong call."""
    done = node.agent("inspect", *words)
    assert done.returncode in {1, 2}
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_an_existing_folder_is_not_written_over(node: Node, tmp_path: Path) -> None:
    """What somebody has saved stays as it is."""
    done = node.agent("inspect", "--save", str(tmp_path))
    assert done.returncode == 1
    assert "File exists" in done.stderr
