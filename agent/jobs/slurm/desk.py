"""Whom a job asks about itself: made once from the settings, shared by all jobs."""

from dataclasses import dataclass
from pathlib import Path

from agent.cgroups import Hierarchies
from agent.context import Context
from agent.jobs.found import Starts
from agent.jobs.slurm.gpus import GpuNames
from agent.jobs.slurm.job import Words
from agent.jobs.slurm.lookout import Lookout
from agent.jobs.slurm.quotas import Quotas
from agent.jobs.slurm.registry import Registry, account_name, names_in
from agent.jobs.slurm.sighting import Looker
from agent.procfs import number_after
from agent.sections.slurm import SlurmSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """See the module. `asks_always` = Slurm, also where nothing is missing."""

    lookout: Lookout
    registry: Registry
    quotas: Quotas
    words: Words
    starts: Starts
    asks_always: bool
    is_live: bool


def make_desk(context: Context, hierarchies: Hierarchies) -> Desk:
    """Make everything that the settings describe; nothing runs before it is needed."""
    settings, at = context.settings.slurm, context.settings.at
    quotas = Quotas(
        v1_root=str(context.settings.cgroup.root),
        v2_root=hierarchies.v2,
        total_kib=_total_kib(Path(at("/proc/meminfo"))),
    )
    folders = [at(folder) for folder in settings.gpu_files]
    looker = Looker(at("/proc"), quotas, folders, context.now_ms)
    asks = context.is_live and settings.ask_scontrol != "never"
    registry = Registry(
        names_in(Path(at("/etc/passwd"))) if context.settings.root else account_name,
        settings.scontrol if asks else None,
        now_ms=context.now_ms,
        told=context.wake,
        is_live=context.is_live,
    )
    return Desk(
        lookout=Lookout(looker.look, told=context.wake, is_live=context.is_live),
        registry=registry,
        quotas=quotas,
        words=_words(settings),
        starts=Starts(context.cgroups, context.now_ms),
        asks_always=asks and settings.ask_scontrol == "always",
        is_live=context.is_live,
    )


def _words(settings: SlurmSettings) -> Words:
    gpus = GpuNames(
        listed=settings.gpu_devices,
        is_minor=settings.gpu_index == "minor",
        shards=settings.shards_per_gpu,
        mps=settings.mps_per_gpu,
    )
    return Words(vc_from=settings.vc_from, vc_names=settings.vc_names, gpus=gpus)


def _total_kib(meminfo: Path) -> int:
    """The node's memory; 0 = it does not say."""
    try:
        return number_after(meminfo.read_bytes(), b"MemTotal:") or 0
    except (OSError, ValueError, IndexError):
        return 0
