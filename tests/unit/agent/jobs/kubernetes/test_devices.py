"""What device ids of each plugin mean, and how much of a device is held."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.devices import Inventory
from agent.jobs.kubernetes.ascend import annotated_npus
from agent.jobs.kubernetes.devices import (
    MAX_DEVICES,
    Held,
    Holding,
    count_replicas,
    holding_of,
    take_apart,
)
from agent.model import DEVICE_UNITS, Device, DeviceShare, ResourceType, Run, RunKey
from tests.unit.agent.jobs.kubernetes.manifests import KINDS

GPU = "GPU-3f5d1c4e-8a1b-4d6e-9b11-0d2f5c7a9e01"
MIG = "MIG-7d0a1b2c-1111-5222-8333-444455556666"
WHOLE = (0, 1, 1)


def holding(*held: Held, replicas: dict[str, int] | None = None) -> Holding:
    return holding_of(held, KINDS, replicas or {})


def only(*held: Held, replicas: dict[str, int] | None = None) -> DeviceShare:
    (share,) = holding(*held, replicas=replicas).devices
    return share


@pytest.mark.parametrize(
    ("resource", "text", "name"),
    [
        ("nvidia.com/gpu", GPU, GPU),
        ("nvidia.com/mig-1g.5gb", MIG, MIG),
        ("nvidia.com/gpu", MIG, MIG),
        ("nvidia.com/gpu", "nvidia0", "nvidia0"),
        ("nvidia.com/gpu", "nvidia0/gi1", "nvidia0/gi1"),
        ("gpu.nvidia.com", "gpu-3", "minor:3"),
        ("gpu.nvidia.com", "gpu-0-mig-9-0-1", "gpu-0-mig-9-0-1"),
    ],
)
def test_a_gpu_is_called_as_its_plugin_calls_it(resource: str, text: str, name: str) -> None:
    """NVIDIA's uuids, Google's numbers, the names of claims; the inventory knows them."""
    share = only((resource, text))
    assert (share.type, share.id, share.part) == (ResourceType.GPU, name, WHOLE)
    assert share.model is None


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (f"{GPU}::2", GPU),
        (f"{MIG}::2", MIG),
        ("nvidia0/vgpu2", "nvidia0"),
        ("nvidia0/gi1/vgpu2", "nvidia0/gi1"),
    ],
)
def test_a_replica_is_a_part_of_its_device(text: str, name: str) -> None:
    """The third of four, however many this pod holds."""
    share = only(("nvidia.com/gpu.shared", text), replicas={name: 4})
    assert (share.id, share.part) == (name, (2, 3, 4))


def test_the_replicas_of_a_device_add_up_to_it() -> None:
    """Also where they are no whole base units: 11 shares of 126,000."""
    every: list[Held] = [("nvidia.com/gpu", f"{GPU}::{at}") for at in range(11)]
    counted = count_replicas(take_apart(every, KINDS))
    assert counted == {GPU: 11}
    runs = [
        Run(
            key=RunKey(str(at)),
            provider="kubernetes",
            job_id="j",
            job_name="j",
            started_at_ms=0,
            quotas={},
            devices=holding_of([one], KINDS, counted).devices,
        )
        for at, one in enumerate(every)
    ]
    device = Device(type=ResourceType.GPU, id=GPU, model="A100")
    resolved = Inventory([device]).resolve(runs)
    assert sum(share.share for run in resolved for share in run.devices) == DEVICE_UNITS


def test_a_replica_of_unknown_many_is_the_last_one() -> None:
    """So much there is at least."""
    assert only(("nvidia.com/gpu", f"{GPU}::3")).part == (3, 4, 4)


def test_what_containers_share_counts_once() -> None:
    """An init container's devices are used again by the others."""
    held = [("nvidia.com/gpu", GPU), ("nvidia.com/gpu", GPU), ("nvidia.com/gpu", "nvidia1")]
    assert [share.id for share in holding(*held).devices] == [GPU, "nvidia1"]


@given(st.permutations([("nvidia.com/gpu", f"GPU-{at}") for at in range(5)]))
def test_the_order_of_the_answer_does_not_matter(held: list[Held]) -> None:
    """The kubelet's maps have none, and a run must not change with it."""
    assert [share.id for share in holding(*held).devices] == [f"GPU-{at}" for at in range(5)]


@pytest.mark.parametrize(
    "resource",
    ["cpu", "rdma/hca", "intel.com/qat", "compute-domain.nvidia.com", "x.nvidia.com/gpu"],
)
def test_other_resources_are_no_devices(resource: str) -> None:
    """Only what the settings name is metered."""
    assert holding((resource, "whatever")) == Holding()


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Ascend910-14", "phy:14"),
        ("Ascend310P-3", "phy:3"),
        ("npu-5", "phy:5"),
        ("davinci7", "phy:7"),
        ("12", "phy:12"),
        ("worker-a01_6", "phy:6"),
        ("Ascend910-2c-100-0", "phy:100"),
        ("Ascend310P-4c.3cpu.ndvpp-117-1", "phy:117"),
        ("Ascend910-5c.1cpu.16g-101-0", "phy:101"),
        ("something else", "something else"),
    ],
)
def test_an_npu_is_called_by_its_physical_number(text: str, name: str) -> None:
    """A vNPU by its own, which is its number on the node; what is not understood by its id."""
    for resource in ("huawei.com/Ascend910", "huawei.com/npu", "npu.huawei.com/NPU"):
        share = only((resource, text))
        assert (share.type, share.id, share.part) == (ResourceType.NPU, name, WHOLE)


def test_a_shared_chip_has_replicas_too() -> None:
    """As the Ascend plugin counts them: chip, then share."""
    held: Held = ("huawei.com/Ascend310P", "Ascend310P-2-7")
    assert count_replicas(take_apart([held], KINDS)) == {"phy:2": 1}
    assert only(held, replicas={"phy:2": 100}).part == (7, 8, 100)


def test_ids_of_ai_cores_name_no_chip() -> None:
    """The annotation does; but that there are NPUs is known."""
    found = holding(("huawei.com/npu-core", "npu-core-0"), ("huawei.com/npu-core", "npu-core-1"))
    assert (found.devices, found.has_npus) == ((), True)


def npus(**annotations: str) -> list[tuple[str, tuple[int, int, int]]] | None:
    names = {
        "real": "huawei.com/AscendReal",
        "core": "huawei.com/npu-core",
        "soft": "huawei.com/scheduler.softShareDev.aicoreQuota",
    }
    found = annotated_npus({names[name]: text for name, text in annotations.items()})
    return None if found is None else [(share.id, share.part) for share in found]


@pytest.mark.parametrize(
    "text",
    ["Ascend910-14,Ascend910-15", "Ascend910-15 Ascend910-14", "Ascend910-15, Ascend910-14,"],
)
def test_the_real_chips_are_annotated(text: str) -> None:
    """Separated by commas or spaces."""
    assert npus(real=text) == [("phy:14", WHOLE), ("phy:15", WHOLE)]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("0-vir02", (0, 2, 8)),
        ("0-vir04_3c_ndvpp", (0, 4, 8)),
        ("0-vir05_1c_16g", (0, 5, 20)),
        ("0-vir12_3c_32g", (0, 12, 24)),
        ("0-vir16", (0, 16, 32)),
        ("0", WHOLE),
        ("0-vir00", WHOLE),
    ],
)
def test_a_template_is_so_many_ai_cores_of_a_chip(text: str, part: tuple[int, int, int]) -> None:
    """Of 8, 20, 24 or 32, which the template's own number tells."""
    assert npus(core=text) == [("phy:0", part)]


def test_a_soft_share_is_so_many_per_cent() -> None:
    """Nonsense is the whole chip, not nothing."""
    assert npus(real="Ascend910-3", soft="25") == [("phy:3", (0, 25, 100))]
    for nonsense in ("100", "0", "-5", "lots", "1000", "", "\N{ARABIC-INDIC DIGIT FIVE}"):
        assert npus(real="Ascend910-3", soft=nonsense) == [("phy:3", WHOLE)]


def test_annotations_in_the_order_of_their_weight() -> None:
    """What is really mounted comes before the template; nothing is nothing."""
    assert npus(real="Ascend310P-2c-100-0", core="0-vir02") == [("phy:100", WHOLE)]
    assert npus(core="nonsense") is None
    assert npus(real=" , ") is None
    assert npus() is None


@given(st.text(max_size=40), st.text(max_size=40), st.text(max_size=4))
def test_no_annotation_holds_more_than_whole_chips(real: str, core: str, soft: str) -> None:
    """Whatever somebody writes there."""
    for shares in (npus(real=real, soft=soft), npus(core=core)):
        for _, (first, through, of) in shares or []:
            assert 0 <= first < through <= of


@given(st.lists(st.tuples(st.sampled_from(["nvidia.com/gpu", "huawei.com/npu"]), st.text())))
def test_no_id_holds_more_than_one_device(held: list[Held]) -> None:
    """And each fits a bill."""
    for share in holding_of(held, KINDS, {}).devices:
        first, through, of = share.part
        assert 0 <= first < through <= of
        assert 1 <= len(share.id) <= 256


def test_devices_beyond_all_measure_are_cut() -> None:
    """No pod holds so many."""
    held = [("nvidia.com/gpu", f"GPU-{at}") for at in range(MAX_DEVICES + 10)]
    assert len(holding(*held).devices) == MAX_DEVICES
