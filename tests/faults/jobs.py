"""Jobs for a real agent: files in its jobs directory and cgroups of plain files.

What a job held and used is known when it is over, to the millisecond and microsecond:
its file says when it began and ended, and its cgroup's counter stood where it was left.
The seed decides what the jobs are like; when they begin is the wall clock's.
"""

import json
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

from tests.faults.truth import Amount, Truth

_TICK_SECONDS = 0.1
_KIB_PER_MI = 1024
_MS = timedelta(milliseconds=1)


@dataclass(kw_only=True)
class LiveJob:
    """A job that runs."""

    job_id: str
    cpu_m: int
    mem_mi: int
    started_at: datetime
    ends_at: datetime
    pace: int  # microseconds of CPU per tick
    cpu_usec: int = 0
    cgroup: str | None = None


class Cgroups:
    """A tree like a cgroup2 mount, of plain files that are written in place."""

    def __init__(self, root: Path) -> None:
        """Make the root."""
        self.root = root
        root.mkdir(parents=True)
        (root / "cgroup.controllers").write_text("cpu memory\n")

    def make(self, path: str) -> None:
        """Make a cgroup that holds a process and has used nothing."""
        folder = Path(f"{self.root}{path}")
        folder.mkdir(parents=True)
        (folder / "cgroup.procs").write_text("")
        (folder / "memory.current").write_text(f"{64 << 20:020d}\n")
        (folder / "memory.stat").write_text("anon 1\ninactive_file 0\n")
        self.count(path, 0)
        (folder / "cgroup.events").write_text("populated 1\nfrozen 0\n")

    def count(self, path: str, cpu_usec: int) -> None:
        """Let its counter stand there; a reader sees the old figure or this one."""
        data = f"usage_usec {cpu_usec:020d}\n".encode()
        fd = os.open(f"{self.root}{path}/cpu.stat", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            os.pwrite(fd, data, 0)
        finally:
            os.close(fd)

    def remove(self, path: str) -> None:
        """Remove it, as a reboot does."""
        folder = Path(f"{self.root}{path}")
        folder.rename(folder.with_name(f".{folder.name}.{os.urandom(4).hex()}"))

    def empty(self, path: str) -> None:
        """Let its last process be gone."""
        (Path(f"{self.root}{path}") / "cgroup.events").write_text("populated 0\nfrozen 0\n")


@dataclass(kw_only=True)
class Workload:
    """Starts and ends jobs until told to stop; `truth` grows with each that is over."""

    node: str
    seed: int
    jobs_dir: Path
    cgroups: Cgroups
    clock: Callable[[], datetime]
    jobs_per_second: float = 2.0
    truth: Truth = field(default_factory=Truth)

    def __post_init__(self) -> None:
        self._random = Random(f"{self.seed}/{self.node}")
        self._live: list[LiveJob] = []
        self._count = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._play, name=f"jobs of {self.node}", daemon=True)
        self.jobs_dir.mkdir(parents=True, exist_ok=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End every job that lives, and begin no other; idempotent."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        now = self._now()
        for job in self._live:
            self.end(job, now)
        self._live.clear()

    def begin(self) -> LiveJob:
        """Begin a job of one to eight seconds, in a cgroup of its own."""
        random = self._random
        self._count += 1
        now = self._now()
        job = LiveJob(
            job_id=f"{self.node}-{self._count}",
            cpu_m=random.randrange(16_000),
            mem_mi=random.randrange(65_536),
            started_at=now,
            ends_at=now + random.randint(300, 8_000) * _MS,
            pace=random.randrange(400_000),
        )
        job.cgroup = f"/faults/{job.job_id}"
        self.cgroups.make(job.cgroup)
        self._write(job)
        return job

    def begin_again(self, job: LiveJob) -> LiveJob:
        """Begin another run of an ended job's id, in a new cgroup of the same name."""
        assert job.cgroup is not None
        self.cgroups.remove(job.cgroup)
        self.cgroups.make(job.cgroup)
        again = replace(job, started_at=self._now(), cpu_usec=0)
        self._write(again)
        return again

    def end(self, job: LiveJob, at: datetime) -> None:
        """End it there: its file says so, and the truth."""
        if job.cgroup is not None:
            self.cgroups.count(job.cgroup, job.cpu_usec)
            self.cgroups.empty(job.cgroup)
        self._write(job, ended_at=at)
        length_ms = (at - job.started_at) // _MS
        mem_kib = job.mem_mi * _KIB_PER_MI
        self.truth.add(job.job_id, "cpu", Amount(job.cpu_m * length_ms, job.cpu_usec))
        self.truth.add(job.job_id, "mem", Amount(mem_kib * length_ms))

    def whole(self) -> None:
        """A job that nobody saw: its file comes when it is over."""
        self._count += 1
        now = self._now()
        job = LiveJob(
            job_id=f"{self.node}-{self._count}",
            cpu_m=self._random.randrange(16_000),
            mem_mi=0,
            started_at=now - self._random.randrange(1, 90_000) * _MS,
            ends_at=now,
            pace=0,
            cpu_usec=self._random.randrange(10_000_000),
        )
        self.end(job, now)

    def _play(self) -> None:
        while not self._stopping.wait(_TICK_SECONDS):
            now = self._now()
            for job in [job for job in self._live if job.ends_at <= now]:
                self.end(job, now)
                self._live.remove(job)
            for job in self._live:
                job.cpu_usec += job.pace
                assert job.cgroup is not None
                self.cgroups.count(job.cgroup, job.cpu_usec)
            if self._random.random() < self.jobs_per_second * _TICK_SECONDS:
                if self._random.random() < 0.5:
                    self.whole()
                else:
                    self._live.append(self.begin())

    def _now(self) -> datetime:
        now = self.clock().astimezone(UTC)
        return now.replace(microsecond=now.microsecond // 1000 * 1000)

    def _write(self, job: LiveJob, *, ended_at: datetime | None = None) -> None:
        """Write the job's file whole, as a scheduler's hook does."""
        document: dict[str, object] = {
            "job_id": job.job_id,
            "username": "alice",
            "cpu_m": job.cpu_m,
            "mem_mi": job.mem_mi,
            "started_at": job.started_at.isoformat(),
        }
        if job.cgroup is not None:
            document["cgroup"] = job.cgroup
        if ended_at is not None:
            document |= {"ended_at": ended_at.isoformat(), "cpu_usec": job.cpu_usec}
        new = self.jobs_dir / f".{job.job_id}.new"
        new.write_text(json.dumps(document))
        new.rename(self.jobs_dir / f"{job.job_id}.json")
