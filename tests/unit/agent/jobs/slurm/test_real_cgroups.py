"""Slurm's v2 layout in this machine's own cgroups, with real processes and the kernel's events."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from uuid import uuid4

import pytest

from agent.cgroups import find_hierarchies
from agent.cgroupwatch import CgroupWatch
from agent.clock import AgentClock, SystemTime
from agent.context import Context
from agent.jobs.slurm import SlurmProvider
from agent.model import ResourceType
from agent.procfs import ProcFs
from agent.settings import load_settings
from tests.unit.agent.conftest import CGROUP_ROOT, _is_removed, wait_until
from tests.unit.agent.jobs.slurm.slurmnodes import known, only

HIERARCHIES = find_hierarchies(CGROUP_ROOT)
BURN = "end=$(($(date +%s%N) + 300000000)); while [ $(date +%s%N) -lt $end ]; do :; done"


class RealScope:
    """A slurmstepd.scope of our own, in a slice of a name that nobody else has."""

    def __init__(self, mount: str) -> None:
        self.slice = f"nodemeter{uuid4().hex[:8]}.slice"
        self.root = Path(mount) / self.slice
        self.scope = self.root / "slurmstepd.scope"
        self.scope.mkdir(parents=True)
        self.processes: list[subprocess.Popen[bytes]] = []
        clock = AgentClock(SystemTime())
        self.now_ms = clock.now_ms
        self.watch = CgroupWatch(
            HIERARCHIES, now_ms=self.now_ms, told=lambda: None, procfs=ProcFs()
        )
        environ = {
            "NODEMETER_SLURM_CGROUP_SLICES": self.slice,
            "NODEMETER_SLURM_ASK_SCONTROL": "never",
        }
        context = Context(
            settings=load_settings(None, environ),
            now_ms=self.now_ms,
            cgroups=self.watch,
            wake=lambda: None,
        )
        self.provider = SlurmProvider(context)
        self.watch.start()

    def start(self, job: str, command: str, environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """Start a job's script in a cgroup made for it."""
        leaf = self.scope / job / "step_batch/user/task_0"
        leaf.mkdir(parents=True)
        enter = (
            f"echo $$ > {leaf}/cgroup.procs && exec env -i {_words(environ)} /bin/sh -c '{command}'"
        )
        process = subprocess.Popen(["/bin/sh", "-c", enter])
        self.processes.append(process)
        return process

    def remove(self, job: str) -> None:
        """Remove the cgroup of a job, as slurmstepd does."""
        folders = sorted((self.scope / job).rglob("*"), reverse=True)
        for folder in [*(each for each in folders if each.is_dir()), self.scope / job]:
            wait_until(_remover(folder))

    def close(self) -> None:
        """Stop looking, kill what is left, remove everything."""
        self.provider.close()
        self.watch.close()
        folders = sorted((each for each in self.root.rglob("*") if each.is_dir()), reverse=True)
        for folder in (*folders, self.root):
            wait_until(_remover(folder))
        for process in self.processes:
            process.wait()


def _remover(folder: Path) -> Callable[[], bool]:
    return lambda: _is_removed(str(folder))


def _words(environ: Mapping[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in environ.items())


@pytest.fixture
def scope() -> Iterator[RealScope]:
    """Where this machine lets us make v2 cgroups."""
    if HIERARCHIES.v2 is None or not os.access(HIERARCHIES.v2, os.W_OK):
        pytest.skip("no cgroup of version 2 can be made here")
    scope = RealScope(HIERARCHIES.v2)
    yield scope
    scope.close()


def environ(job_id: str) -> dict[str, str]:
    return {
        "SLURM_JOB_ID": job_id,
        "SLURM_JOB_NAME": "real",
        "SLURM_JOB_UID": str(os.getuid()),
        "SLURM_CPUS_ON_NODE": "1",
        "PATH": "/usr/bin:/bin",
    }


def test_a_job_is_told_from_birth_to_removal_with_its_last_reading(scope: RealScope) -> None:
    """The instants are the kernel's events; the CPU time is read when the last process ends."""
    before_ms = scope.now_ms()
    process = scope.start("job_7", BURN, environ("7"))
    run = only(known(scope.provider))
    assert (run.job_id, run.job_name) == ("7", "real")
    assert run.quotas[ResourceType.CPU] == 1000
    assert -50 <= run.started_at_ms - before_ms < 500
    process.wait()
    wait_until(lambda: scope.provider._followed.found()[0].emptied_at_ms)
    stat = (scope.scope / "job_7/cpu.stat").read_text()
    removed_ms = scope.now_ms()
    scope.remove("job_7")
    wait_until(lambda: only(scope.provider.runs()).ended_at_ms is not None)
    ended = only(scope.provider.runs())
    assert -50 <= (ended.ended_at_ms or 0) - removed_ms < 500
    assert f"usage_usec {ended.final[ResourceType.CPU].value}\n" in stat
    scope.provider.settled([run.key])
    assert scope.provider.runs() == []


def test_a_job_is_known_although_it_is_gone_before_anybody_looks(scope: RealScope) -> None:
    """Its first process is read a moment after the birth, not at the next look."""
    process = scope.start("job_8", "sleep 0.4", environ("8"))
    process.wait()
    scope.remove("job_8")
    run = only(known(scope.provider))
    assert (run.job_id, run.job_name) == ("8", "real")
    assert run.ended_at_ms is not None
    assert 390 <= run.ended_at_ms - run.started_at_ms < 2_000


def test_many_short_jobs_are_all_told(scope: RealScope) -> None:
    """Each of them once, and together no longer than all of it took; of 30 ms."""
    started = time.monotonic()
    for number in range(30):
        job_id = str(100 + number)
        process = scope.start(f"job_{job_id}", "sleep 0.03", environ(job_id))
        process.wait()
        scope.remove(f"job_{job_id}")
    took_ms = (time.monotonic() - started) * 1000
    runs = known(scope.provider, 30)
    assert len({run.job_id for run in runs}) == 30
    lengths = [(run.ended_at_ms or 0) - run.started_at_ms for run in runs]
    assert min(lengths) >= 0
    assert 30 * 20 <= sum(lengths) <= took_ms + 30
