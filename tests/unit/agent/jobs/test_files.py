"""The `files` provider: exact ends, no file hurts another, nobody bills somebody else."""

import fcntl
import json
import os
import pwd
import subprocess
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from agent.cgroups import Hierarchies
from agent.errors import ProviderError
from agent.jobs.files import FilesProvider
from agent.jobs.liveness import Liveness
from agent.model import ResourceType, Run, RunKey
from agent.procfs import ProcFs
from tests.descriptors import open_descriptors
from tests.unit.agent.nodes import Node as MeteredNode
from tests.unit.agent.nodes import cpu_of, total

START_MS = 1_770_350_400_000
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


class Node:
    """A jobs directory, a cgroup tree, a clock, and the provider that looks at them."""

    def __init__(self, directory: Path) -> None:
        self.jobs = directory / "jobs.d"
        self.jobs.mkdir()
        self.cgroups = directory / "cgroup"
        self.now_ms = START_MS + HOUR_MS
        self.wall_lead_s = 0
        self.boot_lead_s = 0  # so much older are the processes than they are
        self.restart()

    def restart(self) -> None:
        liveness = Liveness(
            Hierarchies(str(self.cgroups), {}), ProcFs(), lambda: self._clock(boottime=True)
        )
        self.provider = FilesProvider(
            self.jobs,
            liveness,
            now_ms=lambda: self.now_ms,
            wall_ns=lambda: self._clock(boottime=False),
        )

    def write(self, name: str = "a", *, written_s_ago: int = 0, **more: object) -> Path:
        """Write a file as `exec` does: aside, then renamed."""
        body = {"job_id": name, "username": "alice", "started_at": stamp(START_MS)} | more
        path = self.jobs / f"{name}.json"
        aside = self.jobs / f".{name}"
        aside.write_text(json.dumps(body))
        written = aside.stat().st_mtime - written_s_ago
        os.utime(aside, (written, written))
        return aside.rename(path)

    def populate(self, cgroup: str, *, populated: bool = True) -> None:
        """Make a v2 cgroup, with or without a process in it."""
        folder = Path(f"{self.cgroups}{cgroup}")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cgroup.events").write_text(f"populated {int(populated)}\nfrozen 0\n")

    def runs(self) -> dict[str, Run]:
        return {run.job_id: run for run in self.provider.runs()}

    def problem(self) -> str:
        (problem,) = self.provider.problems()
        return problem.message

    def _clock(self, *, boottime: bool) -> int:
        clock = time.CLOCK_BOOTTIME if boottime else time.CLOCK_REALTIME
        lead_s = self.boot_lead_s if boottime else self.wall_lead_s
        return time.clock_gettime_ns(clock) + lead_s * 10**9


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "600"]) as sleeper:
        yield sleeper
        sleeper.kill()


def stamp(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")


def key(name: str = "a") -> RunKey:
    return RunKey(f"files:{name}@{START_MS}")


@pytest.mark.parametrize("versions", [1, 2])
def test_an_end_that_is_told_at_the_instant_of_deletion_is_not_lost(
    node: Node, monkeypatch: pytest.MonkeyPatch, versions: int
) -> None:
    """The processes were gone when the agent looked, and then the hook wrote the end down."""
    node.populate("/a")
    node.write(cgroup="/a")
    assert node.runs()["a"].ended_at_ms is None
    node.populate("/a", populated=False)
    assert node.runs()["a"].ended_at_ms == node.now_ms
    node.now_ms += 5_000
    told_ms, rename = node.now_ms - versions, os.rename
    ends = iter(range(told_ms, told_ms + versions))

    def tell(source: str, target: str) -> None:
        """The hook is a moment faster than the agent, or twice."""
        monkeypatch.setattr(os, "rename", rename)
        node.write(cgroup="/a", ended_at=stamp(next(ends)))
        rename(source, target)
        for end_ms in ends:
            node.write(cgroup="/a", ended_at=stamp(end_ms))

    monkeypatch.setattr(os, "rename", tell)
    node.provider.settled([key()])
    assert node.runs()["a"].ended_at_ms == node.now_ms - 1
    node.provider.settled([key()])
    assert not list(node.jobs.iterdir())


def test_a_file_is_a_run_and_its_removal_ends_it_when_noticed(node: Node) -> None:
    """The end is answered until it is settled; then nothing is left of the run."""
    path = node.write()
    assert node.runs()["a"].ended_at_ms is None
    path.unlink()
    node.now_ms += 5_000
    assert node.runs()["a"].ended_at_ms == node.now_ms
    noticed = node.now_ms
    node.now_ms += 5_000
    assert node.runs()["a"].ended_at_ms == noticed
    node.provider.settled([key()])
    assert node.runs() == {}


def test_ended_at_ends_exactly_and_settling_deletes_the_file(node: Node) -> None:
    """The writer's instant counts, not the noticing; the file goes once the end is durable."""
    node.write()
    node.runs()
    path = node.write(ended_at=stamp(START_MS + 3_000), cpu_usec=2_500_000)
    run = node.runs()["a"]
    assert run.ended_at_ms == START_MS + 3_000
    assert [reading.value for reading in run.final.values()] == [2_500_000]
    assert path.exists()
    node.provider.settled([key()])
    assert not path.exists()
    assert node.runs() == {}


def test_a_run_that_the_agent_never_saw_alive_is_answered_with_its_end(node: Node) -> None:
    """An agent that was dead all the while still learns of the whole job."""
    node.write(ended_at=stamp(START_MS + 3_000), written_s_ago=5_000)
    assert node.runs()["a"].ended_at_ms == START_MS + 3_000


def test_settling_a_live_or_foreign_run_changes_nothing(node: Node) -> None:
    """Only what has ended can be settled."""
    path = node.write()
    node.runs()
    node.provider.settled([key(), RunKey("slurm:5"), key("b")])
    assert path.exists()
    assert node.runs()["a"].ended_at_ms is None


def test_a_settled_run_never_comes_back(node: Node) -> None:
    """Told again as it was, it is passed over; and it does not live again."""
    node.write(ended_at=stamp(START_MS + 3_000), cpu_usec=5)
    node.runs()
    node.provider.settled([key()])
    path = node.write(ended_at=stamp(START_MS + 3_000), cpu_usec=5)
    assert node.runs() == {}
    assert not path.exists()
    node.write(ended_at=stamp(START_MS + 2_000), cpu_usec=4)
    assert node.runs() == {}
    node.write()
    assert node.runs()["a"].ended_at_ms == START_MS + 3_000
    assert node.problem().startswith("this run has ended already")


def test_a_later_end_of_a_settled_run_is_answered_for_the_rest(node: Node) -> None:
    """The death was seen before the epilog wrote: what it knows better must not be lost."""
    node.populate("/jobs/a")
    node.write(cgroup="/jobs/a")
    node.runs()
    seen = node.now_ms
    node.populate("/jobs/a", populated=False)
    node.now_ms += 3_000
    assert node.runs()["a"].ended_at_ms == seen
    node.provider.settled([key()])
    for end, cpu in ((seen + 2_000, 7), (seen + 2_000, 9), (seen + 2_500, 9)):
        path = node.write(cgroup="/jobs/a", ended_at=stamp(end), cpu_usec=cpu)
        run = node.runs()["a"]
        assert (run.key, run.ended_at_ms) == (key(), end)
        assert run.metered_until_ms is not None
        assert seen <= run.metered_until_ms <= end
        assert run.final[ResourceType.CPU].value == cpu
        assert node.runs()["a"] == run
        node.provider.settled([key()])
        assert not path.exists()
        assert node.runs() == {}


def test_an_end_that_is_told_while_the_first_one_is_settled_is_kept(node: Node) -> None:
    """Its file is not deleted unread, nor is it when it was read and not answered."""
    path = node.write()
    node.runs()
    path.unlink()
    end = node.runs()["a"].ended_at_ms
    assert end is not None
    node.write(ended_at=stamp(end + 500))
    node.now_ms += 1_000
    assert node.runs()["a"].ended_at_ms == end
    node.provider.settled([key()])
    run = node.runs()["a"]
    assert (run.metered_until_ms, run.ended_at_ms) == (end, end + 500)
    node.write(ended_at=stamp(end + 700))
    node.provider.settled([key()])
    assert node.runs()["a"].ended_at_ms == end + 700


def test_a_later_end_in_the_future_does_not_revive_the_run(node: Node) -> None:
    """Until it is reached there is nothing to tell."""
    node.write(ended_at=stamp(node.now_ms))
    node.runs()
    node.provider.settled([key()])
    node.write(ended_at=stamp(node.now_ms + HOUR_MS))
    assert node.runs() == {}
    node.now_ms += HOUR_MS
    assert set(node.runs()) == {"a"}


@pytest.mark.parametrize(
    ("name", "text"),
    [("unified/{}/cpu.stat", "usage_usec 9\n"), ("cpuacct/{}/cpuacct.usage", "9999")],
)
def test_a_cgroup_without_processes_still_tells_its_cpu_time(
    node: Node, tmp_path: Path, name: str, text: str
) -> None:
    """`exec` was killed, its cgroup is left: the counter is all that was used."""
    cpuacct = tmp_path / "cpuacct"
    node.cgroups = tmp_path / "unified"
    hierarchies = Hierarchies(str(node.cgroups), {"cpuacct": str(cpuacct)})
    liveness = Liveness(hierarchies, ProcFs(), lambda: 0)
    counter = tmp_path / name.format("a")
    counter.parent.mkdir(parents=True)
    assert liveness.final(node_run("/a")) == {}
    counter.write_text(text)
    reading = liveness.final(node_run("/a"))[ResourceType.CPU]
    assert reading.value == 9


def test_a_removed_run_cannot_be_revived_before_it_is_settled(node: Node) -> None:
    """An end that was told stays told."""
    path = node.write()
    node.runs()
    path.unlink()
    end = node.runs()["a"].ended_at_ms
    assert end is not None
    node.write()
    assert node.runs()["a"].ended_at_ms == end


def test_a_renamed_file_is_the_same_run(node: Node) -> None:
    """The run is named by its key, not by its file."""
    path = node.write()
    node.runs()
    path.rename(node.jobs / "b.json")
    assert node.runs()["a"].ended_at_ms is None


def test_a_bad_file_does_not_hurt_the_others(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    """It is listed, counted and logged once per version."""
    node.write("good")
    bad = node.jobs / "bad.json"
    bad.write_text('{"job_id": "bad", "cpus": 4}')
    assert set(node.runs()) == {"good"}
    node.runs()
    (problem,) = node.provider.problems()
    assert problem.source == str(bad)
    assert "'cpus': unknown key" in problem.message
    assert node.provider.refused_total == 1
    assert [record.__dict__["action"] for record in caplog.records] == ["refuse_job_file"]
    bad.write_text("not even JSON")
    node.runs()
    assert node.provider.refused_total == 2
    bad.unlink()
    node.runs()
    assert node.provider.problems() == []


def test_a_file_that_nobody_foresaw_hides_no_other(node: Node) -> None:
    """Lists within lists, deeper than Python can print: refused, and the others go on."""
    node.write("good")
    (node.jobs / "deep.json").write_text(f'{{"devices":{"[" * 977}1{"]" * 977}}}')
    assert set(node.runs()) == {"good"}
    assert node.problem()


def test_a_file_that_turns_bad_keeps_its_last_good_version(node: Node) -> None:
    """A slip of the editor never ends a run, and a repaired file goes on."""
    path = node.write(cpu_m=500)
    before = node.runs()["a"]
    path.write_text("{")
    assert node.runs()["a"] == before
    assert node.problem().endswith("its last good version stays in force")
    node.write(cpu_m=600)
    assert node.runs()["a"].quotas[ResourceType.CPU] == 600
    assert node.provider.problems() == []


@pytest.mark.parametrize("name", [".a.json", "a.tmp", "a"])
def test_other_files_are_none_of_ours(node: Node, name: str) -> None:
    """Temporary files begin with a dot and job files end in .json."""
    (node.jobs / name).write_text("{")
    assert node.runs() == {}
    assert node.provider.problems() == []


def test_links_and_other_creatures_are_not_followed(node: Node, tmp_path: Path) -> None:
    """A link could lend root's ownership to somebody's content; a pipe could block us."""
    target = node.write("real")
    (node.jobs / "link.json").symlink_to(target)
    os.link(target, tmp_path / "second")
    os.mkfifo(node.jobs / "pipe.json")
    (node.jobs / "folder.json").mkdir()
    assert node.runs() == {}
    problems = {Path(each.source).name: each.message for each in node.provider.problems()}
    assert set(problems) == {"link.json", "pipe.json", "folder.json", "real.json"}
    (tmp_path / "second").unlink()
    assert set(node.runs()) == {"real"}


def test_a_missing_directory_is_no_answer(node: Node) -> None:
    """Without the directory nothing is known; it must not look like "no jobs"."""
    node.write()
    node.runs()
    node.jobs.rename(node.jobs.with_name("away"))
    with pytest.raises(ProviderError, match="cannot be listed"):
        node.runs()
    node.jobs.with_name("away").rename(node.jobs)
    assert node.runs()["a"].ended_at_ms is None


def test_a_directory_that_anybody_may_empty_is_refused(node: Node) -> None:
    """Without the sticky bit anybody could end anybody's run."""
    node.jobs.chmod(0o777)
    with pytest.raises(ProviderError, match="chmod 1777"):
        node.runs()
    node.jobs.chmod(0o1777)
    assert node.runs() == {}


def test_unchanged_files_are_not_read_again(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """500 files cost one listing and their status, not 500 parses."""
    node.wall_lead_s = 10  # the file is no longer so young that it could change unseen
    node.write()
    first = node.runs()["a"]

    def fail(path: str, flags: int) -> int:
        raise AssertionError(f"{path} was opened with {flags}")

    monkeypatch.setattr(os, "open", fail)
    assert node.runs()["a"].quotas is first.quotas


def test_a_change_of_equal_size_within_one_clock_tick_is_seen(node: Node) -> None:
    """A very young file is read again: its stamp may hide a second version."""
    path = node.write(cpu_m=500)
    node.runs()
    status = path.stat()
    path.write_text(path.read_text().replace("500", "600"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert node.runs()["a"].quotas[ResourceType.CPU] == 600


def test_a_start_in_the_future_waits_and_is_reported(node: Node) -> None:
    """A wrong clock must not bill the future."""
    node.write(started_at=stamp(node.now_ms + HOUR_MS))
    assert node.runs() == {}
    assert node.problem().startswith("started_at: is in the future")
    node.now_ms += HOUR_MS
    assert set(node.runs()) == {"a"}
    assert node.provider.problems() == []


@pytest.mark.parametrize("cgroup", [None, "/jobs/a"])
def test_what_is_just_ahead_of_our_clock_is_waited_for(node: Node, cgroup: str | None) -> None:
    """Taken early, a start would be billed too soon and an end too short."""
    now = node.now_ms
    node.populate("/jobs/a")
    node.write(cgroup=cgroup, started_at=stamp(now + 400))
    assert node.runs() == {}
    assert node.provider.problems() == []
    node.now_ms += 400
    assert node.runs()["a"].ended_at_ms is None
    node.populate("/jobs/a", populated=False)
    node.write(cgroup=cgroup, started_at=stamp(now + 400), ended_at=stamp(now + 1_300), cpu_usec=5)
    assert node.runs()["a"].ended_at_ms is None
    node.now_ms = now + 1_300
    run = node.runs()["a"]
    assert run.ended_at_ms == now + 1_300
    assert run.final[ResourceType.CPU].value == 5


def test_a_run_that_has_begun_goes_on_where_the_clock_is_set_back(node: Node) -> None:
    """Its start lies in the future then; it lives all the same."""
    node.write()
    node.runs()
    node.now_ms -= 2 * HOUR_MS
    assert node.runs()["a"].ended_at_ms is None
    assert node.provider.problems() == []


def test_an_end_in_the_future_is_not_an_end_yet(node: Node) -> None:
    """A planned end is kept until it is reached, then it counts exactly."""
    end = node.now_ms + HOUR_MS
    node.write(ended_at=stamp(end), cpu_usec=5)
    run = node.runs()["a"]
    assert run.ended_at_ms is None
    assert run.final == {}
    node.now_ms = end + 2_000
    assert node.runs()["a"].ended_at_ms == end


def test_an_end_by_a_clock_ahead_of_ours_is_taken_with_its_last_reading(node: Node) -> None:
    """After a step back `exec` still counts from its start: its CPU total must not be lost."""
    node.populate("/nodemeter/a")
    node.write(cgroup="/nodemeter/a")
    assert node.runs()["a"].ended_at_ms is None
    end = node.now_ms + HOUR_MS
    node.write(cgroup="/nodemeter/a", ended_at=stamp(end), cpu_usec=2_500_000)
    assert node.runs()["a"].ended_at_ms is None
    node.populate("/nodemeter/a", populated=False)
    run = node.runs()["a"]
    assert run.ended_at_ms == end
    assert run.final[ResourceType.CPU].value == 2_500_000


def test_an_emptied_cgroup_ends_the_run_when_last_seen_alive(node: Node) -> None:
    """`exec` was killed: the run lives as long as its processes, to the last look."""
    node.populate("/jobs/a")
    node.write(cgroup="/jobs/a")
    assert node.runs()["a"].ended_at_ms is None
    node.now_ms += 10_000
    node.runs()
    seen = node.now_ms
    node.now_ms += 10_000
    node.populate("/jobs/a", populated=False)
    (node.cgroups / "jobs" / "a" / "cpu.stat").write_text("usage_usec 10010000\n")
    ended = node.runs()["a"]
    assert ended.ended_at_ms == seen
    assert ended.final[ResourceType.CPU].value == 10_010_000
    node.now_ms += 10_000
    node.populate("/jobs/a")
    node.write(cgroup="/jobs/a", cpu_m=7)
    assert node.runs()["a"].ended_at_ms == seen  # and does not come back


def test_a_file_that_its_writer_holds_locked_lives(node: Node) -> None:
    """Between the last process and the writing of the end, `exec` still speaks for the run."""
    node.populate("/jobs/a")
    path = node.write(cgroup="/jobs/a")
    node.runs()
    node.populate("/jobs/a", populated=False)
    program = (
        "import fcntl, sys\n"
        f"file = open({str(path)!r}, 'r+')\n"
        "fcntl.lockf(file, fcntl.LOCK_EX)\n"
        "print(flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        ["python3", "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout
        writer.stdout.readline()
        assert node.runs()["a"].ended_at_ms is None
        writer.communicate()
    assert node.runs()["a"].ended_at_ms == node.now_ms


def test_a_lock_that_is_not_the_owner_s_is_none(node: Node) -> None:
    """Anybody may flock a readable file; only who may write it can hold it for us."""
    node.populate("/jobs/a")
    path = node.write(cgroup="/jobs/a")
    node.runs()
    node.populate("/jobs/a", populated=False)
    with path.open() as readable:
        fcntl.flock(readable, fcntl.LOCK_EX)
        assert node.runs()["a"].ended_at_ms is not None


def test_a_new_file_may_wait_for_its_first_process(node: Node) -> None:
    """A prolog writes the file before the scheduler makes the cgroup."""
    node.write(cgroup="/jobs/a")
    assert node.runs()["a"].ended_at_ms is None
    node.wall_lead_s = 61
    assert node.runs() == {}
    assert node.problem().startswith("its processes are gone and nobody saw them end")


def test_an_old_file_without_processes_is_not_revived_by_a_restart(node: Node) -> None:
    """Died while the agent was away: the daemon knows when it was last seen, we do not."""
    node.write(cgroup="/jobs/a", written_s_ago=3_600)
    assert node.runs() == {}
    assert len(node.provider.problems()) == 1


def test_a_run_of_processes_lives_while_one_of_them_does(
    node: Node, process: subprocess.Popen[bytes]
) -> None:
    """Even a zombie is dead: its parent has only not looked yet."""
    node.write(pids=[process.pid, 4_194_304], written_s_ago=0)
    assert node.runs()["a"].ended_at_ms is None
    seen = node.now_ms
    node.now_ms += 10_000
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert node.runs()["a"].ended_at_ms == seen


def test_a_process_younger_than_the_file_is_somebody_else(
    node: Node, process: subprocess.Popen[bytes]
) -> None:
    """After a reboot, or when numbers have come round, the number means another process."""
    node.write(pids=[process.pid], written_s_ago=3_600)
    assert node.runs() == {}
    assert len(node.provider.problems()) == 1


def test_two_files_cannot_bill_one_cgroup(node: Node) -> None:
    """The second one is refused, by name, and starts when the first one has ended."""
    node.populate("/jobs/a")
    node.populate("/jobs/a/inner")
    first = node.write("first", cgroup="/jobs/a")
    node.write("second", cgroup="/jobs/a/inner", started_at=stamp(START_MS + 1))
    assert set(node.runs()) == {"first"}
    assert node.problem().startswith(f"claims what {first} holds")
    node.write("first", cgroup="/jobs/a", ended_at=stamp(START_MS + 2))
    assert set(node.runs()) == {"first", "second"}
    assert node.provider.problems() == []


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can write as another user")


def given_to(path: Path, user: str) -> None:
    os.chown(path, pwd.getpwnam(user).pw_uid, -1)


@needs_root
def test_a_plain_user_s_file_bills_only_its_owner(node: Node) -> None:
    """The owner of the file is the only proof of who wrote it."""
    given_to(node.write("mine", username="daemon"), "daemon")
    given_to(node.write("yours", username="alice"), "daemon")
    (run,) = node.provider.runs()
    assert run.key == f"files.{pwd.getpwnam('daemon').pw_uid}:mine@{START_MS}"
    assert "may bill only daemon" in node.problem()


def test_a_start_that_nothing_can_be_billed_for_is_refused(node: Node) -> None:
    """A slip in the year must not become months of records."""
    node.now_ms += 35 * DAY_MS
    node.write(started_at=stamp(node.now_ms - 35 * DAY_MS - HOUR_MS))
    assert node.runs() == {}
    assert node.problem().startswith("started_at: is more than 35 days before the file appeared")
    node.write(started_at=stamp(node.now_ms - 35 * DAY_MS))
    assert set(node.runs()) == {"a"}


def test_a_run_may_live_longer_than_a_start_may_lie_back(node: Node) -> None:
    """Its file was there all the time; neither the end nor a new agent takes it for old."""
    node.write()
    node.runs()
    node.now_ms += 40 * DAY_MS
    node.write(cpu_m=7)
    assert node.runs()["a"].quotas[ResourceType.CPU] == 7
    node.wall_lead_s += 40 * DAY_MS // 1000
    node.restart()
    assert node.runs()["a"].started_at_ms == START_MS
    assert node.provider.problems() == []


@needs_root
def test_a_plain_user_s_file_begins_at_most_a_day_before_it_appeared(node: Node) -> None:
    """His three days become one, and he is told; a run that is known goes on as it was."""
    started = node.now_ms - 3 * DAY_MS
    given_to(node.write(username="daemon", started_at=stamp(started)), "daemon")
    run = node.runs()["a"]
    assert 0 <= node.now_ms - DAY_MS - run.started_at_ms < HOUR_MS  # by the file's own age
    assert run.key.endswith(f"@{started}")
    assert node.problem().startswith("started_at: is more than 24 hours before the file appeared")
    began = node.now_ms
    given_to(node.write("b", username="daemon", started_at=stamp(began)), "daemon")
    node.runs()
    node.now_ms += 3 * DAY_MS
    end = stamp(node.now_ms)
    path = node.write("b", username="daemon", started_at=stamp(began), ended_at=end)
    given_to(path, "daemon")
    assert node.runs()["b"].started_at_ms == began


@needs_root
def test_a_plain_user_cannot_claim_root_s_processes(
    node: Node, process: subprocess.Popen[bytes]
) -> None:
    """Another user's process or cgroup is refused, the owner's own is taken."""
    given_to(node.write("thief", username="daemon", pids=[process.pid]), "daemon")
    assert node.runs() == {}
    assert node.problem().startswith(f"pids: process {process.pid} is another user's")

    node.populate("/jobs/roots")
    given_to(node.write("thief", username="daemon", cgroup="/jobs/roots"), "daemon")
    assert node.runs() == {}
    assert node.problem().startswith("cgroup: /jobs/roots is another user's")

    given_to(node.cgroups / "jobs" / "roots", "daemon")
    node.write("other")  # any change: the claim is looked at again
    assert set(node.runs()) == {"other", "thief"}


@needs_root
def test_a_claim_that_is_refused_keeps_nobody_else_from_being_metered(node: Node) -> None:
    """Naming another user's process or cgroup, as of before him, must not make his run free."""
    node.populate("/jobs")
    node.populate("/jobs/a")
    given_to(node.cgroups / "jobs" / "a", "daemon")
    thief: dict[str, Any] = {"username": "nobody", "started_at": stamp(START_MS - 1)}
    with subprocess.Popen(["sleep", "600"], user="daemon") as sleeper:
        claims: dict[str, dict[str, Any]] = {
            "x": {"pids": [sleeper.pid]},
            "y": {"cgroup": "/jobs"},
            "z": {"cgroup": "/jobs/a"},
        }
        given_to(node.write("pids", username="daemon", pids=[sleeper.pid]), "daemon")
        given_to(node.write("cgroup", username="daemon", cgroup="/jobs/a"), "daemon")
        for name, claim in claims.items():
            given_to(node.write(name, **thief, **claim), "nobody")
        for _ in range(2):
            assert set(node.runs()) == {"pids", "cgroup"}
            assert len(node.provider.problems()) == 3
        sleeper.kill()


@needs_root
def test_a_plain_user_claims_no_number_that_may_become_somebody_else_s(node: Node) -> None:
    """Of the processes that his file names those count that exist and are his."""
    with subprocess.Popen(["sleep", "600"], user="daemon") as sleeper:
        given_to(node.write(username="daemon", pids=[sleeper.pid, 1 << 22]), "daemon")
        assert node.runs()["a"].pids == (sleeper.pid,)
        sleeper.kill()


@needs_root
def test_a_plain_user_s_own_processes_are_his(node: Node) -> None:
    """A process is its real user's."""
    with subprocess.Popen(["sleep", "600"], user="daemon") as sleeper:
        given_to(node.write("mine", username="daemon", pids=[sleeper.pid]), "daemon")
        assert set(node.runs()) == {"mine"}
        sleeper.kill()


@needs_root
def test_a_directory_of_another_user_is_refused(node: Node) -> None:
    """Whoever owns the directory can replace every file in it."""
    given_to(node.jobs, "daemon")
    with pytest.raises(ProviderError, match="is daemon's; make it root's"):
        node.runs()


@contextmanager
def read_only(directory: Path) -> Generator[None]:
    """Nothing in it can be written or deleted, by root either."""
    subprocess.run(["mount", "--bind", directory, directory], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", directory], check=True)
        yield
    finally:
        subprocess.run(["umount", directory], check=True)


@needs_root
def test_a_file_that_cannot_be_deleted_is_told_and_its_run_still_named(node: Node) -> None:
    """A settled run stays settled while its file cannot be removed; it is not forgotten."""
    path = node.write(ended_at=stamp(START_MS + 3_000))
    node.runs()
    with read_only(node.jobs):
        for _ in range(2):
            node.provider.settled([key()])
            assert node.runs()["a"].ended_at_ms == START_MS + 3_000
        assert node.problem().startswith("cannot be deleted (Read-only file system)")
    path.unlink()
    assert node.runs() == {}


@needs_root
def test_a_file_that_cannot_be_deleted_is_not_billed_again_after_a_restart(node: Node) -> None:
    """However long after the end that is, and whoever remembers nothing of it himself."""
    metered = MeteredNode(now_ms=node.now_ms)
    node.write(cpu_m=1000, ended_at=stamp(START_MS + 60_000))

    def look(after_ms: int) -> int:
        node.now_ms += after_ms
        node.provider.settled(metered.tick(*node.provider.runs(), after_ms=after_ms))
        node.provider.settled(list(metered.state.finished))
        return total(metered.told.of(ResourceType.CPU), "allocated")

    with read_only(node.jobs):
        assert look(1_000) == 60_000 * 1000
        for _ in range(3):
            look(HOUR_MS)
        metered.restart()
        node.restart()
        assert look(1_000) == look(HOUR_MS) == 60_000 * 1000


def test_a_run_that_is_told_anew_long_after_its_end_is_not_billed_again(node: Node) -> None:
    """The provider remembers it for longer than the state does."""
    metered = MeteredNode(now_ms=node.now_ms)

    def look(after_ms: int) -> int:
        node.now_ms += after_ms
        node.provider.settled(metered.tick(*node.provider.runs(), after_ms=after_ms))
        node.provider.settled(list(metered.state.finished))
        return total(metered.told.of(ResourceType.CPU), "allocated")

    node.write(cpu_m=1000, ended_at=stamp(START_MS + 60_000))
    assert look(1_000) == 60_000 * 1000
    for _ in range(3):
        look(HOUR_MS)
    node.write(cpu_m=1000)
    assert look(1_000) == look(HOUR_MS) == 60_000 * 1000
    node.restart()
    metered.restart()
    node.write(cpu_m=1000, ended_at=stamp(START_MS + 60_000))
    assert look(1_000) == 60_000 * 1000


def test_a_job_in_the_cgroup_of_an_earlier_one_is_not_billed_for_what_that_used(
    node: Node,
) -> None:
    """Its counter goes on; one that is made anew under the name begins at zero."""
    metered = MeteredNode(now_ms=node.now_ms)
    cpu = 0

    def look(*, used_ms: int = 0) -> int:
        nonlocal cpu
        cpu += used_ms * 1000
        node.now_ms += 1_000
        runs = node.provider.runs()
        readings = {key: one for run in runs for key, one in cpu_of(run, cpu).items()}
        node.provider.settled(metered.tick(*runs, after_ms=1_000, readings=readings))
        node.provider.settled(list(metered.state.finished))
        return total(metered.told.of(ResourceType.CPU), "used")

    def play(name: str) -> int:
        node.populate("/slot1")
        began = stamp(node.now_ms)
        node.write(name, cgroup="/slot1", cpu_m=1000, started_at=began)
        look()
        look(used_ms=700)
        node.write(name, cgroup="/slot1", cpu_m=1000, started_at=began, ended_at=stamp(node.now_ms))
        return look()

    assert play("first") == 700_000
    assert play("second") == 1_400_000
    (node.cgroups / "slot1").rename(node.cgroups / "old")
    cpu = 0
    assert play("third") == 2_100_000


@pytest.mark.parametrize("is_cgroup", [False, True])
def test_what_runs_already_is_billed_from_the_start_that_its_file_names(
    node: Node, process: subprocess.Popen[bytes], *, is_cgroup: bool
) -> None:
    """Whoever has a service metered from now on does not pay for its past."""
    node.populate("/service")
    (node.cgroups / "service" / "cgroup.procs").write_text(f"{process.pid}\n")
    claim: dict[str, Any] = {"cgroup": "/service"} if is_cgroup else {"pids": [process.pid]}
    node.boot_lead_s = 3_600
    node.write("now", started_at=stamp(node.now_ms), **claim)
    assert node.runs()["now"].metered_until_ms == node.now_ms
    (node.jobs / "now.json").unlink()
    node.runs()
    node.provider.settled([RunKey(f"files:now@{node.now_ms}")])
    node.restart()
    node.write("then", **claim)
    assert node.runs()["then"].metered_until_ms is None


def test_watching_runs_leaks_no_descriptor(node: Node) -> None:
    """Whatever is kept for speed goes with the run, or with the process that it was for."""
    folder = node.cgroups / "cpuacct" / "a"
    folder.mkdir(parents=True)
    liveness = Liveness(
        Hierarchies(None, {"cpuacct": str(node.cgroups / "cpuacct")}), ProcFs(), lambda: 0
    )
    run = node_run("/a")
    before = kept_descriptors(node)
    for _ in range(5):
        with subprocess.Popen(["sleep", "600"]) as sleeper:
            (folder / "cgroup.procs").write_text(f"{sleeper.pid}\n")
            assert liveness.is_alive(run, 0)
            sleeper.kill()
            os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
            liveness.refresh()
            assert not liveness.is_alive(run, 0)  # v1 still lists the zombie
    assert kept_descriptors(node) <= before + 2
    liveness.forget(run)
    assert kept_descriptors(node) == before


def kept_descriptors(node: Node) -> int:
    """Descriptors of this node's files, and of processes."""
    return open_descriptors(node.cgroups) + open_descriptors("[pidfd]")


def node_run(cgroup: str) -> Run:
    return Run(
        key=key(),
        provider="files",
        job_id="a",
        job_name="a",
        started_at_ms=START_MS,
        quotas={},
        cgroup=cgroup,
    )
