"""Looks at a node once, the way the daemon does at every tick."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from agent.cgroups import find_hierarchies
from agent.cgroupwatch import CgroupWatch
from agent.clock import SystemTime, TimeSource
from agent.context import Context
from agent.daemon.counters import DaemonCounters
from agent.daemon.sources import Source, Sources
from agent.devices import Inventory
from agent.errors import AgentError
from agent.inspection.tree import check_tree
from agent.jobs import PROVIDERS, JobProvider
from agent.jobs.terms import Problem
from agent.model import Device, MeterKey, Reading, Run, RunKey
from agent.procfs import ProcFs
from agent.samplers import SAMPLERS, Sampler, TroubledSampler
from agent.samplers.host import HostCapacity, read_capacity
from agent.settings import AgentSettings

_NS_PER_MS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceReport:
    """A provider or sampler: what it gave, since when, and what is wrong with it."""

    name: str
    count: int  # runs; a sampler has none
    age_ms: int | None  # of its last complete answer; None = it has none
    failure: str | None
    problems: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything that `inspect` shows. Instants are ms since 1970-01-01T00:00Z."""

    node: str
    source: str  # of the configuration
    root: str  # "" = this machine
    now_ms: int
    capacity: HostCapacity
    providers: Sequence[SourceReport]
    samplers: Sequence[SourceReport]
    devices: Sequence[Device]
    runs: Sequence[Run]
    readings: Mapping[MeterKey, Reading]
    refused: Mapping[RunKey, str]


class TreeTime:
    """The clocks of a saved tree: they stand still at the instant when it was saved."""

    def __init__(self, root: str) -> None:
        """Read them from `root`; a tree without /proc/uptime was saved now."""
        uptime = Path(f"{root}/proc/uptime")
        self._uptime_ns = ProcFs(f"{root}/proc").uptime_ms() * _NS_PER_MS
        self._wall_ns = uptime.stat().st_mtime_ns if uptime.exists() else SystemTime().wall_ns()

    boot_id = ""

    def wall_ns(self) -> int:
        """See `TimeSource`."""
        return self._wall_ns

    def boottime_ns(self) -> int:
        """See `TimeSource`."""
        return self._uptime_ns

    def monotonic_ns(self) -> int:
        """See `TimeSource`."""
        return self._uptime_ns


def look_at_node(settings: AgentSettings, root: str = "") -> Report:
    """Look at this node, or at the saved tree below `root`.

    Raises:
        AgentError: it is no node: /proc cannot be read, or the tree holds more than files.
    """
    if root:
        check_tree(root)
    settings = _below(settings, root) if root else settings
    time: TimeSource = TreeTime(root) if root else SystemTime()
    context = _context(settings, time)
    capacity = read_capacity(Path(settings.at("/proc")))
    failures: dict[str, str] = {}
    providers = _open_providers(context, failures)
    samplers = _open_samplers(context, failures)
    procfs = ProcFs(settings.at("/proc"))
    sources = Sources(
        providers, samplers, DaemonCounters(), now_ms=context.now_ms, procfs=procfs, patience_ms=0
    )
    answers = sources.runs()
    runs = [run for said in answers.values() for run in said or () if run.ended_at_ms is None]
    readings = sources.readings(runs)
    found = {
        one.name: (len(answers[one.name] or ()), [_problem(each) for each in one.problems()])
        for one in providers
    }
    read: dict[str, tuple[int, Sequence[str]]] = {one.name: (0, _troubles(one)) for one in samplers}
    now_ms = context.now_ms()
    return Report(
        node=settings.node.name,
        source=settings.source,
        root=root,
        now_ms=now_ms,
        capacity=capacity,
        providers=[
            *_reports("provider", found, sources, now_ms),
            *_failed("provider", failures),
        ],
        samplers=[*_reports("sampler", read, sources, now_ms), *_failed("sampler", failures)],
        devices=_devices_of(sources.inventory),
        runs=runs,
        readings=readings,
        refused=sources.refused,
    )


def _troubles(sampler: Sampler) -> Sequence[str]:
    if not isinstance(sampler, TroubledSampler):
        return ()
    return [f"{run}: {reason}" for run, reason in sampler.problems().items()]


def _problem(problem: Problem) -> str:
    return f"{problem.source}: {problem.message}"


def _below(settings: AgentSettings, root: str) -> AgentSettings:
    """Put every path of the node below `root`."""
    return replace(
        settings,
        root=root,
        cgroup=replace(settings.cgroup, root=Path(f"{root}{settings.cgroup.root}")),
        jobs=replace(settings.jobs, dir=Path(f"{root}{settings.jobs.dir}")),
    )


def _context(settings: AgentSettings, time: TimeSource) -> Context:
    def now_ms() -> int:
        return time.wall_ns() // _NS_PER_MS

    watch = CgroupWatch(
        find_hierarchies(str(settings.cgroup.root)),
        now_ms=now_ms,
        told=_nobody_waits,
        procfs=ProcFs(settings.at("/proc")),
    )
    is_live = not settings.root
    return Context(
        settings=settings,
        now_ms=now_ms,
        cgroups=watch,
        wake=_nobody_waits,
        is_live=is_live,
        time=time,
    )


def _nobody_waits() -> None:
    """There is one look, and nobody to wake for another."""


def _open_providers(context: Context, failures: dict[str, str]) -> list[JobProvider]:
    """Make those that the settings name; who cannot even be made is a failure to show."""
    opened: list[JobProvider] = []
    for name, make in PROVIDERS.items():
        if name in context.settings.jobs.providers:
            try:
                opened.append(make(context))
            except (AgentError, OSError) as error:
                failures[f"provider {name}"] = str(error)
    return opened


def _open_samplers(context: Context, failures: dict[str, str]) -> list[Sampler]:
    opened: list[Sampler] = []
    for name, make in SAMPLERS.items():
        try:
            sampler = make(context)
        except (AgentError, OSError) as error:
            failures[f"sampler {name}"] = str(error)
        else:
            opened += [sampler] if sampler else []
    return opened


def _reports(
    kind: str, counts: Mapping[str, tuple[int, Sequence[str]]], sources: Sources, now_ms: int
) -> list[SourceReport]:
    reports: list[SourceReport] = []
    for name, (count, problems) in counts.items():
        status = sources.status.get(f"{kind} {name}", Source())
        since_ms = status.answered_at_ms
        reports.append(
            SourceReport(
                name=name,
                count=count,
                age_ms=None if since_ms is None else max(0, now_ms - since_ms),
                failure=status.failure,
                problems=problems,
            )
        )
    return reports


def _failed(kind: str, failures: Mapping[str, str]) -> list[SourceReport]:
    return [
        SourceReport(name=who.partition(" ")[2], count=0, age_ms=None, failure=reason, problems=())
        for who, reason in failures.items()
        if who.startswith(kind)
    ]


def _devices_of(inventory: Inventory) -> Sequence[Device]:
    """Each device before its slices."""
    return sorted(
        inventory.devices.values(),
        key=lambda device: (device.type, device.physical, device.parent is not None, device.id),
    )
