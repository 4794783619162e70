"""The agent's settings: every key, its default and its bounds.

The classes are what the agent works with; `load_settings` fills them from the file and
the environment and reports every fault at once.
"""

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.config import (
    Reader,
    ask_cgroup_root,
    ask_jobs_dir,
    check_path,
    find_config,
    read_config,
)
from agent.errors import SettingsError
from agent.sections.ascend import AscendSettings, ask_ascend
from agent.sections.docker import DockerSettings, ask_docker
from agent.sections.kubernetes import KubernetesSettings, ask_kubernetes
from agent.sections.metrics import MetricsSettings, ask_metrics
from agent.sections.nvidia import NvidiaSettings, ask_nvidia
from agent.sections.process import ProcessSettings, ask_process
from agent.sections.slurm import SlurmSettings, ask_slurm
from agent.sections.storage import StorageSettings, ask_storage
from agent.sections.systemd import SystemdSettings, ask_systemd
from agent.sections.uplink import UplinkSettings, ask_uplink

LOG_LEVELS = ("debug", "info", "warning", "error")
PROVIDER_NAMES = ("kubernetes", "slurm", "docker", "systemd", "files", "process")
"""All job providers, the most trusted first: what two of them claim, the first one has."""
DEFAULT_PROVIDERS = ("kubernetes", "slurm", "docker", "systemd", "files")
"""All that take nobody's word; each finds nothing where its scheduler is not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSettings:
    """Who this node is. `address` None = found from the routes."""

    name: str
    cluster: str
    address: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopSettings:
    """Where the agent keeps its state, and how it samples."""

    state_dir: Path
    sample_interval_seconds: int
    max_hold_seconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JobsSettings:
    """Where jobs are looked for."""

    dir: Path
    providers: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CgroupSettings:
    """Where the cgroup file systems are mounted."""

    root: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolSettings:
    """How the durable queue is cut, and how long acknowledged frames stay."""

    segment_bytes: int
    retention_hours: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """What is logged."""

    level: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSettings:
    """Everything that can be configured, by section.

    `source` says where it came from; `root` is set by `inspect --root` alone.
    """

    node: NodeSettings
    agent: LoopSettings
    uplink: UplinkSettings
    jobs: JobsSettings
    cgroup: CgroupSettings
    spool: SpoolSettings
    log: LogSettings
    slurm: SlurmSettings
    kubernetes: KubernetesSettings
    docker: DockerSettings
    systemd: SystemdSettings
    process: ProcessSettings
    nvidia: NvidiaSettings
    ascend: AscendSettings
    storage: StorageSettings
    metrics: MetricsSettings
    source: str = "defaults"
    root: str = ""

    def at(self, path: str) -> str:
        """Where an absolute path of the node is to be found: in a saved tree below `root`."""
        return self.root + path


def load_settings(explicit: str | None, environ: Mapping[str, str]) -> AgentSettings:
    """Read the configuration that `find_config` chooses.

    Raises:
        SettingsError: with every fault of the file and of the environment.
    """
    path = find_config(explicit, environ)
    source = path or "no file; defaults and environment"
    reader = Reader(read_config(path), environ)
    settings = build_settings(reader, source)
    if problems := reader.problems():
        raise SettingsError(problems, source)
    return settings


def build_settings(reader: Reader, source: str) -> AgentSettings:
    """Ask `reader` for every key; a faulty one gets its default and a place in the report."""
    loop = _loop(reader)
    return AgentSettings(
        node=_node(reader),
        agent=loop,
        uplink=ask_uplink(reader, loop.state_dir),
        jobs=JobsSettings(
            dir=Path(ask_jobs_dir(reader)),
            providers=reader.names("jobs", "providers", DEFAULT_PROVIDERS, PROVIDER_NAMES),
        ),
        cgroup=CgroupSettings(root=Path(ask_cgroup_root(reader))),
        spool=SpoolSettings(
            segment_bytes=reader.whole(
                "spool", "segment_bytes", 8 << 20, least=64 << 10, most=1 << 30
            ),
            retention_hours=reader.whole("spool", "retention_hours", 24, least=0, most=8784),
        ),
        log=LogSettings(level=reader.text("log", "level", "info", _level)),
        slurm=ask_slurm(reader),
        kubernetes=ask_kubernetes(reader),
        docker=ask_docker(reader),
        systemd=ask_systemd(reader),
        process=ask_process(reader),
        nvidia=ask_nvidia(reader),
        ascend=ask_ascend(reader),
        storage=ask_storage(reader),
        metrics=ask_metrics(reader),
        source=source,
    )


def _node(reader: Reader) -> NodeSettings:
    """Take [node]; the name defaults to the host's."""
    hostname = os.uname().nodename
    return NodeSettings(
        name=reader.text("node", "name", hostname, _name),
        cluster=reader.text("node", "cluster", "default", _name),
        address=reader.text("node", "address", "", _address) or None,
    )


def _loop(reader: Reader) -> LoopSettings:
    """Take [agent]; a reading must hold at least until the next one is due."""
    interval = reader.whole("agent", "sample_interval_seconds", 10, least=1, most=60)
    hold = reader.whole("agent", "max_hold_seconds", 60, least=1, most=600)
    if hold < interval:
        reader.complain(
            f"[agent] max_hold_seconds: must be at least sample_interval_seconds ({interval}), "
            f"not {hold}"
        )
    state_dir = reader.text("agent", "state_dir", "/var/lib/nodemeter-agent", check_path)
    return LoopSettings(
        state_dir=Path(state_dir), sample_interval_seconds=interval, max_hold_seconds=hold
    )


def _name(value: str) -> str | None:
    """Names travel to the database and to bills."""
    fits = 1 <= len(value) <= 256 and value.isprintable() and value == value.strip()
    return None if fits else "must be 1 to 256 printable characters"


def _address(value: str) -> str | None:
    """An address is shown in bills, never looked up; empty = found from the routes."""
    if not value:
        return None
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return "must be an IP address"
    return "must be an IP address without a zone" if "%" in value else None


def _level(value: str) -> str | None:
    """The levels that `logging` knows and we use."""
    return None if value in LOG_LEVELS else f"must be one of {', '.join(LOG_LEVELS)}"
