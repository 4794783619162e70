"""Makes many short jobs in real cgroups, and knows the truth about each."""

import os
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from agent.clock import SystemTime

NS_PER_MS = 1_000_000
CLOCK = SystemTime()


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """Between which instants, by the wall clock, the cgroup of a job was made and removed."""

    name: str
    made_ns: tuple[int, int]
    removed_ns: tuple[int, int]

    def error_ms(self, length_ms: float) -> float:
        """How far a length is from what can be true."""
        least_ms = (self.removed_ns[0] - self.made_ns[1]) / NS_PER_MS
        most_ms = (self.removed_ns[1] - self.made_ns[0]) / NS_PER_MS
        return max(0.0, least_ms - length_ms, length_ms - most_ms)


def run_jobs(slice_: Path, count: int, seconds: float, seed: int) -> list[Truth]:
    """Run `count` jobs of 50 ms to 2 s, their starts spread over `seconds`."""
    draw = random.Random(seed)
    plan = sorted(
        (draw.uniform(0, seconds), draw.uniform(0.05, 2.0), f"job-{at}.scope")
        for at in range(count)
    )
    begun = time.monotonic()
    with ThreadPoolExecutor(max_workers=64) as pool:
        futures: list[Future[Truth]] = []
        for starts_at, length, name in plan:
            time.sleep(max(0.0, begun + starts_at - time.monotonic()))
            futures.append(pool.submit(_run_job, slice_ / name, length))
        return [future.result() for future in futures]


def _run_job(cgroup: Path, seconds: float) -> Truth:
    before_ns = CLOCK.wall_ns()
    cgroup.mkdir()
    made_ns = before_ns, CLOCK.wall_ns()
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", _script(cgroup, seconds)], dict(os.environ))
    os.waitpid(pid, 0)
    while True:  # the last process is gone from it some microseconds after its parent knows
        before_ns = CLOCK.wall_ns()
        try:
            cgroup.rmdir()
        except OSError:
            time.sleep(0.001)
        else:
            removed_ns = before_ns, CLOCK.wall_ns()
            return Truth(name=cgroup.name, made_ns=made_ns, removed_ns=removed_ns)


def _script(cgroup: Path, seconds: float) -> str:
    """Burn some milliseconds and sleep the rest, so that two cores bear many jobs at once."""
    burn = "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); done"
    return f"echo $$ > {cgroup}/cgroup.procs; {burn}; exec sleep {seconds:.3f}"


CANARY = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(print(f"{worst * 1000:.1f}")))
worst = 0.0
while True:
    before = time.monotonic()
    time.sleep(0.002)
    worst = max(worst, time.monotonic() - before - 0.002)
"""


class Canary:
    """A process that does nothing but wake up: how long the machine itself kept it waiting.

    The peer of the agent's errors in the same run; it is as urgent as the agent.
    """

    def __init__(self, nice: Sequence[str]) -> None:
        """Begin."""
        command = [*nice, sys.executable, "-S", "-c", CANARY]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def worst_ms(self) -> float:
        """End, and tell the longest wait."""
        self._process.terminate()
        return float(self._process.communicate()[0])
