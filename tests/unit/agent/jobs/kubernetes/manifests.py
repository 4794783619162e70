"""Pods as the kubelet lists them, for tests."""

import json
from collections.abc import Iterable, Mapping

from agent.jobs.kubernetes.devices import Kinds
from agent.jobs.kubernetes.document import Json, Object
from agent.jobs.kubernetes.identity import IdentityRules
from agent.jobs.kubernetes.pods import PodRules
from agent.sections import kubernetes as defaults

UID = "0c9b7c35-3e3c-4c1e-9e0e-6a7f0b8d9e21"
KINDS = Kinds(defaults.GPU_RESOURCES, defaults.NPU_RESOURCES)
IDENTITY_RULES = IdentityRules(
    job_id=defaults.JOB_ID_KEYS,
    job_name=defaults.JOB_NAME_KEYS,
    user=defaults.USER_KEYS,
    user_id=defaults.USER_ID_KEYS,
    vc=defaults.VC_KEYS,
    project=defaults.PROJECT_KEYS,
    addon_namespaces=("kube-system",),
)
RULES = PodRules(identity=IDENTITY_RULES, kinds=KINDS)

Amounts = Mapping[str, str]


def container(
    name: str = "main",
    *,
    requests: Amounts | None = None,
    limits: Amounts | None = None,
    always: bool = False,
) -> Object:
    """A container; `always` = as an init container it is a sidecar."""
    resources: dict[str, Json] = {}
    if requests is not None:
        resources["requests"] = dict(requests)
    if limits is not None:
        resources["limits"] = dict(limits)
    made: dict[str, Json] = {"name": name, "image": "busybox", "resources": resources}
    return made | ({"restartPolicy": "Always"} if always else {})


def pod(
    name: str = "p",
    *,
    uid: str = UID,
    namespace: str = "team",
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    owner: tuple[str, str] | None = None,
    containers: Iterable[Object] = (),
    init: Iterable[Object] = (),
    spec: Object | None = None,
    status: Object | None = None,
    version: str | None = None,
) -> Object:
    """A pod that runs since 2026-01-01."""
    metadata: dict[str, Json] = {"name": name, "namespace": namespace, "uid": uid}
    metadata["labels"] = dict(labels or {})
    metadata["annotations"] = dict(annotations or {})
    metadata["managedFields"] = [{"manager": "kubelet", "fieldsV1": {"f:metadata": {}}}]
    if version is not None:
        metadata["resourceVersion"] = version
    if owner is not None:
        kind, owner_name = owner
        metadata["ownerReferences"] = [
            {"kind": "Team", "name": "not-the-controller"},
            {"kind": kind, "name": owner_name, "controller": True},
        ]
    whole: dict[str, Json] = {"containers": list(containers) or [container()]}
    whole["initContainers"] = list(init)
    state: dict[str, Json] = {"phase": "Running", "startTime": "2026-01-01T00:00:00Z"}
    return {"metadata": metadata, "spec": whole | (spec or {}), "status": state | (status or {})}


def pod_list(*pods: Json) -> bytes:
    """The body of the kubelet's answer."""
    return json.dumps({"kind": "PodList", "apiVersion": "v1", "items": pods}).encode()
