"""One job on this node: what is known of it, when that is enough, and the run it makes."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from agent.cgroupwatch import FoundCgroup
from agent.jobs.found import final_readings, run_key
from agent.jobs.slurm.facts import Facts, Gpu
from agent.jobs.slurm.gpus import GpuNames
from agent.jobs.slurm.quotas import Limits, Quotas
from agent.jobs.slurm.sighting import Sighting, Subject
from agent.jobs.terms import bill_text
from agent.model import ResourceType, Run, RunKey

_NOTHING = Facts()


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """How this cluster says things: virtual clusters and devices."""

    vc_from: str
    vc_names: Mapping[str, str]
    gpus: GpuNames

    def vc(self, account: str | None, partition: str | None) -> str:
        """The virtual cluster of a job; where it has no account its partition stands for it."""
        names = (account, partition) if self.vc_from == "account" else (partition, account)
        name = next(filter(None, names), "")
        return bill_text(self.vc_names.get(name, name), "default")


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the sources say of a job: its cgroup and processes, and Slurm where it was asked."""

    subject: Subject
    sighting: Sighting
    slurm: Facts | None = None

    @property
    def uid(self) -> int | None:
        """Whose job it is; what can be seen here counts more than what is told."""
        seen = self.sighting.uid
        return self.told.uid if seen is None else seen

    @property
    def told(self) -> Facts:
        """What Slurm told, unless it is about another user's job of that number."""
        seen, slurm = self.sighting.uid, self.slurm
        is_other = slurm is not None and None not in {seen, slurm.uid} and seen != slurm.uid
        return _NOTHING if slurm is None or is_other else slurm

    @property
    def number(self) -> str | None:
        """Its SLURM_JOB_ID."""
        place, environ = self.subject.place, self.sighting.environ or _NOTHING
        return place.job_id or self.sighting.job_id or environ.job_id or self.told.job_id

    @property
    def name_for_slurm(self) -> str:
        """What Slurm knows it by."""
        return self.number or self.subject.place.sluid or ""

    @property
    def node(self) -> str | None:
        """The name that Slurm has for this node."""
        environ = self.sighting.environ or _NOTHING
        return self.subject.place.node or environ.node

    def gpus(self) -> tuple[Gpu, ...]:
        """Prolog's word, which has uuids, then Slurm's, which knows parts, then the job's own."""
        noted, environ = self.sighting.noted, self.sighting.environ or _NOTHING
        told = self.told.gpus
        if noted is None:
            return (environ.gpus or ()) if told is None else told
        if told and len(told) == len(noted) and any(gpu.kind != "gpu" for gpu in told):
            pairs = zip(told, noted, strict=True)
            return tuple(gpu._replace(name=better.name) for gpu, better in pairs)
        return noted

    def is_doubtful(self, quotas: Quotas) -> bool:
        """Whether Slurm itself should be asked, since what was seen leaves something open."""
        environ = self.sighting.environ
        return (
            environ is None
            or environ.is_doubtful
            or quotas.is_doubtful(self.sighting.limits, environ)
        )

    def quotas(self, limits: Limits, quotas: Quotas) -> Mapping[ResourceType, int]:
        """What it was given."""
        told, environ = self.told, self.sighting.environ
        return {
            ResourceType.CPU: quotas.cpu_m(limits, told, environ),
            ResourceType.MEM: quotas.mem_kib(limits, told, environ),
        }


def make_run(
    known: Known,
    words: Words,
    *,
    username: str | None,
    started_at_ms: int,
    quotas: Mapping[ResourceType, int],
) -> Run:
    """Describe the job as a run that lives."""
    found = known.subject.found
    environ, told = known.sighting.environ or _NOTHING, known.told
    job_id = bill_text(known.name_for_slurm)
    account = told.account or environ.account
    partition = told.partition or environ.partition
    return Run(
        key=run_key("slurm", found),
        provider="slurm",
        job_id=job_id,
        job_name=bill_text(told.job_name or environ.job_name or "", job_id),
        username=None if username is None else bill_text(username) or None,
        vc=words.vc(account, partition),
        started_at_ms=started_at_ms,
        quotas=quotas,
        devices=words.gpus.shares(known.gpus()),
        cgroup=found.path,
    )


def end_run(run: Run, found: FoundCgroup, ended_at_ms: int) -> Run:
    """The same run, over."""
    return replace(run, ended_at_ms=ended_at_ms, final=final_readings(found))


def key_again(key: RunKey, born_at_ms: int) -> RunKey:
    """The key of a run in a cgroup whose earlier run was over."""
    return RunKey(f"{key}+{born_at_ms}"[:512])
