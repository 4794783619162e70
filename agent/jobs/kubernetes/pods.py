"""What the kubelet says of its pods: whose they are, and what they have requested. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from agent.jobs.jobfile import MAX_CPU_M, MAX_MEM_MI
from agent.jobs.kubernetes.ascend import annotated_npus
from agent.jobs.kubernetes.demand import requested
from agent.jobs.kubernetes.devices import Kinds
from agent.jobs.kubernetes.document import Object, as_object, as_objects, as_text, parse_document
from agent.jobs.kubernetes.identity import Identity, IdentityRules, identify, is_static
from agent.jobs.kubernetes.paths import same_uid
from agent.jobs.kubernetes.quantity import to_kib, to_milli
from agent.jobs.terms import Problem, bill_text
from agent.model import DeviceShare, ResourceType

MAX_PODS = 4096
"""No node has more; what is listed beyond is passed over."""

_MAX_UID = 128
_MAX_KIB = MAX_MEM_MI << 10

_MARK = re.compile(rb'"(?:resourceVersion|uid)"\s*:\s*"([^"\\]{1,128})"')
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TERMINAL = frozenset({"Succeeded", "Failed"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """One pod as the kubelet describes it.

    `npus`: what its annotations say; None = nothing. `wants_devices`: it has requested some
    that are metered; `has_claims`: by a claim, which may be of anything.
    """

    uid: str
    identity: Identity
    quotas: Mapping[ResourceType, int]
    started_at_ms: int | None
    is_over: bool
    npus: tuple[DeviceShare, ...] | None = None
    wants_devices: bool = False
    has_claims: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PodList:
    """The pods by uid (see `same_uid`), and what could not be read of them.

    `is_versioned`: no pod can change without another `version_marks`.
    """

    pods: Mapping[str, Pod] = field(default_factory=dict[str, Pod])
    problems: Sequence[Problem] = ()
    is_versioned: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PodRules:
    """What to make of a pod."""

    identity: IdentityRules
    kinds: Kinds
    has_storage: bool = False


def version_marks(body: bytes) -> Sequence[bytes]:
    """All uids and versions in an answer of `/pods`, whose order means nothing.

    The kubelet lists its pods in another order each time. To compare these costs a twentieth
    of parsing the list. Text in the place of structure cannot look like one: it has its
    quotes escaped.
    """
    return sorted(_MARK.findall(body))


def parse_pods(body: bytes, rules: PodRules) -> PodList:
    """Read the answer of `/pods`; a pod that is not right is left out, the others stand.

    Raises:
        ValueError: it is no list of pods.
    """
    document = parse_document(body)
    items = document.get("items", [])
    if document.get("kind") != "PodList" or not (items is None or isinstance(items, list)):
        raise ValueError("it is no PodList")
    pods: dict[str, Pod] = {}
    problems: list[Problem] = []
    for raw in as_objects(items)[:MAX_PODS]:
        try:
            pod = _read_pod(raw, rules)
        except ValueError as error:
            problems.append(_refusal(raw, str(error)))
        else:
            pods[pod.uid] = pod
    is_versioned = all(_has_version(raw) for raw in as_objects(items))
    return PodList(pods=pods, problems=problems, is_versioned=is_versioned)


def _has_version(raw: Object) -> bool:
    """Whether the API server counts its changes; a static pod's uid is the hash of what it is."""
    metadata = as_object(raw.get("metadata"))
    return bool(as_text(metadata.get("resourceVersion"))) or is_static(labels_of(metadata))


def _read_pod(raw: Object, rules: PodRules) -> Pod:
    metadata, spec, status = (as_object(raw.get(name)) for name in ("metadata", "spec", "status"))
    uid = as_text(metadata.get("uid"))
    if not 0 < len(uid) <= _MAX_UID:
        raise ValueError("it has no uid")
    labels = labels_of(metadata)
    return Pod(
        uid=same_uid(uid),
        identity=identify(metadata, labels, rules.identity),
        quotas=_quotas(raw, has_storage=rules.has_storage),
        started_at_ms=_instant(as_text(status.get("startTime"))),
        is_over=as_text(status.get("phase")) in _TERMINAL,
        npus=annotated_npus(labels),
        wants_devices=_wants_devices(spec, rules.kinds),
        has_claims=bool(as_objects(spec.get("resourceClaims"))),
    )


def labels_of(metadata: Object) -> Mapping[str, str]:
    """Its annotations and its labels together; a label counts before an annotation."""
    both = as_object(metadata.get("annotations")) | as_object(metadata.get("labels"))
    return {name: value for name, value in both.items() if isinstance(value, str)}


def _quotas(raw: Object, *, has_storage: bool) -> Mapping[ResourceType, int]:
    cpu_m = to_milli(requested(raw, "cpu"))
    mem_kib = to_kib(requested(raw, "memory"))
    if cpu_m > MAX_CPU_M or mem_kib > _MAX_KIB:
        raise ValueError("it requests more than any node has")
    quotas = {ResourceType.CPU: cpu_m, ResourceType.MEM: mem_kib}
    if has_storage and (storage_kib := to_kib(requested(raw, "ephemeral-storage"))):
        quotas[ResourceType.STORAGE] = min(storage_kib, _MAX_KIB)
    return quotas


def _wants_devices(spec: Object, kinds: Kinds) -> bool:
    containers = [*as_objects(spec.get("containers")), *as_objects(spec.get("initContainers"))]
    declared = [as_object(one.get("resources")) for one in containers]
    names = [
        name
        for resources in declared
        for which in ("limits", "requests")
        for name, amount in as_object(resources.get(which)).items()
        if amount not in {"0", 0}
    ]
    return any(map(kinds.type_of, names))


def _instant(text: str) -> int | None:
    """An RFC 3339 time in ms since the epoch; None = it is none."""
    try:
        instant = datetime.fromisoformat(text)
        return (instant - _EPOCH) // timedelta(milliseconds=1)
    except (ValueError, TypeError, OverflowError):  # TypeError: without a zone
        return None


def _refusal(raw: Object, reason: str) -> Problem:
    metadata = as_object(raw.get("metadata"))
    name = f"{as_text(metadata.get('namespace'))}/{as_text(metadata.get('name'))}"
    return Problem(
        source=bill_text(f"pod {name}"), message=bill_text(f"is not understood: {reason}")
    )
