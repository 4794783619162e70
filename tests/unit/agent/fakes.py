"""Fakes at the agent's ports: time, job providers, samplers."""

import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.errors import ProviderError, SamplerError
from agent.jobs.terms import Problem
from agent.model import Device, MeterKey, Reading, ReadingKind, ResourceType, Run, RunKey

MS = 1_000_000


@dataclass
class FakeTime:
    """Clocks that move only when told to, each by itself."""

    boot_id: str = "boot-1"
    wall: int = 1_700_000_040_000 * MS  # a whole minute
    boottime: int = 1_000_000 * MS
    monotonic: int = 1_000_000 * MS

    def wall_ns(self) -> int:
        """See `TimeSource`."""
        return self.wall

    def boottime_ns(self) -> int:
        """See `TimeSource`."""
        return self.boottime

    def monotonic_ns(self) -> int:
        """See `TimeSource`."""
        return self.monotonic

    def pass_ms(self, elapsed: int) -> None:
        """Let time pass for all clocks."""
        self.wall += elapsed * MS
        self.boottime += elapsed * MS
        self.monotonic += elapsed * MS

    def suspend_ms(self, elapsed: int) -> None:
        """Let time pass while the machine sleeps."""
        self.wall += elapsed * MS
        self.boottime += elapsed * MS

    def step_ms(self, by: int) -> None:
        """Set the wall clock."""
        self.wall += by * MS

    def reboot(self, boot_id: str) -> None:
        """Start a new boot at the wall clock as it stands."""
        self.boot_id = boot_id
        self.boottime = self.monotonic = 5_000 * MS


class FakeProvider:
    """Names the runs that it is told to, and remembers whose end is durable."""

    def __init__(self, name: str = "files", watched: Path | None = None) -> None:
        self._name = name
        self._watched = watched
        self.living: dict[str, Run] = {}
        self.to_come: list[str] = []
        self.fails = False
        self.error: Exception | None = None
        self.done: list[RunKey] = []
        self.asked = threading.Condition()
        self.times_asked = 0

    @property
    def name(self) -> str:
        """See `JobProvider`."""
        return self._name

    def runs(self) -> Sequence[Run]:
        """See `JobProvider`."""
        with self.asked:
            self.times_asked += 1
            self.asked.notify_all()
        if self.fails:
            raise ProviderError("the scheduler does not answer")
        if self.error:
            raise self.error
        return list(self.living.values())

    def awaited(self) -> Collection[str]:
        """See `AwaitingProvider`."""
        return self.to_come

    def watch_paths(self) -> Sequence[Path]:
        """See `JobProvider`."""
        return [self._watched] if self._watched else []

    def settled(self, keys: Collection[RunKey]) -> None:
        """See `JobProvider`."""
        self.done += keys
        for key in keys:
            self.living.pop(key, None)

    def problems(self) -> Sequence[Problem]:
        """See `JobProvider`."""
        return []

    def has(self, *runs: Run) -> None:
        """Name exactly these from now on."""
        self.living = {run.key: run for run in runs}


class FakeSampler:
    """Gives the readings that it was told, of runs that it is asked for."""

    name = "fake"

    def __init__(self) -> None:
        self.cpu: dict[RunKey, int] = {}
        self.mem: dict[RunKey, int] = {}
        self.fails = False
        self.sampled: list[list[str]] = []
        self.forgotten: list[RunKey] = []

    def sample(self, runs: Sequence[Run]) -> Mapping[MeterKey, Reading]:
        """See `Sampler`."""
        self.sampled.append([run.job_id for run in runs])
        if self.fails:
            raise SamplerError("the driver does not answer")
        readings: dict[MeterKey, Reading] = {}
        for run in runs:
            if run.key in self.cpu:
                value = Reading(kind=ReadingKind.COUNTER, value=self.cpu[run.key])
                readings[MeterKey(run.key, ResourceType.CPU, None)] = value
            if run.key in self.mem:
                value = Reading(kind=ReadingKind.LEVEL, value=self.mem[run.key])
                readings[MeterKey(run.key, ResourceType.MEM, None)] = value
        return readings

    def forget(self, keys: Collection[RunKey]) -> None:
        """See `Sampler`."""
        self.forgotten += keys


class FakeLink:
    """An uplink that goes nowhere."""

    def __init__(self) -> None:
        self.lost_stream: str | None = None
        self.calls: list[str] = []
        self.devices: list[Device] = []

    def set_devices(self, devices: Sequence[Device]) -> None:
        """See `Uplink`."""
        self.devices = list(devices)

    def start(self) -> None:
        """See `Uplink`."""
        self.calls.append("start")

    def wake(self) -> None:
        """See `Uplink`."""
        self.calls.append("wake")

    def resume(self) -> None:
        """See `Uplink`."""
        self.lost_stream = None
        self.calls.append("resume")

    def stop(self, drain_seconds: float) -> bool:
        """See `Uplink`."""
        self.calls.append(f"stop {drain_seconds:g}")
        return True
