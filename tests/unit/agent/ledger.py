"""Plays a whole node, devices and all, and adds up what was told of it."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from agent.accounts import NodeAccounts
from agent.devices import Inventory
from agent.integrate import MINUTE_MS, UsageRecord
from agent.model import (
    DEVICE_UNITS,
    Device,
    DeviceShare,
    MeterKey,
    Reading,
    ReadingKind,
    ResourceType,
    Run,
    RunKey,
)
from agent.state import Moment
from tests.unit.agent.nodes import CPU, GPU, HOLD_MS, MEM, START_MS, Node, counter, level

CPU_M, MEM_KIB = 4_000, 1 << 20
DEVICES = ("GPU-a", "GPU-b")


@dataclass
class Job:
    """What a job holds and has used; `part` of each device."""

    name: str
    started_at_ms: int
    devices: tuple[str, ...]
    part: tuple[int, int, int]
    cpu_us: int = 0
    ended_at_ms: int | None = None


@dataclass
class PlayedNode:
    """A node with two GPUs whose jobs, clock and drivers do as they are told.

    All its time is agent time; `wall_ms` is what the daemon would see of a stepped clock.
    """

    node: Node = field(default_factory=Node)
    jobs: dict[str, Job] = field(default_factory=dict[str, Job])
    up: dict[str, bool] = field(default_factory=lambda: dict.fromkeys(DEVICES, True))
    system_us: int = 5_000_000  # CPU time that belongs to no job, since the boot
    gone_us: int = 0  # that of jobs that were not metered to their end
    passed_ms: int = 0  # time that the agent accounted for

    def __post_init__(self) -> None:
        """Begin the books."""
        accounts = NodeAccounts(position_ms=START_MS, seen_ms=START_MS)
        accounts.set_capacity(CPU, CPU_M)
        accounts.set_capacity(MEM, MEM_KIB)
        self.node.state.meters.accounts = accounts
        self._look()

    @property
    def accounts(self) -> NodeAccounts:
        """The books as they are now."""
        accounts = self.node.state.meters.accounts
        assert accounts is not None
        return accounts

    # What happens ------------------------------------------------------------------------

    def begin(
        self, name: str, devices: tuple[str, ...], part: tuple[int, int, int], late: int
    ) -> None:
        """A job starts; it is heard of `late` ms later."""
        if name not in self.jobs:
            opened_at_ms = max(one.opened_at_ms for one in self.accounts.devices.values())
            since_ms = max(self.node.now_ms - late, opened_at_ms)
            self.jobs[name] = Job(name, since_ms, devices, part)

    def finish(self, name: str, late: int) -> None:
        """A job has ended `late` ms ago."""
        job = self.jobs.get(name)
        if job and job.ended_at_ms is None:
            job.ended_at_ms = max(self.node.now_ms - late, job.started_at_ms)

    def resize(self, name: str, part: tuple[int, int, int]) -> None:
        """A job gets another part of its devices."""
        if (job := self.jobs.get(name)) and job.ended_at_ms is None:
            job.part = part

    def drive(self, device: str, is_up: bool) -> None:  # noqa: FBT001  drawn by hypothesis
        """A driver loses a device, or finds it again."""
        self.up[device] = is_up

    def tick(self, after_ms: int) -> None:
        """Time passes, everybody computes, and the agent looks."""
        self.node.now_ms += after_ms
        self.passed_ms += after_ms
        live = [job for job in self.jobs.values() if job.ended_at_ms is None]
        for share, job in enumerate(live, start=1):
            job.cpu_us += after_ms * CPU_M // (len(live) + share)
        self.system_us += after_ms * 7
        self._look()

    def restart(self) -> None:
        """The agent is killed and goes on from its checkpoint."""
        self.node.restart()

    def step(self, by_ms: int) -> None:
        """The wall clock is set, and the agent follows it."""
        self.node.state.settle_all(self.node.now_ms)
        self.node.tell(flush=True)
        self.accounts.settle(self.node.now_ms, HOLD_MS, flush=True)
        self.node.tell(flush=True)
        self.node.state.shift(by_ms)
        self.node.now_ms += by_ms
        for job in self.jobs.values():  # a provider's instants never move; ours are agent time
            job.started_at_ms += by_ms
            if job.ended_at_ms is not None:
                job.ended_at_ms += by_ms

    def reboot(self, off_ms: int) -> None:
        """The machine loses its jobs, is off for a while, and its counters begin again."""
        self.restart()
        self.node.now_ms += off_ms
        self.passed_ms += off_ms
        self.gone_us += self.system_us + sum(job.cpu_us for job in self.jobs.values())
        self.system_us = 0
        self.jobs.clear()
        self.node.state.reboot()
        self.accounts.reboot(self.node.now_ms, self.node.now_ms)
        self._look()

    def stop(self) -> None:
        """End all jobs, and tell everything up to now."""
        self.tick(10_000)
        for name in list(self.jobs):
            self.finish(name, 0)
        self._look()
        self.node.tell(flush=True)
        self.accounts.settle(self.node.now_ms, HOLD_MS, flush=True)
        self.node.tell(flush=True)

    # One look ----------------------------------------------------------------------------

    def _look(self) -> None:
        node, now_ms = self.node, self.node.now_ms
        devices = [
            Device(type=GPU, id=name, model="H200", is_up=is_up) for name, is_up in self.up.items()
        ]
        self.accounts.set_devices(devices, now_ms)
        runs = Inventory(devices).resolve([_run(job) for job in self.jobs.values()])
        moment = Moment(now_ms=now_ms, latest_ms=now_ms)
        known = set(node.state.reconcile("files", runs, moment))
        readings = self._readings()
        node.state.observe(now_ms, readings)
        node.state.conclude(now_ms, readings)
        node.state.settle(now_ms)
        cpu_us = self.system_us + sum(job.cpu_us for job in self.jobs.values())
        host: Mapping[ResourceType, Reading] = {CPU: counter(cpu_us), MEM: level(MEM_KIB // 2)}
        self.accounts.observe(now_ms, host, HOLD_MS, 0)
        self.accounts.settle(now_ms, HOLD_MS)
        node.tell()
        for job in [job for job in self.jobs.values() if _run(job).key in known]:
            self.system_us += job.cpu_us
            del self.jobs[job.name]

    def _readings(self) -> Mapping[MeterKey, Reading]:
        readings: dict[MeterKey, Reading] = {}
        for job in self.jobs.values():
            key = _run(job).key
            readings[MeterKey(key, CPU, None)] = counter(job.cpu_us)
            readings[MeterKey(key, MEM, None)] = level(1_000)
            for name in job.devices if job.ended_at_ms is None else ():
                if self.up[name]:
                    value = DEVICE_UNITS // 10
                    reading = Reading(kind=ReadingKind.AVERAGE, value=value)
                    readings[MeterKey(key, GPU, name)] = reading
        return readings


def _run(job: Job) -> Run:
    return Run(
        key=RunKey(f"files:{job.name}"),
        provider="files",
        job_id=job.name,
        job_name=job.name,
        started_at_ms=job.started_at_ms,
        ended_at_ms=job.ended_at_ms,
        quotas={CPU: 1_000, MEM: 1_024},
        devices=tuple(
            DeviceShare(type=GPU, id=name, model=None, part=job.part) for name in job.devices
        ),
        cgroup=f"/{job.name}",
        final={} if job.ended_at_ms is None else {CPU: counter(job.cpu_us)},
    )


Sums = Mapping[tuple[str, int], Mapping[str, int]]
"""By (device or type, minute): what each account gained there; "jobs" is all jobs together."""


def sums(told: Iterable[UsageRecord], node: Node, *, by_minute: bool = True) -> Sums:
    """Add up records the way a reader of the books does."""
    found: dict[tuple[str, int], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for record in told:
        meter = node.told.meters[record.meter]
        run = node.told.runs[meter.run]
        minute = record.start_ms - record.start_ms % MINUTE_MS if by_minute else 0
        account = run.kind if run.provider == "node" else "jobs"
        value = record.allocated if meter.HasField("device") else record.used
        found[meter.device or meter.type, minute][account] += value
    return found
