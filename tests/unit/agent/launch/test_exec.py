"""`exec` from outside: a command runs as if it were alone, and is on record to the millisecond."""

import json
import os
import pty
import pwd
import re
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from agent.cgroups import find_hierarchies, members
from agent.jobs.jobfile import Owner, parse_job
from agent.model import Run
from agent.procfs import ProcFs
from tests.unit.agent.conftest import CGROUP_ROOT, RealCgroup, wait_until

ROOT = Path(__file__).parents[4]
TRUSTED = Owner(0, "root", is_trusted=True)


class Launcher:
    """Runs `exec` against a jobs directory of its own, with the cgroups of one kind."""

    def __init__(self, directory: Path, cgroup_root: str) -> None:
        self.jobs = directory / "jobs.d"
        self.jobs.mkdir()
        self.cgroup_root = cgroup_root
        self.python = sys.executable
        self.user: str | None = None
        self.name = f"t{secrets.token_hex(3)}"  # so that what others leave is not taken for ours

    def start(self, *words: str, name: str = "", stdin: int = subprocess.DEVNULL) -> "Popen":
        command = [self.python, "-m", "agent", "exec", "--name", name or self.name, *words]
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env=self.environ(),
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            user=self.user,
            process_group=0,  # one that is not orphaned, whoever started us: it can be stopped
        )

    def run(self, *words: str, name: str = "") -> "Outcome":
        process = self.start(*words, name=name)
        out, err = process.communicate(timeout=60)
        return Outcome(process.returncode, out, err)

    def environ(self) -> dict[str, str]:
        ours = {
            "NODEMETER_AGENT_CONFIG": "/dev/null",  # not what `make run` may have left here
            "NODEMETER_JOBS_DIR": str(self.jobs),
            "NODEMETER_CGROUP_ROOT": self.cgroup_root,
        }
        others = {k: v for k, v in os.environ.items() if not k.startswith("NODEMETER_")}
        return others | ours

    def record(self) -> Run:
        """The one job on record."""
        (path,) = self.jobs.glob("*.json")
        return parse_job(path.read_bytes(), TRUSTED)

    def raw(self) -> dict[str, object]:
        (path,) = self.jobs.glob("*.json")
        raw: dict[str, object] = json.loads(path.read_bytes())
        return raw

    def cgroups(self) -> list[Path]:
        """What is left of this test's cgroups."""
        tops = [self.cgroup_root, *map(str, Path(self.cgroup_root).glob("*"))]
        return [
            path for top in tops for path in Path(top, "nodemeter").glob(f"{self.name}-????????")
        ]


Popen = subprocess.Popen[str]


class Outcome:
    """How a run ended, and what it said."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err


def has_cgroups(root: str) -> bool:
    found = find_hierarchies(root)
    folders = [*found.v1.values(), *([found.v2] if found.v2 else [])]
    return bool(folders) and os.access(folders[0], os.W_OK)


IS_UNIFIED = Path(CGROUP_ROOT, "cgroup.controllers").exists()
KINDS = {
    "v1": CGROUP_ROOT,
    "v2": CGROUP_ROOT if IS_UNIFIED else f"{CGROUP_ROOT}/unified",
    "tree": "/nonexistent",
}  # fmt: skip


@pytest.fixture(params=["v1", "v2", "tree"])
def launcher(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Launcher]:
    """With v1 controllers, with a cgroup2 mount, and without cgroups."""
    kind: str = request.param
    root = KINDS[kind]
    if kind != "tree" and not has_cgroups(root):
        pytest.skip(f"no cgroup can be made below {root}")
    made = Launcher(tmp_path, root)
    yield made
    assert made.cgroups() == []


@pytest.fixture
def tree(tmp_path: Path) -> Launcher:
    """Where no cgroup can be made: what does not depend on them."""
    return Launcher(tmp_path, "/nonexistent")


def burn(seconds: float) -> str:
    """A program that uses so much CPU time, its own start included."""
    return f"import time\nwhile time.process_time() < {seconds}: pass"


def test_the_command_runs_as_if_alone(launcher: Launcher) -> None:
    """Its output, its error output and its status are the caller's."""
    outcome = launcher.run("--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (outcome.status, outcome.out, outcome.err) == (7, "out\n", "err\n")


def test_a_job_is_on_record_while_it_runs_and_after(launcher: Launcher) -> None:
    """The file is there before the first instruction, and gets its end with the last."""
    outcome = launcher.run(
        "--vc", "research", "--project", "p1", "--cpu", "500m", "--mem", "1G", "--gpu", "0,2",
        "--", "sh", "-c", f"cat {launcher.jobs}/*.json; echo $NODEMETER_JOB_ID",
    )  # fmt: skip
    before, job_id = outcome.out.splitlines()
    then, now = parse_job(before.encode(), TRUSTED), launcher.record()
    assert re.fullmatch(rf"{launcher.name}-[0-9a-f]{{8}}", job_id)
    assert then.job_id == now.job_id == job_id
    assert then.ended_at_ms is None
    assert now.username == pwd.getpwuid(os.geteuid()).pw_name
    assert (now.vc, now.project) == ("research", "p1")
    assert now.quotas == then.quotas == {"cpu": 500, "mem": 976563}
    assert [share.id for share in now.devices] == ["0", "2"]
    assert now.key == then.key
    assert now.ended_at_ms is not None
    assert now.cgroup == then.cgroup
    assert bool(now.cgroup) != bool(now.pids)


def test_the_duration_is_from_fork_to_wait(launcher: Launcher) -> None:
    """Neither our own start-up nor our clearing away is billed."""
    launcher.run("--", "sleep", "1")
    run = launcher.record()
    assert run.ended_at_ms is not None
    assert 1000 <= run.ended_at_ms - run.started_at_ms <= 1100


def test_the_cpu_time_of_the_whole_tree_is_on_record(launcher: Launcher) -> None:
    """A child, an orphan and a child of a child, within 1 % of what they say themselves."""
    one = f"{launcher.python} -S -c '{burn(0.4)}'"
    script = f'{one} & ({one} & echo); sh -c "{one}; true"; wait; sleep 1'
    outcome = launcher.run("--", "sh", "-c", script)
    assert outcome.err == ""
    (reading,) = launcher.record().final.values()
    assert 1_200_000 <= reading.value <= 1_260_000  # three interpreters also have to end


def test_what_the_command_leaves_running_is_ended(launcher: Launcher) -> None:
    """A job ends as a whole, as with any scheduler; the caller's pipes are free again."""
    outcome = launcher.run("--", "sh", "-c", "setsid sleep 600 & (sleep 600 &) ; echo $!")
    assert outcome.status == 0
    process = ProcFs().process(int(outcome.out))
    assert process is None or not process.is_alive


@pytest.mark.parametrize("number", ["INT", "TERM", "HUP", "QUIT", "USR1", "USR2"])
def test_a_signal_is_passed_on(launcher: Launcher, number: str) -> None:
    """The command decides what to do with it."""
    script = f"trap 'echo got {number}; exit 5' {number}; echo ready; while :; do sleep 0.01; done"
    process = launcher.start("--", "bash", "-c", script)
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    process.send_signal(getattr(signal, f"SIG{number}"))
    out, _ = process.communicate(timeout=30)
    assert (process.returncode, out) == (5, f"got {number}\n")


def test_a_killed_command_s_status_is_128_and_the_signal(launcher: Launcher) -> None:
    """As a shell says it."""
    assert launcher.run("--", "sh", "-c", "kill -KILL $$").status == 137
    assert launcher.record().ended_at_ms is not None


def test_stopping_and_continuing_reaches_the_command(tree: Launcher) -> None:
    """Both stop, both go on, and the time in between is part of the job."""
    process = tree.start("--", "sh", "-c", "echo $$; read line; echo $line", stdin=subprocess.PIPE)
    assert process.stdout
    child = int(process.stdout.readline())
    process.send_signal(signal.SIGTSTP)
    wait_until(lambda: state(process.pid) == state(child) == "T")
    process.send_signal(signal.SIGCONT)
    wait_until(lambda: "T" not in {state(process.pid), state(child)})
    assert process.communicate("on\n", timeout=30)[0] == "on\n"
    assert process.returncode == 0


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_ignored_signals_stay_ignored(tree: Launcher) -> None:
    """Under nohup the command survives a hang-up, ours as well as its own."""
    script = "trap '' HUP; exec \"$@\""
    process = subprocess.Popen(
        ["sh", "-c", script, "sh", tree.python, "-m", "agent", "exec", "--name", tree.name, "--",
         "sh", "-c", "kill -HUP $$; echo alive; read line"],
        cwd=ROOT, env=tree.environ(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout
    assert process.stdout.readline() == "alive\n"
    process.send_signal(signal.SIGHUP)
    process.communicate("\n", timeout=30)
    assert process.returncode == 0


def test_the_command_sees_the_signals_that_the_caller_had(tree: Launcher) -> None:
    """Neither Python's ignored SIGPIPE nor our blocked ones are handed down."""
    program = "import signal; print(sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])))"
    assert tree.run("--", tree.python, "-c", program).out == "[]\n"
    status = tree.run("--", "sh", "-c", "grep SigIgn /proc/self/status").out
    assert int(status.split()[1], 16) & (1 << (signal.SIGPIPE - 1)) == 0


def test_a_killed_exec_leaves_the_job_to_the_agent(launcher: Launcher) -> None:
    """After kill -9 the command goes on, and the file says where to look for it."""
    process = launcher.start("--", "sh", "-c", "echo $$; exec sleep 600")
    assert process.stdout
    child = int(process.stdout.readline())
    process.kill()
    process.wait()
    run = launcher.record()
    assert run.ended_at_ms is None
    if run.cgroup:
        folders = find_hierarchies(launcher.cgroup_root).folders(run.cgroup)
        assert any(child in members(folder) for folder in folders)
    else:
        assert run.pids == (child,)
    os.kill(child, 9)
    process.stdout.close()
    assert process.stderr
    process.stderr.close()
    for folder in launcher.cgroups():
        wait_until(partial(is_empty, folder))
        folder.rmdir()


def is_empty(folder: Path) -> bool:
    return not list(members(str(folder)))


def test_a_missing_command_is_127_and_no_job(launcher: Launcher) -> None:
    """As in a shell; nothing is on record, so nothing is billed."""
    outcome = launcher.run("--", "no-such-command")
    assert outcome.status == 127
    assert outcome.err == "nodemeter-agent exec: no-such-command: command not found\n"
    assert list(launcher.jobs.iterdir()) == []


def test_a_command_that_cannot_be_run_is_126(launcher: Launcher, tmp_path: Path) -> None:
    """A folder, a file without the right to run it, a script of a missing interpreter."""
    plain, orphan = tmp_path / "plain", tmp_path / "orphan"
    plain.write_text("x")
    orphan.write_text("#!/no/such/interpreter\n")
    orphan.chmod(0o755)
    assert launcher.run("--", str(tmp_path)).status == 126
    assert launcher.run("--", str(plain)).status == 126
    assert list(launcher.jobs.iterdir()) == []
    outcome = launcher.run("--", str(orphan))
    assert outcome.status == 127
    assert f"{orphan} cannot be run: No such file" in outcome.err
    assert "(it is a script for '/no/such/interpreter')" in outcome.err
    assert launcher.record().ended_at_ms is not None


def test_a_command_without_a_name_is_not_found(tree: Launcher) -> None:
    """It is not the first folder of PATH."""
    outcome = tree.run("--", "")
    assert outcome.status == 127
    assert "'': command not found" in outcome.err


NESTED = "exec {python} -m agent exec --name inner --cpu 1 -- {python} -c '{program}'"


def test_a_job_within_a_job_is_billed_once(launcher: Launcher) -> None:
    """With cgroups each has its own; without, the inner command is part of the outer job."""
    inner = NESTED.format(python=launcher.python, program=burn(0.4))
    outcome = launcher.run("--", "sh", "-c", f"{inner}; exit 1")
    assert outcome.status == 0, outcome.err
    runs = [parse_job(path.read_bytes(), TRUSTED) for path in launcher.jobs.glob("*.json")]
    used = sum(reading.value for run in runs for reading in run.final.values())
    assert 400_000 <= used < 750_000
    if launcher.cgroup_root == KINDS["tree"]:
        (run,) = runs
        assert f"inner is part of job {run.job_id} and billed with it, once" in outcome.err
    else:
        assert {run.job_name for run in runs} == {launcher.name, "inner"}
        assert outcome.err == ""


def test_a_command_that_joins_a_job_is_told_as_any_other(tree: Launcher, tmp_path: Path) -> None:
    """Its status, and why it cannot be run."""
    orphan = tmp_path / "orphan"
    orphan.write_text("#!/no/such/interpreter\n")
    orphan.chmod(0o755)
    start = f"{tree.python} -m agent exec --name inner"
    script = f"{start} -- sh -c 'exit 7'; echo $?; {start} -- {orphan}; echo $?"
    outcome = tree.run("--", "sh", "-c", f"{script}; {start} --enforce --cpu 1 -- true; echo $?")
    assert outcome.out.split() == ["7", "127", "1"]
    assert f"{orphan} cannot be run" in outcome.err
    assert "--enforce is impossible within job" in outcome.err


def test_a_variable_alone_makes_no_job_within_a_job(tree: Launcher) -> None:
    """The outer job's `exec` must be above us and hold its file; else we are our own."""
    start = f"{tree.python} -m agent exec --name inner -- true"
    assert tree.run("--", "sh", "-c", f"NODEMETER_JOB_ID=made-up {start}").err == ""
    with tree.start("--", "sh", "-c", "echo $NODEMETER_JOB_ID; read line") as other:
        assert other.stdout
        job_id = other.stdout.readline().strip()
        environ = {**tree.environ(), "NODEMETER_JOB_ID": job_id}
        done = subprocess.run(start.split(), cwd=ROOT, env=environ, capture_output=True, check=True)
        assert done.stderr == b""
        other.communicate()
    assert len(list(tree.jobs.glob("inner-*.json"))) == 2


def test_a_script_without_interpreter_is_the_shell_s(launcher: Launcher, tmp_path: Path) -> None:
    """As for any caller of execvp."""
    script = tmp_path / "script"
    script.write_text("echo $1 $0")
    script.chmod(0o755)
    assert launcher.run("--", str(script), "a").out == f"a {script}\n"


def test_enforced_quotas_are_the_kernel_s(tmp_path: Path) -> None:
    """With --enforce the cgroup holds the job: half a processor for 500m, and 64 MiB."""
    root = next((root for root in (CGROUP_ROOT,) if can_limit(root)), None)
    if root is None:
        pytest.skip("no cgroup controller can be used here")
    launcher = Launcher(tmp_path, root)
    program = (
        "import time\nend = time.monotonic() + 1\n"
        "while time.monotonic() < end: pass\nprint(time.process_time())"
    )
    words = ["--cpu", "500m", "--mem", "64Mi", "--enforce", "--", launcher.python, "-c"]
    outcome = launcher.run(*words, program)
    assert float(outcome.out) <= 0.65, outcome.err  # how much less, the other jobs decide
    outcome = launcher.run(*words, "held = b'x' * (256 << 20)")
    assert outcome.status == 137
    assert launcher.cgroups() == []


def can_limit(root: str) -> bool:
    found = find_hierarchies(root)
    if {"cpu", "memory", "cpuacct"} <= found.v1.keys():
        return os.access(found.v1["cpu"], os.W_OK)
    controllers = Path(found.v2 or "/nonexistent", "cgroup.controllers")
    return controllers.exists() and {"cpu", "memory"} <= set(controllers.read_text().split())


def test_declared_quotas_bind_nobody(launcher: Launcher) -> None:
    """Without --enforce a quota is a declaration."""
    program = "held = b'x' * (64 << 20)"
    assert launcher.run("--mem", "8Mi", "--", launcher.python, "-c", program).status == 0


@pytest.mark.parametrize("root", ["/nonexistent", f"{CGROUP_ROOT}/unified"])
def test_what_cannot_be_enforced_is_not_started(tmp_path: Path, root: str) -> None:
    """A limit that would not hold is an error before the command runs."""
    if can_limit(root):
        pytest.skip("here it can")
    launcher = Launcher(tmp_path, root)
    mark = tmp_path / "ran"
    outcome = launcher.run("--cpu", "1", "--enforce", "--", "touch", str(mark))
    assert outcome.status == 1
    assert "--enforce is impossible" in outcome.err
    assert "leave --enforce out" in outcome.err
    assert not mark.exists()
    assert list(launcher.jobs.iterdir()) == []
    assert launcher.cgroups() == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--name", "t"], "no command"),
        (["--name", "t", "--"], "no command"),
        (["--", "true"], "--name is missing"),
        (["--name", "a/b", "--", "true"], "is no job name"),
        (["--name", "..", "--", "true"], "is no job name"),
        (["--name", "", "--", "true"], "is no job name"),
        (["--name", "t\n", "--", "true"], "is no job name"),
        (["--name=t", "--cpu", "lots", "--", "true"], "--cpu: 'lots' is no number of processors"),
        (["--name=t", "--cpu=-1", "--", "true"], "--cpu: "),
        (["--name=t", "--cpu", "9999", "--", "true"], "--cpu: 9999 processors are more than"),
        (["--name=t", "--mem", "1Pi", "--", "true"], "--mem: 1073741824Mi are more than the"),
        (["--name=t", "--mem", "1GB", "--", "true"], "--mem: '1GB' is no amount of memory"),
        (["--name=t", "--gpu", "a", "--", "true"], "--gpu: 'a' is no list"),
        (["--name=t", "--vc", "a\tb", "--", "true"], "--vc: "),
        (["--name=t", "--user", "", "--", "true"], "--user: "),
        (["--name=t", "--enforce=1", "--cpu=1", "--", "true"], "--enforce takes no value"),
        (["--name=t", "--cpus", "1", "--", "true"], "unknown option --cpus; known are --name"),
        (["--name=t", "--enforce", "--", "true"], "nothing to enforce"),
        (["--name"], "--name needs a value"),
    ],
)
def test_a_wrong_call_is_2_with_the_usage(tree: Launcher, words: list[str], message: str) -> None:
    """The sentence says what was expected; nothing ran and nothing is on record."""
    command = [tree.python, "-m", "agent", "exec", *words]
    done = subprocess.run(
        command, cwd=ROOT, env=tree.environ(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("usage: nodemeter-agent exec --name NAME")
    assert message in done.stderr
    assert list(tree.jobs.iterdir()) == []


def test_closed_standard_files_stay_closed(launcher: Launcher, tmp_path: Path) -> None:
    """They do not become pipes or files of ours, for the command even less."""
    script = f"ls /proc/self/fd > {tmp_path}/seen"
    command = [
        launcher.python,
        "-m",
        "agent",
        "exec",
        "--name",
        launcher.name,
        "--",
        "sh",
        "-c",
        script,
    ]
    caller = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *command]
    subprocess.run(caller, cwd=ROOT, env=launcher.environ(), check=True)
    assert set((tmp_path / "seen").read_text().split()) <= {"0", "1", "3"}  # ls's own
    assert launcher.record().ended_at_ms is not None
    nothing = [*caller[:-3], "no-such-command"]
    done = subprocess.run(nothing, cwd=ROOT, env=launcher.environ(), check=False)
    assert done.returncode == 127


def test_help_has_examples(tree: Launcher) -> None:
    """Status 0, on standard output."""
    command = [tree.python, "-m", "agent", "exec", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "examples:" in done.stdout
    assert "--enforce" in done.stdout


def test_the_separator_may_be_left_out(tree: Launcher) -> None:
    """Options end where the command begins; its own options are its own."""
    assert tree.run("echo", "--name", "x").out == "--name x\n"
    assert tree.run("--", "echo", "--", "x").out == "-- x\n"


def test_without_a_jobs_directory_nothing_runs(tree: Launcher, tmp_path: Path) -> None:
    """Never unmetered in silence."""
    tree.jobs = tmp_path / "none"
    outcome = tree.run("--", "echo", "ran")
    assert (outcome.status, outcome.out) == (1, "")
    assert "there is no jobs directory" in outcome.err
    assert "start the agent" in outcome.err


def test_a_job_that_cannot_be_recorded_does_not_run(launcher: Launcher, tmp_path: Path) -> None:
    """A full or read-only directory stops the command before its first instruction."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "none", launcher.jobs], check=True)
    try:
        outcome = launcher.run("--", "touch", str(tmp_path / "ran"))
    finally:
        subprocess.run(["umount", launcher.jobs], check=True)
    assert outcome.status == 1
    assert "jobs directory" in outcome.err or "cannot be recorded" in outcome.err
    assert not (tmp_path / "ran").exists()


def test_an_end_that_cannot_be_written_is_complained_about(tree: Launcher) -> None:
    """The command's status stays its own; the sentence holds what is missing on record."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k", "none", tree.jobs], check=True)
    try:
        fill = f"dd if=/dev/zero of={tree.jobs}/fill bs=4k 2>/dev/null; exit 3"
        outcome = tree.run("--", "sh", "-c", fill)
        assert outcome.status == 3
        assert "could not be written" in outcome.err
        assert "No space left on device" in outcome.err
        assert re.search(r"ended at 20\d\d-.*Z and used \d+ us", outcome.err)
    finally:
        subprocess.run(["umount", tree.jobs], check=True)


def test_a_broken_configuration_is_a_sentence(tree: Launcher, tmp_path: Path) -> None:
    """And the command does not run."""
    config = tmp_path / "agent.toml"
    config.write_text("[jobs]\ndir = 5\n")
    environ = {"NODEMETER_AGENT_CONFIG": str(config), "PATH": os.environ["PATH"]}
    command = [tree.python, "-m", "agent", "exec", "--name", tree.name, "--", "echo", "ran"]
    done = subprocess.run(
        command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "[jobs] dir: must be a text, not 5" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_configuration_names_the_jobs_directory(tree: Launcher, tmp_path: Path) -> None:
    """By --config; keys of the agent's that `exec` does not need may be there."""
    config = tmp_path / "agent.toml"
    config.write_text(f'[node]\nname = "n"\n[jobs]\ndir = "{tree.jobs}"\n')
    command = [
        tree.python,
        "-m",
        "agent",
        "exec",
        "--config",
        str(config),
        "--name",
        tree.name,
        "true",
    ]
    subprocess.run(command, cwd=ROOT, env={"PATH": os.environ["PATH"]}, check=True)
    assert tree.record().ended_at_ms is not None


def test_root_may_bill_others(launcher: Launcher) -> None:
    """--user names whom, in the name of an administrator."""
    if os.geteuid() != 0:
        pytest.skip("this is root's")
    assert launcher.run("--user", "alice", "--", "true").status == 0
    assert launcher.record().username == "alice"


@pytest.fixture
def plain(tmp_path: Path) -> Launcher:
    """A plain user's `exec`, on a node whose agent is root's."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    made = Launcher(tmp_path, CGROUP_ROOT)
    made.jobs.chmod(0o1777)
    for folder in (tmp_path, *list(tmp_path.parents)[:-2]):
        folder.chmod(folder.stat().st_mode | 0o011)
    made.user = "daemon"
    for python in (sys.executable, "/usr/bin/python3"):
        made.python = python
        try:
            command = [python, "-c", "import agent.launch"]
            subprocess.run(command, user="daemon", cwd=ROOT, check=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        return made
    pytest.skip("no Python here that a plain user may run")


def test_a_plain_user_needs_no_cgroup(plain: Launcher) -> None:
    """His processes are counted as a tree, and he is billed by his own name."""
    outcome = plain.run("--", plain.python, "-S", "-c", burn(0.5))
    assert outcome.status == 0, outcome.err
    run = plain.record()
    assert run.username == "daemon"
    assert run.cgroup is None
    (reading,) = run.final.values()
    assert 500_000 <= reading.value <= 560_000
    (path,) = plain.jobs.iterdir()
    assert path.stat().st_uid == pwd.getpwnam("daemon").pw_uid
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_plain_user_bills_only_himself(plain: Launcher) -> None:
    """Said before anything runs, not by a file that the agent refuses."""
    outcome = plain.run("--user", "alice", "--", "echo", "ran")
    assert (outcome.status, outcome.out) == (1, "")
    assert "you are daemon and can bill only yourself" in outcome.err
    assert plain.run("--user", "daemon", "--", "echo", "ran").out == "ran\n"


def test_a_directory_that_is_closed_to_the_user_is_explained(plain: Launcher) -> None:
    """The sentence names who can open it, and how."""
    plain.jobs.chmod(0o755)
    outcome = plain.run("--", "echo", "ran")
    assert (outcome.status, outcome.out) == (1, "")
    assert "mode 1777" in outcome.err


def test_times_are_utc_with_milliseconds(tree: Launcher) -> None:
    """Whatever zone the caller lives in."""
    os.environ["TZ"] = "Asia/Tokyo"
    try:
        tree.run("--", "true")
    finally:
        del os.environ["TZ"]
    started = str(tree.raw()["started_at"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", started)
    age = datetime.fromisoformat(started) - datetime.fromtimestamp(
        tree.jobs.stat().st_mtime, tz=datetime.fromisoformat(started).tzinfo
    )
    assert abs(age) < timedelta(minutes=1)


def test_a_delegated_cgroup_is_used(plain: Launcher, real_cgroup: RealCgroup) -> None:
    """A user of systemd owns a part of the tree: his jobs get their cgroups there."""
    mount = find_hierarchies(CGROUP_ROOT).v2
    if mount is None:
        pytest.skip("there is no cgroup2 here")
    plain.cgroup_root = mount
    delegated = Path(f"{mount}{real_cgroup.name}-v2")
    delegated.mkdir(parents=True)
    uid = pwd.getpwnam("daemon").pw_uid
    for name in ("", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"):
        os.chown(delegated / name, uid, uid)
    enter = (
        f"echo 0 > {delegated}/cgroup.procs; "
        'exec setpriv --reuid=daemon --regid=daemon --clear-groups "$@"'
    )
    command = [
        plain.python,
        "-m",
        "agent",
        "exec",
        "--name",
        plain.name,
        "--",
        plain.python,
        "-S",
        "-c",
    ]
    try:
        subprocess.run(
            ["sh", "-c", enter, "sh", *command, burn(0.3)],
            cwd=ROOT,
            env=plain.environ(),
            check=True,
        )
        run = plain.record()
        assert run.cgroup is not None
        assert run.cgroup.startswith(f"{real_cgroup.name}-v2/nodemeter/{plain.name}-")
        (reading,) = run.final.values()
        assert 300_000 <= reading.value <= 330_000
        (delegated / "nodemeter").rmdir()
    finally:
        wait_until(partial(is_empty, delegated))
        delegated.rmdir()


def test_what_the_terminal_sends_arrives_once(tree: Launcher) -> None:
    """Ctrl-C reaches the whole foreground group by itself; passing it on would double it."""
    script = "n=0; trap 'n=$((n+1))' INT; echo ready; sleep 0.5; sleep 0.5; echo count $n"
    command = [tree.python, "-m", "agent", "exec", "--name", tree.name, "--", "bash", "-c", script]
    pid, terminal = pty.fork()
    if not pid:
        os.chdir(ROOT)
        os.execve(command[0], command, tree.environ())
    seen = b""
    while b"ready" not in seen:
        seen += os.read(terminal, 100)
    os.write(terminal, b"\x03")
    while b"count 1" not in seen:
        assert b"count 2" not in seen
        seen += os.read(terminal, 100)
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 0
