"""The `systemd` provider: a unit is its cgroup, its quotas are the limits of that cgroup."""

import os
import pwd
from pathlib import Path
from uuid import uuid4

import pytest

from agent.cgroups import find_hierarchies
from agent.errors import ProviderError
from agent.jobs.systemd import SystemdProvider, open_systemd_provider
from agent.model import ResourceType, Run
from tests.unit.agent.cgrouptrees import CgroupTree
from tests.unit.agent.conftest import CGROUP_ROOT, wait_until
from tests.unit.agent.jobs.contexts import NOW_MS, Machine

CPU, MEM = ResourceType.CPU, ResourceType.MEM
SETTINGS = """
[systemd]
units = ["jobs.slice/job-*.scope", "train@*.service"]
job_id = "{1}"
vc = "{slice}"
"""
JOB = "/jobs.slice/job-4711.scope"


@pytest.fixture(params=["v1", "v2", "both"])
def machine(tmp_path: Path, request: pytest.FixtureRequest) -> Machine:
    tree = CgroupTree(tmp_path, str(request.param))
    tree.make("/jobs.slice")
    tree.make("/system.slice")
    tree.make("/system.slice/sshd.service")
    return Machine(tree, SETTINGS)


def runs(provider: SystemdProvider) -> dict[str, Run]:
    return {run.job_id: run for run in provider.runs()}


def test_a_unit_that_matches_is_a_run(machine: Machine) -> None:
    """Identity by the templates, quotas by the limits; other units are nobody's jobs."""
    machine.tree.make(JOB)
    machine.tree.limit(JOB, cpu_m=1500, mem_bytes=3 << 30)
    provider = open_systemd_provider(machine.context())
    (run,) = provider.runs()
    assert (run.job_id, run.job_name, run.username) == ("4711", "job-4711", None)
    assert (run.vc, run.project, run.cgroup) == ("jobs", "", JOB)
    assert run.quotas == {CPU: 1500, MEM: 3 << 20}
    assert run.key.startswith(f"systemd:{JOB}#")
    assert run.started_at_ms == NOW_MS
    assert provider.problems() == []
    assert provider.watch_paths() == ()


def test_without_patterns_nothing_is_looked_at(tmp_path: Path) -> None:
    """Also where no cgroup is mounted at all."""
    provider = open_systemd_provider(Machine(CgroupTree(tmp_path, "v2"), "").context())
    provider.settled([])
    assert provider.runs() == ()
    machine = Machine(CgroupTree(tmp_path, "v2"), "")
    machine.settings = f'[cgroup]\nroot = "{tmp_path}/nothing"\n'
    assert open_systemd_provider(machine.context()).runs() == ()


def test_wanted_units_without_cgroups_are_a_failure(machine: Machine) -> None:
    """Not an empty answer, which would end every run."""
    machine.settings = machine.settings.replace(str(machine.tree.root), "/nonexistent")
    provider = open_systemd_provider(machine.context())
    with pytest.raises(ProviderError, match=r"no cgroups are mounted at /nonexistent"):
        provider.runs()


def test_no_limit_is_no_quota(machine: Machine) -> None:
    """Both quotas are there, and 0."""
    machine.tree.make(JOB)
    (run,) = open_systemd_provider(machine.context()).runs()
    assert run.quotas == {CPU: 0, MEM: 0}


def test_a_run_is_the_same_object_until_its_quota_changes(machine: Machine) -> None:
    """`systemctl set-property` changes quotas of the same run, from the next look on."""
    machine.tree.make(JOB)
    provider = open_systemd_provider(machine.context())
    before = runs(provider)["4711"]
    machine.now_ms += 10_000
    assert runs(provider)["4711"] is before
    machine.tree.limit(JOB, cpu_m=250)
    after = runs(provider)["4711"]
    assert after.quotas[CPU] == 250
    assert (after.key, after.started_at_ms) == (before.key, before.started_at_ms)


def test_a_unit_ends_once_and_comes_again_as_another_run(machine: Machine) -> None:
    """The end is answered with the last quotas until it is settled."""
    machine.tree.make(JOB)
    machine.tree.limit(JOB, cpu_m=500)
    provider = open_systemd_provider(machine.context())
    first = runs(provider)["4711"]
    machine.now_ms += 60_000
    machine.tree.remove(JOB)
    ended = runs(provider)["4711"]
    assert (ended.key, ended.ended_at_ms) == (first.key, machine.now_ms)
    assert ended.quotas == first.quotas
    machine.now_ms += 1_000
    machine.tree.make(JOB)
    provider.runs()
    machine.now_ms += 1_000
    again = [run for run in provider.runs() if run.ended_at_ms is None]
    assert [run.started_at_ms for run in again] == [machine.now_ms - 1_000]
    assert again[0].key != first.key
    provider.settled([first.key, again[0].key])
    assert provider.runs() == again


def test_a_run_has_one_key_over_restarts_of_the_agent(machine: Machine) -> None:
    """What was there before us has the same name, however long we were away."""
    machine.tree.make(JOB)
    before = open_systemd_provider(machine.context()).runs()[0]
    machine.restart()
    machine.now_ms += 3_600_000
    after = open_systemd_provider(machine.context()).runs()[0]
    assert after.key == before.key


def test_a_start_before_us_is_that_of_the_oldest_process(tmp_path: Path) -> None:
    """Told once: a process that comes or goes later does not move it."""
    proc = tmp_path / "proc"
    for pid, start in ((41, 360_000), (42, 359_000)):
        (proc / str(pid)).mkdir(parents=True)
        stat = f"{pid} (x) S 1 1 1 0 -1 0 0 0 0 0 5 5 0 0 20 0 1 0 {start} 0 9 0\n"
        (proc / str(pid) / "stat").write_text(stat)
    (proc / "uptime").write_text("3600.00 1.0\n")
    tree = CgroupTree(tmp_path / "cgroup", "v2")
    machine = Machine(tree, SETTINGS, proc=proc)
    tree.make(JOB, pids=(41, 42))
    provider = open_systemd_provider(machine.context())
    assert provider.runs()[0].started_at_ms == NOW_MS - 10_000
    (proc / "42/stat").unlink()
    machine.now_ms += 60_000
    tree.limit(JOB, cpu_m=1)
    assert provider.runs()[0].started_at_ms == NOW_MS - 10_000


def test_a_unit_without_its_limits_yet_waits_for_a_moment(machine: Machine) -> None:
    """systemd makes the cgroup first and limits it then: one bill item, not two."""
    provider = open_systemd_provider(machine.context())
    assert provider.runs() == []
    machine.tree.make(JOB)
    assert provider.runs() == []
    assert machine.wakes == 1
    machine.tree.limit(JOB, cpu_m=500)
    machine.now_ms += 50
    run = runs(provider)["4711"]
    assert (run.quotas[CPU], run.started_at_ms) == (500, NOW_MS)
    assert machine.wakes == 1


def test_a_unit_between_two_looks_keeps_its_quotas(tmp_path: Path) -> None:
    """Its limits are read when they are set; its length is that of its cgroup."""
    tree = CgroupTree(tmp_path, "v2")
    tree.make("/jobs.slice")
    machine = Machine(tree, SETTINGS)
    provider = open_systemd_provider(machine.context())
    with machine.hearing():
        provider.runs()
        tree.make(JOB)
        wait_until(lambda: bool(provider._followed and provider._followed.found()))
        tree.limit(JOB, cpu_m=500, mem_bytes=1 << 30)
        wait_until(lambda: any(limits.quotas()[MEM] for limits in provider._limits.values()))
        machine.now_ms += 300
        tree.remove(JOB)
        wait_until(lambda: all(run.ended_at_ms for run in provider.runs()))
        (run,) = provider.runs()
    assert run.quotas == {CPU: 500, MEM: 1 << 20}
    assert (run.started_at_ms, run.ended_at_ms) == (NOW_MS, NOW_MS + 300)


def test_a_unit_that_was_heard_by_another_name_leaves_nothing(tmp_path: Path) -> None:
    """systemd makes it in v2 first; what was read of that one is forgotten with its name."""
    tree = CgroupTree(tmp_path, "both")
    tree.make("/jobs.slice")
    (tmp_path / "unified/jobs.slice").mkdir()
    machine = Machine(tree, SETTINGS)
    provider = open_systemd_provider(machine.context())
    with machine.hearing():
        (tmp_path / f"unified{JOB}").mkdir()
        wait_until(lambda: provider._limits)
        tree.make(JOB)
        wait_until(lambda: len(provider._limits) == 2)
    machine.now_ms += 1_000
    for _ in range(2):
        provider.runs()
    assert len(provider._limits) == len(provider.runs()) == 1


def test_a_unit_in_a_job_is_a_part_of_it(machine: Machine) -> None:
    """Its counters are in those of the outer one already; the patterns are to be narrowed."""
    machine.settings = machine.settings.replace('"train@*', '"jobs.slice", "train@*')
    machine.tree.make(JOB)
    provider = open_systemd_provider(machine.context())
    assert [run.cgroup for run in provider.runs()] == ["/jobs.slice"]
    (problem,) = provider.problems()
    assert problem.source == JOB
    assert "is a part of /jobs.slice" in problem.message
    machine.tree.remove(JOB)
    assert [run.cgroup for run in provider.runs()] == ["/jobs.slice"]
    assert provider.problems() == []


def test_the_account_is_that_of_the_users_slice(machine: Machine) -> None:
    """The kernel's word, not the user's; its number where it has no name."""
    user_units = 'units = ["user@*.service/app.slice/*.scope"]'
    machine.settings = f'[systemd]\n{user_units}\n[cgroup]\nroot = "{machine.tree.root}"\n'
    for uid in (os.getuid(), 4_000_000_123):
        place = f"/user.slice/user-{uid}.slice/user@{uid}.service/app.slice"
        machine.tree.make(f"{place}/job-{uid}.scope")
    found = {run.job_name: run.username for run in open_systemd_provider(machine.context()).runs()}
    assert found.pop("job-4000000123") == "4000000123"
    assert found == {f"job-{os.getuid()}": pwd.getpwuid(os.getuid()).pw_name}


def test_a_saved_tree_names_no_account_of_this_machine(machine: Machine) -> None:
    """Another machine's numbers mean other people."""
    machine.settings = machine.settings.replace('"train@*', '"user-*.slice", "train@*')
    machine.tree.make("/user.slice/user-0.slice")
    (run,) = open_systemd_provider(machine.context(is_live=False)).runs()
    assert run.username == "0"


def test_real_cgroups_are_heard_of() -> None:
    """This kernel's own: begins with mkdir, ends with rmdir, limits where there are any."""
    hierarchies = find_hierarchies(CGROUP_ROOT)
    mount = next(iter(hierarchies.v1.values()), None) or hierarchies.v2
    if mount is None or not os.access(mount, os.W_OK):
        pytest.skip("no cgroup can be made here")
    name = f"nodemeter-test-{uuid4().hex[:8]}"
    folder = Path(mount) / f"{name}.slice"
    folder.mkdir()
    tree = CgroupTree.__new__(CgroupTree)
    tree.root = Path(CGROUP_ROOT)
    machine = Machine(tree, f'[systemd]\nunits = ["{name}.slice/job-*.scope"]\n')
    provider = open_systemd_provider(machine.context())
    try:
        with machine.hearing():
            (folder / "job-1.scope").mkdir()
            wait_until(lambda: provider._followed and provider._followed.found())
            machine.now_ms += 1_000
            (run,) = provider.runs()
            assert (run.started_at_ms, run.quotas) == (NOW_MS, {CPU: 0, MEM: 0})
            (folder / "job-1.scope").rmdir()
            wait_until(lambda: all(run.ended_at_ms for run in provider.runs()))
            assert provider.runs()[0].ended_at_ms == NOW_MS + 1_000
    finally:
        for path in (folder / "job-1.scope", folder):
            if path.exists():
                path.rmdir()
