"""The `kubernetes` provider: the pods of this node, each metered as a whole.

- The cgroups of pods decide who lives (`paths`, `cgroups`); a pod's cgroup is one run, so
  restarted containers, sandboxes and init containers are all in it.
- The kubelet says who they are: its list of pods over HTTPS (`kubelet`, `pods`) whose they
  are and what they have requested, its pod-resources API on a Unix socket (`podresources`)
  which devices they hold. Both are asked in the background, and at once for a new cgroup.
- What was learnt of a pod stays until better is told. Without the pod-resources API there
  is no answer, and the last one stands; without the list of pods, or the right to see it,
  pods are metered by their cgroups, and `problems` says what is missing.
- A pod that was removed and made again under its name is another run, with other devices.
"""

import os
from collections.abc import Callable

from agent.cgroups import find_hierarchies
from agent.clock import SystemTime
from agent.context import Context
from agent.jobs.found import Starts
from agent.jobs.kubernetes.cgroups import PodCgroups
from agent.jobs.kubernetes.devices import Kinds
from agent.jobs.kubernetes.identity import IdentityRules
from agent.jobs.kubernetes.kubelet import Kubelet, KubeletAddress
from agent.jobs.kubernetes.podlogs import LOGS, pod_names
from agent.jobs.kubernetes.podresources import PodResources
from agent.jobs.kubernetes.pods import PodRules
from agent.jobs.kubernetes.provider import KubernetesProvider
from agent.jobs.kubernetes.sources import KubeletSource, NoSource, Source
from agent.jobs.limits import LimitReader
from agent.procfs import ProcFs
from agent.sections.kubernetes import KubernetesSettings

__all__ = ["KubernetesProvider", "open_kubernetes_provider"]


def open_kubernetes_provider(context: Context) -> KubernetesProvider:
    """Make the provider that the settings describe."""
    settings, time = context.settings, SystemTime()
    procfs = ProcFs(settings.at("/proc"))

    def make_source(told: Callable[[], None]) -> Source:
        return _open_source(context, told) if context.is_live else NoSource()

    return KubernetesProvider(
        PodCgroups(context.cgroups, settings.kubernetes.cgroup_roots),
        make_source,
        names=lambda: pod_names(settings.at(LOGS)),
        limits=LimitReader(find_hierarchies(str(settings.cgroup.root))),
        starts=Starts(context.cgroups, context.now_ms),
        boot_ms=lambda: context.now_ms() - procfs.uptime_ms(),
        monotonic_ns=time.monotonic_ns,
        wake=context.wake,
        addon_namespaces=settings.kubernetes.addon_namespaces,
    )


def _open_source(context: Context, told: Callable[[], None]) -> KubeletSource:
    settings = context.settings.kubernetes
    kinds = Kinds(settings.gpu_resources, settings.npu_resources)
    socket = f"{settings.kubelet_dir}/pod-resources/kubelet.sock"
    return KubeletSource(
        PodResources(socket, kinds, now_ms=context.now_ms),
        Kubelet(_address(settings)),
        PodRules(identity=_rules(settings), kinds=kinds, has_storage=settings.storage_quota),
        refresh_seconds=settings.refresh_seconds,
        now_ms=context.now_ms,
        monotonic_ns=SystemTime().monotonic_ns,
        told=told,
    )


def _address(settings: KubernetesSettings) -> KubeletAddress:
    return KubeletAddress(
        url=settings.kubelet_url.rstrip("/"),
        name=settings.kubelet_name or os.uname().nodename.lower(),
        token_file=settings.token_file,
        ca_files=settings.ca_files,
        cert_file=settings.client_cert_file,
        key_file=settings.client_key_file,
    )


def _rules(settings: KubernetesSettings) -> IdentityRules:
    return IdentityRules(
        job_id=settings.job_id_keys,
        job_name=settings.job_name_keys,
        user=settings.user_keys,
        user_id=settings.user_id_keys,
        vc=settings.vc_keys,
        project=settings.project_keys,
        addon_namespaces=settings.addon_namespaces,
    )
