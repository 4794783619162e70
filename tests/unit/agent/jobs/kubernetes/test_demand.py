"""What a pod has requested is what the scheduler counts for it."""

import pytest

from agent.jobs.kubernetes.demand import requested
from agent.jobs.kubernetes.document import Json, Object
from agent.jobs.kubernetes.quantity import to_kib, to_milli
from tests.unit.agent.jobs.kubernetes.manifests import container, pod


def cpu(described: Object) -> int:
    return to_milli(requested(described, "cpu"))


def test_containers_are_summed_requests_first() -> None:
    """A limit counts only where there is no request; nothing requested is nothing."""
    described = pod(
        containers=[
            container("a", requests={"cpu": "100m", "memory": "1Gi"}, limits={"cpu": "2"}),
            container("b", limits={"cpu": "1.5"}),
            container("c"),
        ]
    )
    assert cpu(described) == 1600
    assert to_kib(requested(described, "memory")) == 1 << 20
    assert requested(pod(), "cpu") == 0


def test_a_request_of_zero_is_a_request() -> None:
    """The limit does not stand in for it."""
    assert cpu(pod(containers=[container(requests={"cpu": "0"}, limits={"cpu": "4"})])) == 0


def test_the_sum_is_rounded_once() -> None:
    """Three containers of a third of a milli-core are one, not three."""
    thirds = [container(str(at), requests={"cpu": "333u"}) for at in range(3)]
    assert cpu(pod(containers=thirds)) == 1


def test_the_most_demanding_init_container_counts_if_it_needs_more() -> None:
    """They run one after the other, before the others."""
    init = [container("i", requests={"cpu": "3"}), container("j", requests={"cpu": "2"})]
    main = [container("a", requests={"cpu": "1"})]
    assert cpu(pod(containers=main, init=init)) == 3000
    assert cpu(pod(containers=[*main, container("b", requests={"cpu": "4"})], init=init)) == 5000


def test_a_sidecar_runs_beside_what_comes_after_it() -> None:
    """With the containers, and with the init containers that start later; not the earlier."""
    early = container("early", requests={"cpu": "4"})
    sidecar = container("sidecar", requests={"cpu": "1"}, always=True)
    late = container("late", requests={"cpu": "5"})
    main = [container(requests={"cpu": "2"})]
    assert cpu(pod(containers=main, init=[early, sidecar])) == 4000
    assert cpu(pod(containers=main, init=[sidecar, late])) == 6000
    assert cpu(pod(containers=main, init=[sidecar, sidecar])) == 4000
    great = container("great", requests={"cpu": "4"}, always=True)
    assert cpu(pod(containers=main, init=[great])) == 6000


def test_the_pods_own_request_replaces_the_sum_of_its_containers() -> None:
    """Kubernetes 1.34 lets a pod request as a whole; the overhead comes on top."""
    whole: Object = {
        "resources": {"requests": {"cpu": "7"}, "limits": {"memory": "2Gi"}},
        "overhead": {"cpu": "250m", "memory": "1Mi"},
    }
    described = pod(containers=[container(requests={"cpu": "1", "memory": "1Gi"})], spec=whole)
    assert cpu(described) == 7250
    assert to_kib(requested(described, "memory")) == (2 << 20) + 1024
    assert to_kib(requested(pod(spec={"overhead": {"memory": "1Mi"}}), "memory")) == 1024


def resized(wanted: str, granted: str, actual: str, **status: Json) -> Object:
    told: Object = {
        "name": "main",
        "allocatedResources": {"cpu": granted},
        "resources": {"requests": {"cpu": actual}},
    }
    return pod(
        containers=[container(requests={"cpu": wanted})],
        status={"containerStatuses": [told], **status},
    )


@pytest.mark.parametrize(
    ("wanted", "granted", "actual", "milli"),
    [("2", "1", "1", 2000), ("1", "2", "2", 2000), ("1", "1", "3", 3000), ("1", "1", "1", 1000)],
)
def test_during_a_resize_the_largest_of_all_counts(
    wanted: str, granted: str, actual: str, milli: int
) -> None:
    """Up or down: what is wanted, granted, or still in force."""
    assert cpu(resized(wanted, granted, actual)) == milli


def test_a_resize_that_can_never_be_granted_does_not_count() -> None:
    """As both generations of the API say it."""
    pending: Json = [{"type": "PodResizePending", "status": "True", "reason": "Infeasible"}]
    assert cpu(resized("64", "2", "1", resize="Infeasible")) == 2000
    assert cpu(resized("64", "2", "1", conditions=pending)) == 2000
    deferred: Json = [{"type": "PodResizePending", "status": "True", "reason": "Deferred"}]
    assert cpu(resized("64", "2", "1", conditions=deferred)) == 64_000


@pytest.mark.parametrize("amount", [True, [], {}, "lots", "-1", 1.5])
def test_an_amount_that_is_none_is_refused(amount: Json) -> None:
    """Unknown is never 0."""
    described = pod(spec={"containers": [{"resources": {"requests": {"cpu": amount}}}]})
    with pytest.raises(ValueError, match="no quantity"):
        requested(described, "cpu")


def test_a_bare_number_is_a_quantity() -> None:
    """JSON may have it without quotes."""
    described = pod(spec={"containers": [{"resources": {"requests": {"cpu": 2}}}]})
    assert cpu(described) == 2000


@pytest.mark.parametrize("spec", [{"containers": []}, {"containers": None}, {"containers": "x"}])
def test_a_pod_without_containers_is_refused(spec: Object) -> None:
    """Half a description says nothing about what is requested."""
    with pytest.raises(ValueError, match="no containers"):
        requested(pod(spec=spec), "cpu")
