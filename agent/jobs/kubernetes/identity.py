"""Whose a pod is: job, user, vc and project, by its labels, annotations and owner. Pure.

Whoever may create a pod chooses its labels: where that must not decide about bills, the
cluster's admission has to see to it.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agent.jobs.kubernetes.document import Object, as_object, as_objects, as_text
from agent.jobs.terms import bill_text

_SERVICE_OWNERS = frozenset(
    {"DaemonSet", "Node", "ReplicaSet", "ReplicationController", "StatefulSet"}
)
_SOURCE = "kubernetes.io/config.source"
"""Of a static pod: the file or the URL that its manifest came from; "api" of all others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityRules:
    """Which labels or annotations to look at for what; the first that is there counts."""

    job_id: Sequence[str]
    job_name: Sequence[str]
    user: Sequence[str]
    user_id: Sequence[str]
    vc: Sequence[str]
    project: Sequence[str]
    addon_namespaces: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who runs what; all but `namespace` and `name` as a bill takes it."""

    namespace: str
    name: str
    job_id: str
    job_name: str
    user_id: str | None = None
    username: str | None = None
    vc: str = "default"
    project: str = ""
    kind: str = "job"


def identify(metadata: Object, labels: Mapping[str, str], rules: IdentityRules) -> Identity:
    """Take from a pod's metadata whose it is.

    Raises:
        ValueError: it has no name or no namespace.
    """
    name, namespace = as_text(metadata.get("name")), as_text(metadata.get("namespace"))
    if not name or not namespace:
        raise ValueError("it has no name or no namespace")
    owner = _owner(metadata)
    owner_name = as_text(owner.get("name")) or name
    return Identity(
        namespace=namespace,
        name=name,
        job_id=bill_text(_first(labels, rules.job_id) or owner_name),
        job_name=bill_text(_first(labels, rules.job_name) or owner_name),
        user_id=_uuid(labels, rules.user_id),
        username=bill_text(_first(labels, rules.user)) or None,
        vc=bill_text(_first(labels, rules.vc) or namespace),
        project=bill_text(_first(labels, rules.project)),
        kind=_kind(namespace, owner, labels, rules.addon_namespaces),
    )


def nameless(uid: str, name: tuple[str, str] | None, addon_namespaces: Sequence[str]) -> Identity:
    """What is left of an identity where the kubelet tells nothing: the uid, and maybe names."""
    if name is None:
        return Identity(namespace="", name="", job_id=bill_text(uid), job_name=bill_text(uid))
    namespace, pod = name
    kind = "addon" if namespace in addon_namespaces else "job"
    fitting = bill_text(pod, uid)
    return Identity(
        namespace=namespace,
        name=pod,
        job_id=fitting,
        job_name=fitting,
        vc=bill_text(namespace, "default"),
        kind=kind,
    )


def is_static(labels: Mapping[str, str]) -> bool:
    """Whether the kubelet has it from a file or a URL, not from the API server."""
    return labels.get(_SOURCE, "api") != "api"


def _owner(metadata: Object) -> Object:
    """The owner that controls it; {} = none does."""
    owners = as_objects(metadata.get("ownerReferences"))
    return next((owner for owner in owners if owner.get("controller") is True), as_object(None))


def _kind(
    namespace: str, owner: Object, labels: Mapping[str, str], addon_namespaces: Sequence[str]
) -> str:
    if namespace in addon_namespaces:
        return "addon"
    is_service = is_static(labels) or as_text(owner.get("kind")) in _SERVICE_OWNERS
    return "service" if is_service else "job"


def _first(labels: Mapping[str, str], names: Sequence[str]) -> str:
    return next((labels[name] for name in names if labels.get(name)), "")


def _uuid(labels: Mapping[str, str], names: Sequence[str]) -> str | None:
    """The first that is a uuid in its usual form; a number or a name is none."""
    for name in names:
        text = labels.get(name, "")
        if len(text) != 36:
            continue
        try:
            return str(uuid.UUID(text))
        except ValueError:
            continue
    return None
