"""The agent's figures: what one sample of many cgroups costs, and what the whole agent does.

Real cgroups below one named `nodemeter` where this machine lets us make them; else
folders that look like them, which costs about the same system calls.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from agent.cgroups import find_hierarchies
from agent.clock import SystemTime
from agent.model import ResourceType, Run, RunKey
from agent.procfs import ProcFs
from agent.samplers.cgroup import CgroupSampler
from agent.samplers.pss import PssReader
from tests.acceptance.product import BIN, clean_environment, until
from tests.bench.exporter import Exporter, measure_exporter
from tests.bench.table import Figure, median_of

JOBS = 500
RESIDENT_JOBS = 100
ROUNDS = 30
SETTLING_SECONDS = 15.0  # young jobs are looked at every second
WATCHED_SECONDS = 60.0
ROOT = "/sys/fs/cgroup"
BARE = "import grpc, google.protobuf, psutil; print(open('/proc/self/status').read())"


def measure(folder: Path) -> list[Figure]:
    """All figures of the agent."""
    exporter = measure_exporter(folder)
    with cgroups(folder, JOBS) as (root, names):
        sampling = sampling_figure(root, names)
        return [
            sampling,
            *([exporter_figure(sampling, exporter)] if exporter else []),
            resident_figure(folder, root, names[:RESIDENT_JOBS], exporter),
            cpu_figure(folder, root, names),
        ]


@contextmanager
def cgroups(folder: Path, count: int) -> Generator[tuple[str, list[str]]]:
    """So many empty cgroups; gives the root of the hierarchies and their paths below it."""
    real = find_hierarchies(ROOT)
    mounts = [real.v1[name] for name in ("cpuacct", "memory") if name in real.v1]
    mounts = mounts or ([real.v2] if real.v2 else [])
    is_real = bool(mounts) and all(os.access(mount, os.W_OK) for mount in mounts)
    root = ROOT if is_real else str(folder / "cgroup")
    if not is_real:
        mounts = [root]
        Path(root).mkdir()
        (Path(root) / "cgroup.controllers").touch()
    names = [f"/nodemeter/bench-{os.getpid()}-{number}" for number in range(count)]
    paths = [Path(f"{mount}{name}") for name in names for mount in mounts]
    for path in paths:
        path.mkdir(parents=True)
        if not is_real:
            (path / "cpu.stat").write_text("usage_usec 1234567\nuser_usec 1\nsystem_usec 1\n")
            (path / "memory.current").write_text("104857600\n")
            (path / "memory.stat").write_text("anon 1\nfile 2\ninactive_file 4096\n")
    try:
        yield root, names
    finally:
        for path in paths if is_real else []:
            path.rmdir()
            with suppress(OSError):
                path.parent.rmdir()


def run_of(name: str) -> Run:
    return Run(
        key=RunKey(name),
        provider="files",
        job_id=name,
        job_name="bench",
        started_at_ms=0,
        quotas={ResourceType.CPU: 1000, ResourceType.MEM: 1 << 20},
        cgroup=name,
    )


def sampling_figure(root: str, names: list[str]) -> Figure:
    """CPU time of one sample, beside one bare read of each of the same files."""
    runs = [run_of(name) for name in names]
    procfs = ProcFs()
    pss = PssReader(procfs, SystemTime().monotonic_ns)
    sampler = CgroupSampler(find_hierarchies(root), procfs, pss)
    assert len(sampler.sample(runs)) == 2 * len(runs)
    own = median_of(ROUNDS, lambda: cpu_seconds(lambda: sampler.sample(runs)))
    files = [
        file
        for name in names
        for folder in find_hierarchies(root).folders(name)
        for file in (Path(folder) / "cpuacct.usage", Path(folder) / "memory.usage_in_bytes",
                     Path(folder) / "cpu.stat", Path(folder) / "memory.current")
        if file.exists()
    ]  # fmt: skip
    descriptors = [os.open(file, os.O_RDONLY) for file in files]
    bare = median_of(
        ROUNDS, lambda: cpu_seconds(lambda: [os.pread(fd, 64, 0) for fd in descriptors])
    )
    for descriptor in descriptors:
        os.close(descriptor)
    sampler.forget([run.key for run in runs])
    return Figure(
        name=f"agent: one sample of {len(names)} cgroups",
        value=own * 1000,
        unit="ms CPU",
        beside=f"bare pread of {len(files)} files",
        beside_value=bare * 1000,
        rounds=ROUNDS,
    )


def cpu_seconds(work: object) -> float:
    assert callable(work)
    started = time.process_time()
    work()
    return time.process_time() - started


def exporter_figure(sampling: Figure, exporter: Exporter) -> Figure:
    """The same sample beside a scrape of the node exporter, which knows nothing of jobs."""
    return replace(
        sampling,
        beside="one scrape of prometheus-node-exporter",
        beside_value=exporter.scrape_ms,
    )


class Watched(NamedTuple):
    """What a whole agent holds and uses."""

    resident_mib: float
    share: float  # of one core


def watch_agent(folder: Path, root: str, names: list[str]) -> Watched:
    """Run an agent with so many jobs for a minute, nobody at its target."""
    folder.mkdir()
    jobs = folder / "jobs.d"
    jobs.mkdir(mode=0o755)
    started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    for number, name in enumerate(names):
        job = {
            "job_id": f"bench-{number}", "job_name": "bench", "username": "root",
            "vc": "default", "cgroup": name, "cpu_m": 1000, "mem_mi": 1024,
            "started_at": started,
        }  # fmt: skip
        (jobs / f"bench-{number}.json").write_text(json.dumps(job))
    env = clean_environment() | {
        "NODEMETER_AGENT_CONFIG": os.devnull,
        "NODEMETER_AGENT_STATE_DIR": str(folder / "agent"),
        "NODEMETER_JOBS_DIR": str(jobs),
        "NODEMETER_CGROUP_ROOT": root,
        "NODEMETER_UPLINK_TARGET": "127.0.0.1:1",
    }
    holders = [hold(root, name) for name in names]
    with (folder / "agent.log").open("wb") as log:
        agent = subprocess.Popen(
            [str(BIN / "nodemeter-agent"), "run"], env=env, stdout=log, stderr=log
        )
    try:
        until("the agent's spool", lambda: list((folder / "agent").rglob("*.seg")), seconds=60)
        time.sleep(SETTLING_SECONDS)
        before = process_cpu_seconds(agent.pid)
        time.sleep(WATCHED_SECONDS)
        share = (process_cpu_seconds(agent.pid) - before) / WATCHED_SECONDS
        resident = kib(Path(f"/proc/{agent.pid}/status").read_text(), "VmRSS")
    finally:
        agent.terminate()
        agent.wait(60)
        for holder in holders:
            holder.kill()
            holder.wait()
    return Watched(resident / 1024, share)


def resident_figure(folder: Path, root: str, names: list[str], exporter: Exporter | None) -> Figure:
    """Memory beside the node exporter's, or else beside a bare process of its imports."""
    watched = watch_agent(folder / "resident", root, names)
    beside, beside_mib = "prometheus-node-exporter", exporter.resident_mib if exporter else 0.0
    if exporter is None:
        done = subprocess.run(
            [sys.executable, "-c", BARE], capture_output=True, text=True, check=True
        )
        beside = "Python with grpc, protobuf and psutil imported"
        beside_mib = kib(done.stdout, "VmRSS") / 1024
    return Figure(
        name=f"agent: resident memory, {len(names)} jobs",
        value=watched.resident_mib,
        unit="MiB",
        beside=beside,
        beside_value=beside_mib,
        rounds=1,
    )


def cpu_figure(folder: Path, root: str, names: list[str]) -> Figure:
    """CPU of the whole agent, beside the aim."""
    watched = watch_agent(folder / "busy", root, names)
    return Figure(
        name=f"agent: CPU, {len(names)} jobs, a sample each 10 s",
        value=watched.share * 100,
        unit="% of a core",
        beside="the aim",
        beside_value=0.2,
        rounds=1,
    )


def hold(root: str, name: str) -> subprocess.Popen[bytes]:
    """A process that lives in the cgroup."""
    holder = subprocess.Popen(["sleep", "3600"])
    for folder in find_hierarchies(root).folders(name):
        if Path(folder).is_dir():
            (Path(folder) / "cgroup.procs").write_text(f"{holder.pid}\n")
    return holder


def process_cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def kib(status: str, field: str) -> int:
    (line,) = [line for line in status.splitlines() if line.startswith(f"{field}:")]
    return int(line.split()[1])
