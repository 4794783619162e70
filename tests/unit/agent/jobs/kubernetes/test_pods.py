"""The kubelet's list of pods: whose they are, and that no pod spoils another one's bill."""

import json
import tracemalloc
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.jobs.kubernetes.document import Json, Object
from agent.jobs.kubernetes.identity import nameless
from agent.jobs.kubernetes.pods import MAX_PODS, Pod, PodRules, parse_pods, version_marks
from agent.model import ResourceType
from tests.unit.agent.jobs.kubernetes.manifests import (
    IDENTITY_RULES,
    KINDS,
    RULES,
    UID,
    container,
    pod,
    pod_list,
)

ALICE_ID = "6f1c2d3e-0000-4000-8000-00000000a11c"


def only(described: Object) -> Pod:
    (found,) = parse_pods(pod_list(described), RULES).pods.values()
    return found


def test_a_bare_pod_is_a_job_of_its_namespace() -> None:
    """Nothing labelled: its own name, nobody's, the namespace as vc, nothing requested."""
    found = only(pod("solo"))
    identity = found.identity
    assert (identity.job_id, identity.job_name, identity.kind) == ("solo", "solo", "job")
    assert (identity.username, identity.user_id, identity.project) == (None, None, "")
    assert (identity.namespace, identity.vc) == ("team", "team")
    assert found.quotas == {ResourceType.CPU: 0, ResourceType.MEM: 0}
    assert found.started_at_ms == 1_767_225_600_000
    assert (found.is_over, found.npus, found.wants_devices) == (False, None, False)


def test_the_labels_of_apulis_name_job_user_and_vc() -> None:
    """And of DLTS, from which they come; a uuid of the user is taken if it is one."""
    labels = {"jobId": "42f0", "userName": "alice", "vcName": "platform", "userId": ALICE_ID}
    identity = only(pod(labels=labels | {"project": "vision"}, owner=("Job", "batch"))).identity
    assert (identity.job_id, identity.job_name) == ("42f0", "batch")
    assert (identity.username, identity.user_id) == ("alice", ALICE_ID)
    assert (identity.vc, identity.project) == ("platform", "vision")


@pytest.mark.parametrize("user_id", ["1000", "alice", "x" * 36, ALICE_ID.replace("-", "")])
def test_a_user_id_that_is_no_uuid_is_none(user_id: str) -> None:
    """A number names nobody in the bills."""
    assert only(pod(labels={"userId": user_id})).identity.user_id is None


def test_the_labels_of_openpai_name_them_too() -> None:
    """FrameworkController annotates the framework's name."""
    identity = only(
        pod(
            labels={"userName": "bob", "virtualCluster": "prod"},
            annotations={"FC_FRAMEWORK_NAME": "aa11"},
            owner=("ConfigMap", "aa11-attempt"),
        )
    ).identity
    assert (identity.job_id, identity.username, identity.vc) == ("aa11", "bob", "prod")


def test_volcano_names_job_and_queue() -> None:
    """By labels or annotations; an Apulis label of the same pod comes first."""
    volcano = {"volcano.sh/job-name": "train", "volcano.sh/queue-name": "gold"}
    for found in (only(pod(labels=volcano)), only(pod(annotations=volcano))):
        assert (found.identity.job_id, found.identity.vc) == ("train", "gold")
    both = only(pod(labels=volcano | {"jobId": "j", "vcName": "v"})).identity
    assert (both.job_id, both.vc) == ("j", "v")
    older = only(pod(annotations={"scheduling.volcano.sh/queue-name": "silver"})).identity
    assert older.vc == "silver"


@pytest.mark.parametrize(
    ("owner", "kind"),
    [
        ("Job", "job"),
        ("PyTorchJob", "job"),
        ("ReplicaSet", "service"),
        ("StatefulSet", "service"),
        ("DaemonSet", "service"),
        ("ReplicationController", "service"),
    ],
)
def test_the_controlling_owner_names_the_job_and_its_kind(owner: str, kind: str) -> None:
    """Not any other owner that is listed."""
    identity = only(pod("web-1", owner=(owner, "web"))).identity
    assert (identity.job_id, identity.job_name, identity.kind) == ("web", "web", kind)


def test_the_clusters_own_pods_are_addons_and_static_pods_services() -> None:
    """The namespace decides first."""
    source = {"kubernetes.io/config.source": "file"}
    hashed = "f0c58c7e5d3e4b1a9d2c6b7a8e9f0d1c"
    static = only(pod("proxy-n1", uid=hashed, annotations=source))
    assert (static.uid, static.identity.kind) == (hashed, "service")
    assert only(pod(namespace="kube-system", annotations=source)).identity.kind == "addon"
    assert only(pod(annotations={"kubernetes.io/config.source": "api"})).identity.kind == "job"


def test_a_label_counts_before_an_annotation_and_nothing_is_nobody() -> None:
    """An empty label is as none."""
    labels = {"userName": "", "jobId": "from-label"}
    annotations = {"userName": "carol", "jobId": "from-annotation"}
    identity = only(pod(labels=labels, annotations=annotations)).identity
    assert identity.job_id == "from-label"
    assert identity.username is None


def test_what_a_user_writes_fits_a_bill() -> None:
    """No control characters, no more than 256 characters; the join keeps the true name."""
    identity = only(pod(labels={"jobId": "a\x1b[2J\n", "userName": "u" * 9999})).identity
    assert identity.job_id == "a\N{REPLACEMENT CHARACTER}[2J\N{REPLACEMENT CHARACTER}"
    assert identity.username == "u" * 256


def test_ephemeral_storage_is_a_quota_only_where_it_is_asked_for() -> None:
    """And only of those who have requested some."""
    wants = pod(containers=[container(requests={"ephemeral-storage": "1Gi"})])
    rules = PodRules(identity=IDENTITY_RULES, kinds=KINDS, has_storage=True)
    assert ResourceType.STORAGE not in only(wants).quotas
    (found,) = parse_pods(pod_list(wants), rules).pods.values()
    assert found.quotas[ResourceType.STORAGE] == 1 << 20
    (none,) = parse_pods(pod_list(pod()), rules).pods.values()
    assert ResourceType.STORAGE not in none.quotas


@pytest.mark.parametrize(
    ("asks", "wants"),
    [
        ({"nvidia.com/gpu": "1"}, True),
        ({"nvidia.com/gpu.shared": "1"}, True),
        ({"nvidia.com/mig-1g.5gb": "2"}, True),
        ({"huawei.com/Ascend910": "8"}, True),
        ({"huawei.com/npu-core": "4"}, True),
        ({"npu.huawei.com/NPU": "1"}, True),
        ({"nvidia.com/gpu": "0"}, False),
        ({"rdma/hca": "1", "cpu": "1"}, False),
    ],
)
def test_it_is_known_who_waits_for_devices(asks: dict[str, str], wants: bool) -> None:  # noqa: FBT001
    """By limits, of containers and init containers."""
    assert only(pod(containers=[container(limits=asks)])).wants_devices is wants
    assert only(pod(init=[container(limits=asks)])).wants_devices is wants


def test_a_claim_may_be_of_devices() -> None:
    """Dynamic resource allocation: the pod names only the claim."""
    assert only(pod(spec={"resourceClaims": [{"name": "gpu"}]})).has_claims


@pytest.mark.parametrize(("phase", "is_over"), [("Succeeded", True), ("Failed", True), ("", False)])
def test_a_phase_may_be_the_last_one(phase: str, is_over: bool) -> None:  # noqa: FBT001
    """Pending, Running and Unknown are not."""
    assert only(pod(status={"phase": phase})).is_over is is_over


@pytest.mark.parametrize("time", ["", "yesterday", "2026-01-01T00:00:00", None, 5, "9" * 99])
def test_a_start_that_is_no_instant_is_unknown(time: Json) -> None:
    """A time without a zone is none either."""
    assert only(pod(status={"startTime": time})).started_at_ms is None


def break_uid(one: Object) -> None:
    one["metadata"] = {"name": "broken", "namespace": "team"}


def break_name(one: Object) -> None:
    one["metadata"] = {"uid": "u", "namespace": "team"}


def break_containers(one: Object) -> None:
    one["spec"] = None


def break_quantity(one: Object) -> None:
    one["spec"] = {"containers": [container(requests={"cpu": "a lot"})]}


def break_greatness(one: Object) -> None:
    one["spec"] = {"containers": [container(requests={"memory": "8E"})]}


@pytest.mark.parametrize(
    "breaks", [break_uid, break_name, break_containers, break_quantity, break_greatness]
)
def test_a_pod_that_is_not_right_is_left_out_and_told(breaks: Callable[[Object], None]) -> None:
    """The others stand: nobody can hide them."""
    broken = pod("broken", uid="b" * 36)
    breaks(broken)
    found = parse_pods(pod_list(broken, pod(), "no object", None), RULES)
    assert found.pods.keys() == {UID}
    (problem,) = found.problems
    assert "team/" in problem.source
    assert "is not understood" in problem.message


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"null",
        b'{"kind":"Status"}',
        b'{"kind":"PodList","items":{}}',
        b'{"kind":"PodList","items":[',
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"kind":"PodList","items":' + b"9" * 5_000 + b"}",
    ],
)
def test_what_is_no_list_of_pods_is_refused(body: bytes) -> None:
    """Garbage, half an answer, or another answer is no empty node."""
    with pytest.raises(ValueError, match=r"."):
        parse_pods(body, RULES)


@pytest.mark.parametrize("items", [None, []])
def test_a_node_may_have_no_pods(items: Json) -> None:
    """Go writes an empty list as null."""
    assert not parse_pods(json.dumps({"kind": "PodList", "items": items}).encode(), RULES).pods


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)
FIELDS = ("metadata", "spec", "status")
INNER = (
    "name",
    "namespace",
    "uid",
    "labels",
    "ownerReferences",
    "containers",
    "phase",
    "resources",
)


@given(st.dictionaries(st.sampled_from(FIELDS), st.dictionaries(st.sampled_from(INNER), JSON)))
def test_no_shape_of_a_pod_hides_the_next_one(shape: dict[str, Json]) -> None:
    """Whatever is in the place of whatever: no error but what is told of that pod."""
    found = parse_pods(pod_list(shape, pod()), RULES)
    assert UID in found.pods


def test_a_label_may_have_any_name() -> None:
    """Parts of a pod that are never read are dropped by name; a label of that name stays."""
    rules = replace(RULES, identity=replace(IDENTITY_RULES, job_id=("env",), user=("volumes",)))
    labelled = pod(labels={"env": "prod", "volumes": "v"})
    (found,) = parse_pods(pod_list(labelled), rules).pods.values()
    assert (found.identity.job_id, found.identity.username) == ("prod", "v")


def test_a_list_beyond_all_measure_is_cut() -> None:
    """No node has so many pods."""
    many = [pod(uid=f"uid-{at}") for at in range(MAX_PODS + 10)]
    assert len(parse_pods(pod_list(*many), RULES).pods) == MAX_PODS


def test_what_is_not_read_is_not_kept() -> None:
    """The environment of containers, the greatest part of a list, takes no memory."""
    heavy: Json = [{"name": f"V{at}", "value": "x" * 50} for at in range(400)]
    main: Object = {**container(), "env": heavy}
    body = pod_list(*(pod(uid=f"uid-{at}", spec={"containers": [main]}) for at in range(50)))
    tracemalloc.start()
    try:
        assert len(parse_pods(body, RULES).pods) == 50
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.5 * len(body)


def test_a_list_is_known_again_by_its_versions() -> None:
    """In whatever order; not with another pod, nor with another version of one."""
    first, second = pod(uid="a", version="1"), pod(uid="b", version="2")
    marks = version_marks(pod_list(first, second))
    assert version_marks(pod_list(second, first)) == marks
    assert version_marks(pod_list(first)) != marks
    assert version_marks(pod_list(first, pod(uid="b", version="3"))) != marks
    assert version_marks(pod_list(first, second, pod(uid="c", version="2"))) != marks


def test_what_a_user_writes_is_no_version() -> None:
    """Its quotes are escaped."""
    trick = {"note": '"resourceVersion":"2","uid":"b"'}
    tricky, plain = pod(version="1", annotations=trick), pod(version="1")
    assert version_marks(pod_list(tricky)) == version_marks(pod_list(plain))


def test_a_list_has_versions_if_all_of_its_pods_have() -> None:
    """Or are static: those never change under their uid."""
    static = pod(annotations={"kubernetes.io/config.source": "file"})
    assert parse_pods(pod_list(pod(uid="a", version="1"), static), RULES).is_versioned
    assert not parse_pods(pod_list(pod(uid="a", version="1"), pod()), RULES).is_versioned


def test_a_pod_that_nobody_lists_still_has_its_uid() -> None:
    """And its names, where the log folders tell them."""
    unknown = nameless(UID, None, ["kube-system"])
    assert (unknown.job_id, unknown.namespace, unknown.vc) == (UID, "", "default")
    named = nameless(UID, ("kube-system", "dns-1"), ["kube-system"])
    assert (named.job_id, named.namespace, named.vc) == ("dns-1", "kube-system", "kube-system")
    assert (named.kind, named.username) == ("addon", None)
