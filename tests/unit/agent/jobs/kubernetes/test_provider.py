"""Pods as runs: cgroups decide who lives, the kubelet who they are, and nobody is forgotten."""

import os
from pathlib import Path

import pytest

from agent.errors import ProviderError
from agent.jobs.kubernetes.tracked import GRACE_SECONDS
from agent.model import DeviceShare, Reading, ReadingKind, ResourceType, RunKey
from tests.unit.agent.conftest import wait_until
from tests.unit.agent.jobs.contexts import NOW_MS
from tests.unit.agent.jobs.kubernetes.manifests import UID, container, pod
from tests.unit.agent.jobs.kubernetes.nodes import Node, pod_path

OTHER = "99999999-0000-4000-8000-000000000001"
GRACE_MS = GRACE_SECONDS * 1000
STARTED_MS = 1_767_225_600_000  # what the manifests say
NOTHING = {ResourceType.CPU: 0, ResourceType.MEM: 0}
GPU = "nvidia.com/gpu"
HERE = (os.getpid(),)


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def gpus(*ids: str) -> tuple[DeviceShare, ...]:
    return tuple(DeviceShare(type=ResourceType.GPU, id=one, model=None) for one in ids)


@pytest.mark.parametrize("layout", ["v1", "v2", "hybrid"])
@pytest.mark.parametrize("driver", ["systemd", "cgroupfs"])
def test_a_pod_is_a_run_with_its_owner_requests_and_devices(
    tmp_path: Path, layout: str, driver: str
) -> None:
    """In every hierarchy and below either driver's tree."""
    node = Node(tmp_path, layout)
    node.tree.make(pod_path(driver=driver))
    node.tree.make(f"{pod_path(driver=driver)}/cri-containerd-{'5' * 64}.scope", pids=HERE)
    asks = {"cpu": "1500m", "memory": "2Gi", GPU: "2"}
    labels = {"jobId": "j1", "userName": "alice", "vcName": "v"}
    node.kubelet.lists(pod(labels=labels, containers=[container(requests=asks)]))
    node.kubelet.allocates((("team", "p"), [(GPU, "GPU-b"), (GPU, "GPU-a")]))
    run = node.only()
    assert (run.provider, run.job_id, run.job_name) == ("kubernetes", "j1", "p")
    assert (run.username, run.vc, run.namespace, run.kind) == ("alice", "v", "team", "job")
    assert run.quotas == {ResourceType.CPU: 1500, ResourceType.MEM: 2 << 20}
    assert run.devices == gpus("GPU-a", "GPU-b")
    assert run.cgroup == pod_path(driver=driver)
    assert run.ended_at_ms is None
    assert node.problems() == {}


def test_a_node_without_pods_asks_nobody(node: Node) -> None:
    """Also where the kubelet, or Kubernetes, is not there at all."""
    node.kubelet.resources_error = "there is no socket"
    node.tree.make("/kubepods.slice/kubepods-burstable.slice")
    assert node.runs() == {}
    assert node.kubelet.asked == 0


def test_a_run_is_the_same_object_while_nothing_has_changed(node: Node) -> None:
    """However often the kubelet says it again."""
    node.tree.make(pod_path())
    node.kubelet.lists(pod())
    node.kubelet.allocates((("team", "p"), [(GPU, "GPU-a")]))
    run = node.only()
    node.kubelet.lists(pod())
    node.kubelet.allocates((("team", "p"), [(GPU, "GPU-a")]))
    assert node.only() is run


def test_new_requests_and_devices_are_taken(node: Node) -> None:
    """A resize in place, a claim that comes later; key and start stay."""
    node.tree.make(pod_path())
    node.kubelet.lists(pod(containers=[container(requests={"cpu": "1"})]))
    before = node.only()
    node.kubelet.lists(pod(containers=[container(requests={"cpu": "2"})]))
    node.kubelet.allocates((("team", "p"), [(GPU, "GPU-a")]))
    after = node.only()
    assert (before.quotas[ResourceType.CPU], after.quotas[ResourceType.CPU]) == (1000, 2000)
    assert (before.devices, after.devices) == ((), gpus("GPU-a"))
    assert (after.key, after.started_at_ms) == (before.key, before.started_at_ms)


# Waiting ---------------------------------------------------------------------------------


def test_a_new_cgroup_waits_for_its_owner_and_begins_at_its_birth(node: Node) -> None:
    """The kubelet is asked at once, and again less and less often; the start is not moved."""
    node.kubelet.lists()
    node.runs()
    node.tree.make(pod_path())
    assert node.runs() == {}
    node.pass_ms(2_000)
    assert node.runs() == {}
    assert node.kubelet.hurries == [True, False]
    node.kubelet.lists(pod())
    node.kubelet.allocates()
    assert node.only().started_at_ms == NOW_MS
    assert node.kubelet.hurries == [True, False]


def test_who_is_never_named_is_metered_without_owner(node: Node) -> None:
    """After half a minute, from its birth; its limits stand for its requests."""
    node.kubelet.lists()
    node.runs()
    node.tree.make(pod_path(), pids=HERE)
    node.tree.limit(pod_path(), cpu_m=500, mem_bytes=1 << 30)
    node.pass_ms(1)
    node.runs()
    node.pass_ms(GRACE_MS - 1)
    assert node.runs() == {}
    node.pass_ms(1)
    run = node.only()
    assert (run.job_id, run.username, run.vc, run.started_at_ms) == (
        UID,
        None,
        "default",
        NOW_MS + 1,
    )
    assert run.quotas == {ResourceType.CPU: 500, ResourceType.MEM: 1 << 20}
    assert "without owner" in node.problems()[f"cgroup {pod_path()}"]


def test_a_pod_that_is_named_late_gets_its_owner(node: Node) -> None:
    """As the same run."""
    node.kubelet.denies()
    node.tree.make(pod_path(), pids=HERE)
    before = node.only()
    node.kubelet.lists(pod(labels={"userName": "alice"}))
    after = node.only()
    assert (before.username, after.username) == (None, "alice")
    assert (after.key, after.started_at_ms) == (before.key, before.started_at_ms)
    assert node.problems() == {}


def test_what_was_there_before_us_is_not_left_out(node: Node) -> None:
    """The state may know it: left out it would end. So there is no answer yet."""
    node.tree.make(pod_path(), pids=HERE)
    node.restart()
    with pytest.raises(ProviderError, match="has not told its pods"):
        node.runs()
    node.kubelet.pods_failure = "the kubelet answers 500"
    with pytest.raises(ProviderError, match="answers 500"):
        node.runs()
    assert node.kubelet.hurries == [False, False]
    node.pass_ms(GRACE_MS)
    assert node.only().job_id == UID
    assert "what it said last stands" in node.problems()["the kubelet's list of pods"]


def test_the_list_may_fail_once_everybody_is_known(node: Node) -> None:
    """What it said stands; the failure is told."""
    node.tree.make(pod_path())
    node.kubelet.lists(pod(labels={"userName": "alice"}))
    node.runs()
    node.kubelet.pods_failure = "timed out"
    assert node.only().username == "alice"
    assert "timed out" in node.problems()["the kubelet's list of pods"]


def test_a_pod_that_is_not_named_any_more_stays_who_it_was(node: Node) -> None:
    """Half an answer takes nothing away: neither owner nor devices."""
    node.tree.make(pod_path())
    node.kubelet.lists(pod(labels={"userName": "alice"}))
    node.kubelet.allocates((("team", "p"), [(GPU, "GPU-a")]))
    run = node.only()
    node.kubelet.lists()
    node.kubelet.allocates()
    assert node.only() is run


def test_devices_that_were_requested_are_waited_for(node: Node) -> None:
    """The answer may have been asked for before the pod was there; then it is metered as is."""
    node.kubelet.allocates((("team", "p"), [(GPU, "GPU-stale")]))
    node.kubelet.asked_at_ms = NOW_MS - 1
    node.tree.make(pod_path())
    node.kubelet.lists(pod(containers=[container(limits={GPU: "1"})]))
    assert node.runs() == {}
    node.kubelet.allocates((("team", "p"), []))
    node.kubelet.asked_at_ms = None
    assert node.runs() == {}
    node.pass_ms(GRACE_MS)
    assert node.only().devices == ()
    assert "tells of none" in node.problems()["pod team/p"]
    node.kubelet.allocates((("team", "p"), [(GPU, "GPU-a")]))
    assert node.only().devices == gpus("GPU-a")
    assert node.problems() == {}


def test_a_claim_is_waited_for_but_need_not_be_a_device(node: Node) -> None:
    """It may be of a network; that is no problem."""
    node.runs()
    node.tree.make(pod_path())
    node.kubelet.lists(pod(spec={"resourceClaims": [{"name": "c"}]}))
    node.kubelet.allocates((("team", "p"), []))
    assert node.runs() == {}
    node.pass_ms(GRACE_MS)
    assert node.only().devices == ()
    assert node.problems() == {}


def test_news_call_for_a_look_only_while_somebody_waits(node: Node) -> None:
    """The kubelet is asked each half minute; nobody needs to wake up for that."""
    node.kubelet.lists()
    node.runs()
    node.kubelet.told()
    assert node.machine.wakes == 0
    node.tree.make(pod_path())
    node.runs()
    node.kubelet.told()
    assert node.machine.wakes == 1
    node.kubelet.lists(pod())
    node.kubelet.allocates()
    node.runs()
    node.kubelet.told()
    assert node.machine.wakes == 1


# Failures --------------------------------------------------------------------------------


def test_without_devices_there_is_no_answer_and_nothing_is_lost(node: Node) -> None:
    """The socket is gone while pods are there: runs stay; an end meanwhile is exact."""
    node.tree.make(pod_path())
    node.kubelet.lists(pod("a"), pod("b", uid=OTHER))
    node.runs()
    node.kubelet.resources_error = "there is no socket"
    node.tree.make(pod_path(OTHER))
    with pytest.raises(ProviderError, match="no socket"):
        node.runs()
    node.pass_ms(5_000)
    node.tree.remove(pod_path())
    with pytest.raises(ProviderError, match="no socket"):
        node.runs()
    node.pass_ms(60_000)
    node.kubelet.resources_error = None
    node.kubelet.allocates()
    runs = node.runs()
    assert runs["a"].ended_at_ms == NOW_MS + 5_000
    assert (runs["b"].started_at_ms, runs["b"].ended_at_ms) == (NOW_MS, None)


def test_what_an_uninstalled_kubelet_left_behind_is_nobody(node: Node) -> None:
    """Empty cgroups without a kubelet are neither pods nor a failure."""
    node.tree.make(pod_path())
    node.restart()
    node.kubelet.resources_error = "there is no socket"
    assert node.runs() == {}


def test_without_the_right_to_see_pods_they_are_metered_at_once(node: Node) -> None:
    """With the names of their log folders, and the devices that go with them."""
    node.kubelet.denies("the kubelet answers 403; let its account get nodes/pods")
    node.names[UID] = ("kube-system", "dns-1")
    node.kubelet.allocates((("kube-system", "dns-1"), [(GPU, "GPU-a")]))
    node.runs()
    node.tree.make(pod_path(), pids=HERE)
    node.tree.limit(pod_path(), cpu_m=250)
    run = node.only()
    assert (run.job_id, run.namespace, run.vc) == ("dns-1", "kube-system", "kube-system")
    assert (run.kind, run.username) == ("addon", None)
    assert run.quotas == {ResourceType.CPU: 250, ResourceType.MEM: 0}
    assert run.devices == gpus("GPU-a")
    (problem,) = node.problems().values()
    assert "nodes/pods" in problem
    assert "by their cgroups" in problem


def test_a_new_limit_is_taken_where_requests_are_not_to_be_seen(node: Node) -> None:
    """The run's quota follows."""
    node.kubelet.denies()
    node.tree.make(pod_path(), pids=HERE)
    assert node.only().quotas == NOTHING
    node.tree.limit(pod_path(), cpu_m=250)
    assert node.only().quotas[ResourceType.CPU] == 250


def test_a_right_that_is_lost_takes_nothing_away(node: Node) -> None:
    """Who was known stays known; who comes now is waited for a while."""
    node.tree.make(pod_path())
    node.kubelet.lists(pod(labels={"userName": "alice"}))
    node.runs()
    node.kubelet.denies()
    node.tree.make(pod_path(OTHER), pids=HERE)
    assert node.only().username == "alice"
    node.pass_ms(GRACE_MS)
    assert {run.username for run in node.provider.runs()} == {"alice", None}


def test_an_empty_cgroup_that_nobody_names_is_no_pod(node: Node) -> None:
    """Until something runs in it."""
    node.kubelet.denies()
    node.tree.make(pod_path())
    assert node.runs() == {}
    Path(f"{node.tree.root}{pod_path()}/cgroup.procs").write_text(f"{os.getpid()}\n")
    assert node.only().job_id == UID


def test_each_problem_is_logged_once_while_it_lasts(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    """And again when it comes back."""
    node.tree.make(pod_path(), pids=HERE)
    for _ in range(2):
        node.kubelet.denies()
        node.runs()
        node.runs()
        node.kubelet.lists(pod())
        node.runs()
    assert len(caplog.records) == 2


# Ends ------------------------------------------------------------------------------------


def test_the_end_of_the_cgroup_is_the_end_of_the_run(node: Node) -> None:
    """It is answered until it is settled; then nothing is left of it."""
    node.tree.make(pod_path())
    node.kubelet.lists(pod())
    live = node.only()
    node.pass_ms(5_000)
    node.tree.remove(pod_path())
    run = node.only()
    assert (run.key, run.ended_at_ms) == (live.key, NOW_MS + 5_000)
    node.pass_ms(5_000)
    assert node.only() is run
    node.provider.settled([run.key])
    assert node.runs() == {}


def test_the_last_cpu_time_of_a_pod_is_in_its_run(node: Node) -> None:
    """As the kernel told it when its last process ended."""
    node.tree.make(pod_path())
    node.kubelet.lists(pod())
    with node.machine.hearing():
        node.runs()
        folder = Path(f"{node.tree.root}{pod_path()}")
        (folder / "cpu.stat").write_text("usage_usec 777\n")
        (folder / "cgroup.events").write_text("populated 0\nfrozen 0\n")
        followed = node.provider._cgroups._followed
        wait_until(lambda: followed.found()[0].cpu_us == 777)
    node.tree.remove(pod_path())
    assert node.only().final == {
        ResourceType.CPU: Reading(kind=ReadingKind.COUNTER, value=777),
    }


def test_settling_a_live_or_foreign_run_changes_nothing(node: Node) -> None:
    """Only what has ended can be settled."""
    node.tree.make(pod_path())
    node.kubelet.lists(pod())
    run = node.only()
    node.provider.settled([run.key, RunKey("slurm:5")])
    assert node.only() is run


def test_a_pod_that_was_over_before_anybody_named_it_is_metered_whole(node: Node) -> None:
    """With requests and devices, although the kubelet calls it Succeeded by then."""
    node.kubelet.lists()
    node.runs()
    node.tree.make(pod_path())
    assert node.runs() == {}
    node.pass_ms(900)
    node.tree.remove(pod_path())
    assert node.runs() == {}
    asks = [container(requests={"cpu": "2", GPU: "1"})]
    node.kubelet.lists(pod(containers=asks, status={"phase": "Succeeded"}))
    node.kubelet.allocates((("team", "p"), [(GPU, "GPU-a")]))
    run = node.only()
    assert (run.started_at_ms, run.ended_at_ms) == (NOW_MS, NOW_MS + 900)
    assert run.quotas[ResourceType.CPU] == 2000
    assert run.devices == gpus("GPU-a")


def test_who_is_over_and_never_named_is_told_without_owner(node: Node) -> None:
    """That something ran here is not lost."""
    node.kubelet.lists()
    node.runs()
    node.tree.make(pod_path())
    node.runs()
    node.pass_ms(900)
    node.tree.remove(pod_path())
    assert node.runs() == {}
    node.pass_ms(GRACE_MS)
    run = node.only()
    assert (run.job_id, run.ended_at_ms, run.quotas) == (UID, NOW_MS + 900, NOTHING)


def test_a_cgroup_of_nobody_that_vanishes_is_forgotten(node: Node) -> None:
    """It was left behind before we came, and nothing ever ran in it."""
    node.tree.make(pod_path())
    node.restart()
    node.kubelet.lists()
    assert node.runs() == {}
    node.tree.remove(pod_path())
    assert node.runs() == {}
    assert node.machine.watch.follow([]).found() == []


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_pod_that_is_over_holds_nothing_while_its_cgroup_stays(node: Node, phase: str) -> None:
    """As for the scheduler, which gives its share to others; it ends with its cgroup."""
    node.tree.make(pod_path())
    asks = [container(requests={"cpu": "2", GPU: "1"})]
    node.kubelet.lists(pod(containers=asks))
    node.kubelet.allocates((("team", "p"), [(GPU, "GPU-a")]))
    assert node.only().devices
    node.kubelet.lists(pod(containers=asks, status={"phase": phase}))
    run = node.only()
    assert (run.quotas, run.devices, run.ended_at_ms) == (NOTHING, (), None)
    assert node.problems() == {}
    node.pass_ms(5)
    node.tree.remove(pod_path())
    assert node.only().ended_at_ms == NOW_MS + 5


# Starts and keys ---------------------------------------------------------------------------


def test_a_pod_from_before_us_began_when_the_kubelet_says(node: Node) -> None:
    """And the same after every restart, under the same key."""
    node.tree.make(pod_path())
    node.kubelet.lists(pod())
    keys = set[str]()
    for _ in range(2):
        node.restart()
        run = node.only()
        assert run.started_at_ms == STARTED_MS
        keys.add(run.key)
    assert len(keys) == 1
    assert keys.pop().startswith(f"kubernetes:{pod_path()}#")


def test_a_pod_that_came_through_a_reboot_did_not_run_meanwhile(tmp_path: Path) -> None:
    """Its start is of before the machine's: then its oldest process tells."""
    process = tmp_path / "proc" / "77"
    process.mkdir(parents=True)
    (tmp_path / "proc" / "uptime").write_text("600.00 1.00\n")
    numbers = ["1"] * 18 + ["10000"] + ["0"] * 30  # its start: 100 s after the boot
    (process / "stat").write_text(f"77 (pause) S {' '.join(numbers)}\n")
    node = Node(tmp_path, proc=tmp_path / "proc")
    node.tree.make(pod_path(), pids=(77,))
    node.restart()
    node.kubelet.lists(pod())
    node.boot_ms = STARTED_MS + 1
    assert node.only().started_at_ms == NOW_MS - 500_000


def test_a_pod_made_again_under_its_name_is_another_run(node: Node) -> None:
    """The devices of the first one are not the second one's."""
    node.tree.make(pod_path())
    node.kubelet.lists(pod("db-0"))
    node.kubelet.allocates((("team", "db-0"), [(GPU, "GPU-a")]))
    first = node.only()
    node.pass_ms(1_000)
    node.tree.remove(pod_path())
    node.tree.make(pod_path(OTHER))
    asks = [container(limits={GPU: "1"})]
    node.kubelet.lists(pod("db-0", uid=OTHER, containers=asks))
    node.kubelet.asked_at_ms = NOW_MS
    assert [run.key for run in node.provider.runs()] == [first.key]
    node.kubelet.allocates((("team", "db-0"), [(GPU, "GPU-b")]))
    node.kubelet.asked_at_ms = None
    runs = {run.key: run for run in node.provider.runs()}
    ended = runs.pop(first.key)
    (second,) = runs.values()
    assert (ended.ended_at_ms, ended.devices) == (NOW_MS + 1_000, gpus("GPU-a"))
    assert (second.started_at_ms, second.devices) == (NOW_MS + 1_000, gpus("GPU-b"))


def test_of_two_pods_of_one_name_each_keeps_its_devices(node: Node) -> None:
    """One that was deleted by force still ends while its successor runs."""
    node.tree.make(pod_path())
    node.kubelet.lists(pod("db-0"))
    node.kubelet.allocates((("team", "db-0"), [(GPU, "GPU-a")]))
    first = node.only()
    node.pass_ms(1_000)
    node.tree.make(pod_path(OTHER))
    node.kubelet.lists(pod("db-0"), pod("db-0", uid=OTHER))
    name = ("team", "db-0")
    node.kubelet.allocates((name, [(GPU, "GPU-a")]), (name, [(GPU, "GPU-b")]))
    held = {run.key == first.key: run.devices for run in node.provider.runs()}
    assert held == {True: gpus("GPU-a"), False: gpus("GPU-b")}


# Both drivers' trees -------------------------------------------------------------------------


def test_of_two_cgroups_of_one_pod_the_one_with_processes_is_metered(node: Node) -> None:
    """After a change of the driver; the other one is no run, nor is its end one."""
    old, new = pod_path(driver="cgroupfs"), pod_path()
    node.tree.make(old)
    node.tree.make(new, pids=HERE)
    node.restart()
    node.kubelet.lists(pod())
    assert node.only().cgroup == new
    node.tree.remove(old)
    assert node.only().cgroup == new
    node.tree.remove(new)
    assert node.only().cgroup == new


def test_a_container_outside_of_its_pod_is_told(node: Node) -> None:
    """What it uses is in no pod's cgroup; until it is gone."""
    stray = f"/system.slice/kubepods-pod{UID.replace('-', '_')}.slice:cri-containerd:{'5' * 64}"
    node.tree.make(pod_path())
    node.tree.make(stray)
    node.kubelet.lists(pod())
    node.runs()
    assert "same cgroup driver" in node.problems()[f"cgroup {stray}"]
    node.tree.remove(stray)
    node.runs()
    assert node.problems() == {}


# Ascend --------------------------------------------------------------------------------------


def test_the_chips_that_are_really_mounted_count(node: Node) -> None:
    """Not those of the kubelet; the pod's GPUs stay."""
    node.tree.make(pod_path())
    node.kubelet.lists(pod(annotations={"huawei.com/AscendReal": "Ascend910-6"}))
    held = [("huawei.com/Ascend910", "Ascend910-0"), (GPU, "GPU-a")]
    node.kubelet.allocates((("team", "p"), held))
    chip = DeviceShare(type=ResourceType.NPU, id="phy:6", model=None)
    assert node.only().devices == (*gpus("GPU-a"), chip)


def test_nobody_gets_chips_by_annotating_them(node: Node) -> None:
    """The kubelet has given this pod none."""
    node.tree.make(pod_path())
    node.kubelet.lists(pod(annotations={"huawei.com/AscendReal": "Ascend910-6"}))
    node.kubelet.allocates((("team", "p"), []))
    assert node.only().devices == ()


def test_the_annotation_of_a_new_pod_is_waited_for(node: Node) -> None:
    """Where nobody writes one, the kubelet's ids are the true ones."""
    node.runs()
    node.tree.make(pod_path())
    node.kubelet.lists(pod())
    node.kubelet.allocates((("team", "p"), [("huawei.com/Ascend910", "Ascend910-0")]))
    assert node.runs() == {}
    node.pass_ms(GRACE_MS)
    assert [share.id for share in node.only().devices] == ["phy:0"]


def test_it_watches_no_directories(node: Node) -> None:
    """Cgroups are heard of by their own watch."""
    assert node.provider.watch_paths() == ()
