"""A node with Slurm's jobs, built of plain files: cgroups of either version, and processes."""

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path

from agent.cgroups import find_hierarchies
from agent.cgroupwatch import CgroupWatch
from agent.context import Context
from agent.errors import ProviderError
from agent.jobs.slurm import SlurmProvider
from agent.model import ResourceType, Run
from agent.procfs import ProcFs
from agent.settings import AgentSettings, load_settings
from tests.unit.agent.conftest import wait_until

CPU, MEM = ResourceType.CPU, ResourceType.MEM
SLUID = "s5K1KKYAYG5D00"
UPTIME_S = 1_000
NOW_MS = 1_700_000_000_000
V1 = ("cpuacct", "memory", "cpu", "cpuset", "freezer", "devices")

ENVIRON = {
    "SLURM_JOB_ID": "7",
    "SLURM_JOB_NAME": "train",
    "SLURM_JOB_UID": "1001",
    "SLURM_JOB_ACCOUNT": "physics",
    "SLURM_JOB_PARTITION": "gold",
    "SLURM_JOB_CPUS_PER_NODE": "2",
    "SLURM_MEM_PER_NODE": "200",
    "SLURMD_NODENAME": "n1",
}


class SlurmNode:
    """One machine below `root`, its clock, and how often the agent was told of news."""

    def __init__(self, root: Path, layout: str) -> None:
        self.root = root
        self.is_v2 = layout == "v2"
        self.cgroup_root = root / "sys/fs/cgroup"
        self._now_ms = NOW_MS
        self.woken = 0
        self.closes: list[Callable[[], None]] = []
        self._graves = count()
        mounts = [""] if self.is_v2 else V1
        for mount in mounts:
            write(self.cgroup_root / mount / ("cgroup.controllers" if self.is_v2 else "tasks"), "")
        self.now_ms = NOW_MS
        write(root / "proc/meminfo", "MemTotal:       24684100 kB\nMemFree: 5 kB\n")
        write(root / "etc/passwd", "root:x:0:0::/:/bin/sh\nalice:x:1001:1001::/home/a:/bin/sh\n")

    @property
    def now_ms(self) -> int:
        """The agent's clock, which the uptime goes with."""
        return self._now_ms

    @now_ms.setter
    def now_ms(self, now_ms: int) -> None:
        self._now_ms = now_ms
        uptime = UPTIME_S + (now_ms - NOW_MS) / 1000
        write(self.root / "proc/uptime", f"{uptime:.2f} 1.00\n")

    def path(self, job: str = "job_7", *, uid: int = 1001, node: str = "") -> str:
        """Where Slurm puts a job."""
        if self.is_v2:
            return f"/system.slice/{node and f'{node}_'}slurmstepd.scope/{job}"
        return f"/slurm{node and f'_{node}'}/uid_{uid}/{job}"

    def make(
        self,
        path: str,
        *,
        cpus: str | None = "0-1",
        mem_bytes: int | None = 209_715_200,
        controllers: tuple[str, ...] = V1,
    ) -> None:
        """Make the cgroup of a job; None = no limit."""
        if self.is_v2:
            folder = self._folder(path)
            write(folder / "cgroup.events", "populated 0\nfrozen 0\n")
            write(folder / "cpu.stat", "usage_usec 5000\n")
            write(folder / "cpuset.cpus", f"{cpus or ''}\n")
            write(folder / "cpuset.cpus.effective", f"{cpus or '0-63'}\n")
            write(folder / "memory.max", "max\n" if mem_bytes is None else f"{mem_bytes}\n")
            return
        for controller in controllers:
            self._folder(path, controller).mkdir(parents=True)
        if "cpuset" in controllers and cpus is not None:
            write(self._folder(path, "cpuset") / "cpuset.cpus", f"{cpus}\n")
        if "memory" in controllers:
            limit = 9223372036854771712 if mem_bytes is None else mem_bytes
            write(self._folder(path, "memory") / "memory.limit_in_bytes", f"{limit}\n")

    def start(
        self,
        path: str,
        pid: int,
        environ: Mapping[str, str] | None = None,
        *,
        uid: int = 1001,
        step: str = "step_batch",
        title: str = "",
        age_s: int = 100,
        controllers: tuple[str, ...] = V1,
    ) -> None:
        """Put a process into a step; `title` makes it slurmstepd."""
        inner = f"{step}/slurm" if title else f"{step}/user/task_0"
        folders = [self._folder(path) / inner]
        if not self.is_v2:
            inner = step if title else f"{step}/task_0"
            folders = [self._folder(path, controller) / inner for controller in controllers]
        for folder in folders:
            with_it = (folder / "cgroup.procs").read_text() if folder.is_dir() else ""
            write(folder / "cgroup.procs", f"{with_it}{pid}\n")
        if self.is_v2:
            write(self._folder(path) / "cgroup.events", "populated 1\nfrozen 0\n")
        uptime = UPTIME_S + (self.now_ms - NOW_MS) // 1000
        start = (uptime - age_s) * os.sysconf("SC_CLK_TCK")
        fields = f"{pid} (sh) S 1 1 1 0 -1 0 0 0 0 0 1 1 0 0 20 0 1 0 {start} 1000 10"
        write(self.root / f"proc/{pid}/stat", fields + " 0" * 28)
        write(self.root / f"proc/{pid}/status", f"Name:\tsh\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\n")
        write(self.root / f"proc/{pid}/cmdline", title or "/bin/sh\0/tmp/script\0")
        if environ is not None:
            text = "\0".join(f"{name}={value}" for name, value in environ.items())
            write(self.root / f"proc/{pid}/environ", f"{text}\0")

    def stop(self, path: str) -> None:
        """End all processes of a job; its cgroup stays."""
        for mount in self._mounts():
            for procs in Path(f"{mount}{path}").glob("step_*/**/cgroup.procs"):
                for pid in procs.read_text().split():
                    shutil.rmtree(self.root / f"proc/{pid}", ignore_errors=True)
                procs.write_text("")
        if self.is_v2:
            write(self._folder(path) / "cgroup.events", "populated 0\nfrozen 0\n")

    def remove(self, path: str, *controllers: str) -> None:
        """Remove the cgroup of a job; put aside, so that no other one gets its inode."""
        mounts = [self.cgroup_root / controller for controller in controllers] or self._mounts()
        for mount in mounts:
            folder, grave = Path(f"{mount}{path}"), self.root / "graves" / str(next(self._graves))
            if folder.is_dir():
                grave.parent.mkdir(exist_ok=True)
                folder.rename(grave)

    def limit(self, path: str, *, cpus: str | None = None, mem_bytes: int | None = None) -> None:
        """Give a job other limits, as `scontrol update` does."""
        cpuset, memory, name = self._folder(path), self._folder(path), "memory.max"
        if not self.is_v2:
            cpuset, memory = self._folder(path, "cpuset"), self._folder(path, "memory")
            name = "memory.limit_in_bytes"
        if cpus is not None:
            (cpuset / "cpuset.cpus").write_text(f"{cpus}\n")
        if mem_bytes is not None:
            (memory / name).write_text(f"{mem_bytes}\n")

    def settings(self, **slurm: str) -> AgentSettings:
        """The defaults of this machine, with some keys of [slurm]."""
        environ = {f"NODEMETER_SLURM_{key.upper()}": value for key, value in slurm.items()}
        environ |= {"NODEMETER_CGROUP_ROOT": str(self.cgroup_root)}
        return replace(load_settings(None, environ), root=str(self.root))

    def context(self, *, is_live: bool, **slurm: str) -> Context:
        """What providers of it are made from."""
        settings = self.settings(**slurm)
        watch = CgroupWatch(
            find_hierarchies(str(self.cgroup_root)),
            now_ms=lambda: self.now_ms,
            told=self._wake,
            procfs=ProcFs(str(self.root / "proc")),
        )
        self.closes.append(watch.close)
        return Context(
            settings=settings,
            now_ms=lambda: self.now_ms,
            cgroups=watch,
            wake=self._wake,
            is_live=is_live,
        )

    def saved(self, **slurm: str) -> SlurmProvider:
        """The provider that looks at a saved tree: once, and at once."""
        return SlurmProvider(self.context(is_live=False, **slurm))

    def provider(self, **slurm: str) -> SlurmProvider:
        """The provider of a machine that lives; scontrol only where it is named."""
        slurm = {"ask_scontrol": "never"} | slurm
        provider = SlurmProvider(self.context(is_live=True, **slurm))
        self.closes.append(provider.close)
        return provider

    def scontrol(self, answer: str, *, status: int = 0) -> str:
        """A program in scontrol's place that notes each question; its path."""
        stream = ">&2" if status else ""
        text = f'#!/bin/sh\necho "$5" >> {self.root}/asked\ncat {self.root}/answer {stream}\n'
        write(self.root / "answer", answer)
        program = self.root / "scontrol"
        program.write_text(f"{text}exit {status}\n")
        program.chmod(0o755)
        return str(program)

    def asked(self) -> list[str]:
        """Which jobs scontrol was asked about."""
        noted = self.root / "asked"
        return noted.read_text().split() if noted.is_file() else []

    def close(self) -> None:
        """Stop what looks at it."""
        for close in self.closes:
            close()

    def _wake(self) -> None:
        self.woken += 1

    def _folder(self, path: str, controller: str = "") -> Path:
        return Path(f"{self.cgroup_root}/{controller}{path}")

    def _mounts(self) -> list[Path]:
        return [self.cgroup_root / mount for mount in ([""] if self.is_v2 else V1)]


def write(path: Path, text: str) -> None:
    """Write a file, and the folders that it needs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def only(runs: Sequence[Run]) -> Run:
    """The one run of an answer."""
    (run,) = runs
    return run


def known(provider: SlurmProvider, count: int = 1) -> Sequence[Run]:
    """The first answer that has so many runs."""
    found: list[Run] = []

    def has_all() -> bool:
        try:
            found[:] = provider.runs()
        except ProviderError:
            return False
        return len(found) == count

    wait_until(has_all)
    return found
