"""Puts the agent together from its settings, and runs it."""

import gc
import logging
import os
import resource
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from agent.cgroups import find_hierarchies
from agent.cgroupwatch import CgroupWatch
from agent.clock import AgentClock, SystemTime
from agent.context import Context
from agent.daemon import Daemon
from agent.errors import AgentError
from agent.jobs import PROVIDERS, JobProvider
from agent.notify import Notifier, Watcher
from agent.procfs import ProcFs
from agent.samplers import SAMPLERS, Sampler
from agent.samplers.host import HostCapacity, HostReader, find_address, read_capacity
from agent.sections.uplink import UplinkSettings
from agent.settings import AgentSettings
from agent.spool import Spool
from agent.uplink import Uplink
from agent.uplink.explain import Explainer
from agent.uplink.identity import Identity, read_machine_id
from agent.uplink.renewal import Renewal
from agent.uplink.tls import TlsFiles

log = logging.getLogger(__name__)

_MS_PER_HOUR = 3_600_000
_JOBS_MODE_OF_ROOT = 0o1777
"""Everybody may hand in jobs, and nobody touch another one's."""


def meter_node(settings: AgentSettings) -> None:
    """Meter this node until SIGTERM or SIGINT.

    Raises:
        AgentError: it cannot begin, or its disk failed.
    """
    _raise_descriptor_limit()
    _make_jobs_directory(settings.jobs.dir)
    time, capacity = SystemTime(), read_capacity()
    clock = AgentClock(time)
    spool = Spool(
        settings.agent.state_dir / "spool",
        segment_bytes=settings.spool.segment_bytes,
        retention_ms=settings.spool.retention_hours * _MS_PER_HOUR,
    )
    identity = _identify(settings, time.boot_id, capacity)
    tls = tls_files(settings.uplink)
    explainer = Explainer(settings.uplink.target, tls)
    uplink = Uplink(
        settings.uplink.target,
        identity,
        spool,
        tls=tls,
        explain=explainer.explain,
    )
    renewal = _renewal(settings.uplink, uplink)
    bell = Bell()
    procfs = ProcFs()
    hierarchies = find_hierarchies(str(settings.cgroup.root))
    cgroups = CgroupWatch(hierarchies, now_ms=clock.now_ms, told=bell.ring, procfs=procfs)
    context = Context(settings=settings, now_ms=clock.now_ms, cgroups=cgroups, wake=bell.ring)
    daemon = Daemon(
        settings=settings,
        clock=clock,
        providers=open_providers(context),
        samplers=open_samplers(context),
        spool=spool,
        uplink=uplink,
        notifier=Notifier(os.environ),
        watcher=Watcher(),
        cpu_model=capacity.cpu_model,
        host=HostReader(hierarchies, "/proc", capacity),
        machine_id=identity.machine_id,
    )
    uplink.on_stream_lost = daemon.wake
    bell.on_ring = daemon.note_event
    _tell(settings, identity)
    # What is loaded now stays: looking through it for garbage would stop the thread that
    # stamps the events for tens of milliseconds, again and again.
    gc.collect()
    gc.freeze()
    cgroups.start()
    if renewal:
        renewal.start()
    try:
        daemon.run()
    finally:
        cgroups.close()
        if renewal:
            renewal.close()


def tls_files(settings: UplinkSettings) -> TlsFiles | None:
    """What TLS takes; None = plain text."""
    if settings.tls_ca is None:
        return None
    return TlsFiles(
        ca=settings.tls_ca,
        certificate=settings.tls_cert,
        key=settings.tls_key,
        server_name=settings.server_name,
    )


def _renewal(settings: UplinkSettings, uplink: Uplink) -> Renewal | None:
    """What keeps the certificate valid, if that is ours to do: key and certificate in one file."""
    node = settings.tls_cert
    if settings.tls_ca is None or node is None or settings.tls_key != node:
        return None
    return Renewal(
        target=settings.target,
        ca=settings.tls_ca,
        node=node,
        server_name=settings.server_name,
        on_renewed=uplink.reconnect,
    )


class Bell:
    """Rings for whom is not there yet: providers are made before the daemon."""

    def __init__(self) -> None:
        """Nobody hears it yet."""
        self.on_ring: Callable[[], None] | None = None

    def ring(self) -> None:
        """Something happened; from any thread."""
        if self.on_ring is not None:
            self.on_ring()


def open_providers(context: Context) -> Sequence[JobProvider]:
    """Make the providers that the settings name, the most trusted first."""
    wanted = context.settings.jobs.providers
    return [make(context) for name, make in PROVIDERS.items() if name in wanted]


def open_samplers(context: Context) -> Sequence[Sampler]:
    """Make every sampler that finds something to sample on this node."""
    return [sampler for make in SAMPLERS.values() if (sampler := make(context))]


def _identify(settings: AgentSettings, boot_id: str, capacity: HostCapacity) -> Identity:
    return Identity(
        node=settings.node.name,
        cluster=settings.node.cluster,
        address=settings.node.address or find_address(settings.uplink.target),
        boot_id=boot_id,
        machine_id=read_machine_id(),
        agent_version=version("nodemeter"),
        cpu_m=capacity.cpu_m,
        mem_kib=capacity.mem_kib,
        cpu_model=capacity.cpu_model,
    )


def _raise_descriptor_limit() -> None:
    """Every job keeps up to five files open; what the system allows us is ours to use."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _make_jobs_directory(directory: Path) -> None:
    """Make it where the system's own set-up has not.

    Raises:
        AgentError: it is missing and cannot be made.
    """
    if directory.is_dir():
        return
    try:
        directory.mkdir(parents=True)
        if os.geteuid() == 0:
            directory.chmod(_JOBS_MODE_OF_ROOT)
    except OSError as error:
        raise AgentError(
            f"the jobs directory {directory} cannot be made ({error.strerror}); make it, or "
            "name another one as [jobs] dir"
        ) from error


def _tell(settings: AgentSettings, identity: Identity) -> None:
    log.info(
        "the agent meters this node",
        extra={
            "action": "start",
            "node": identity.node,
            "address": identity.address,
            "target": settings.uplink.target,
            "jobs": str(settings.jobs.dir),
            "configuration": settings.source,
        },
    )
