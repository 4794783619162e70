"""The survey and the sampler on the stub of the driver's library, with a clock of the test's."""

import os
from pathlib import Path

import pytest

from agent.background import Background
from agent.errors import SamplerError
from agent.model import Device, DeviceShare, ResourceType, Run, RunKey
from agent.procfs import ProcFs
from agent.samplers import DeviceSampler
from agent.samplers.ascend.dcmi import DcmiSource
from agent.samplers.ascend.sampler import AscendSampler
from agent.samplers.ascend.survey import Surveyor
from tests.unit.agent.samplers.ascend.stub import DcmiStub

SECOND = 1000
RATE = "dcmi_get_device_utilization_rate"


class Bench:
    """A node whose driver is asked when the test says so."""

    def __init__(self, source: DcmiSource, proc: str = "/proc") -> None:
        self.now_ms = 1_000_000
        self.wakes = 0
        self.surveyor = Surveyor(source, lambda: self.now_ms, self._wake)
        self._background = Background(
            "ascend", self.surveyor.look, every_seconds=2, now_ms=lambda: 0, told=self.surveyor.told
        )
        self.sampler = AscendSampler(
            self.surveyor,
            self._background,
            interval_ms=10 * SECOND,
            monotonic_ms=lambda: self.now_ms,
            procfs=ProcFs(proc),
        )

    def _wake(self) -> None:
        self.wakes += 1

    def look(self, *, after: int = 2) -> None:
        """Let time pass, and then a round, as the thread would do it."""
        self.now_ms += after * SECOND
        self._background._attempt()
        self.surveyor.told()

    def used(self, *runs: Run) -> dict[str, int]:
        return {key.run: reading.value for key, reading in self.sampler.sample(runs).items()}

    def ups(self) -> list[bool]:
        return [device.is_up for device in self.sampler.devices()]


@pytest.fixture
def bench(dcmi: DcmiStub, source: DcmiSource) -> Bench:
    """Two whole NPUs, seen once."""
    dcmi.add(0)
    dcmi.add(1)
    bench = Bench(source)
    bench.look()
    return bench


def holder(
    device: Device, key: str = "run", share: int = 126_000, cgroup: str | None = None
) -> Run:
    return Run(
        key=RunKey(key),
        provider="files",
        job_id=key,
        job_name=key,
        started_at_ms=0,
        quotas={},
        devices=(
            DeviceShare(type=ResourceType.NPU, id=device.id, model=device.model, share=share),
        ),
        cgroup=cgroup,
    )


def first(bench: Bench) -> Device:
    return bench.sampler.devices()[0]


def test_it_is_a_device_sampler(bench: Bench) -> None:
    """With the inventory after its first round."""
    assert isinstance(bench.sampler, DeviceSampler)
    names = [device.names for device in bench.sampler.devices()]
    assert names == [{"0", "phy:0"}, {"1", "phy:1"}]
    assert bench.wakes == 1


def test_utilisation_is_averaged_over_the_interval(bench: Bench, dcmi: DcmiStub) -> None:
    """0, 100, 100, 0, 0, 0 per cent two seconds apart: 40 % of ten seconds."""
    run = holder(first(bench))
    dcmi.percent(0, npu=0)
    bench.look()
    assert bench.used(run) == {"run": 0}
    for percent in (100, 100, 0, 0, 0):
        dcmi.percent(0, npu=percent)
        bench.look()
    assert bench.used(run) == {"run": 50_400}


def test_a_look_that_failed_leaves_a_hole(bench: Bench, dcmi: DcmiStub) -> None:
    """What was between is neither 0 nor what it was before or after."""
    run = holder(first(bench))
    dcmi.percent(0, npu=100)
    bench.look()
    bench.used(run)
    bench.look()
    dcmi.fail(RATE, -8012, times=1, at=(0, 0))
    dcmi.percent(0, npu=0)
    bench.look()
    bench.look()
    assert bench.used(run) == {"run": 126_000}
    bench.look()
    assert bench.used(run) == {"run": 0}


def test_looks_far_apart_do_not_follow_each_other(bench: Bench, dcmi: DcmiStub) -> None:
    """The machine was busy, or the driver hung: the time between is not known."""
    run = holder(first(bench))
    dcmi.percent(0, npu=100)
    bench.look()
    bench.used(run)
    bench.look(after=40)
    assert bench.used(run) == {}


def test_a_stale_survey_is_a_failure(bench: Bench, dcmi: DcmiStub) -> None:
    """After one and a half intervals; the message says what the driver said."""
    run = holder(first(bench))
    dcmi.percent(0, npu=50)
    bench.look()
    assert bench.used(run) == {"run": 63_000}
    dcmi.fail(RATE, -8006)
    for _ in range(8):
        bench.look()
    with pytest.raises(SamplerError, match=r"says nothing for 1\d s: .*timeout"):
        bench.used(run)
    dcmi.fail(RATE, 0, times=0)
    bench.look()
    assert bench.used(run) == {}
    bench.look()
    assert bench.used(run) == {"run": 63_000}


def test_a_driver_that_never_answered_is_a_failure_at_once(
    dcmi: DcmiStub, source: DcmiSource
) -> None:
    """And while it is asked for the first time, it is none yet."""
    bench = Bench(source)
    assert bench.used() == {}
    dcmi.fail("dcmi_init", -8005)
    bench.look()
    with pytest.raises(SamplerError, match="does not answer: dcmi_init"):
        bench.used()
    assert list(bench.sampler.devices()) == []


def test_a_driver_that_hangs_from_the_start_is_a_failure(source: DcmiSource) -> None:
    """There is no answer, and no failure either."""
    bench = Bench(source)
    bench.now_ms += 16 * SECOND
    with pytest.raises(SamplerError, match="says nothing for 16 s: no answer"):
        bench.used()


def test_a_dead_drivers_devices_are_down(bench: Bench, dcmi: DcmiStub) -> None:
    """Not after one hiccup, but after a minute; up again with its first answer."""
    dcmi.fail("dcmi_get_card_list", -8012)
    bench.look(after=50)
    assert bench.ups() == [True, True]
    bench.look(after=11)
    assert bench.ups() == [False, False]
    assert bench.sampler.devices() is bench.sampler.devices()
    dcmi.fail("dcmi_get_card_list", 0, times=0)
    bench.look()
    assert bench.ups() == [True, True]


def test_a_lost_device_is_down_at_once_and_up_when_it_is_back(bench: Bench, dcmi: DcmiStub) -> None:
    """It stays in the inventory, and the daemon is woken for both."""
    run = holder(first(bench))
    dcmi.fail(RATE, -8008, at=(0, 0))
    dcmi.fail("dcmi_get_device_type", -8008, at=(0, 0))
    bench.look()
    assert bench.ups() == [False, True]
    assert bench.used(run) == {}
    bench.look()
    assert bench.ups() == [False, True]
    assert bench.wakes == 2
    dcmi.fail(RATE, 0, times=0)
    dcmi.fail("dcmi_get_device_type", 0, times=0)
    dcmi.percent(0, npu=20)
    bench.look(after=10)
    assert bench.ups() == [True, True]
    assert bench.wakes == 3


def test_a_device_that_was_lost_is_asked_for_at_once(bench: Bench, dcmi: DcmiStub) -> None:
    """Not when the next inventory is due."""
    dcmi.fail(RATE, -8007, times=1, at=(0, 0))
    bench.look()
    assert bench.ups() == [False, True]
    bench.look()
    assert bench.ups() == [True, True]


def test_the_inventory_is_the_same_object_while_nothing_changes(bench: Bench) -> None:
    """The daemon compares by identity."""
    before = bench.sampler.devices()
    bench.look(after=12)
    bench.look(after=12)
    assert bench.sampler.devices() is before
    assert bench.wakes == 1


def test_vnpus_are_metered_by_their_own_utilisation(dcmi: DcmiStub, source: DcmiSource) -> None:
    """Half of a quarter of the chip; of the chip itself nothing is known."""
    dcmi.add(0, aicores=20)
    dcmi.vdev(0, 0, 100, "vir05_1c_16g", 50)
    bench = Bench(source)
    bench.look()
    bench.look()
    whole, part = bench.sampler.devices()
    assert part.parent == whole.id
    runs = holder(part, "part", share=31_500), holder(whole, "whole")
    assert bench.used(*runs) == {"part": 15_750}


def test_a_destroyed_vnpu_is_down_and_a_new_one_of_its_number_is_itself(
    dcmi: DcmiStub, source: DcmiSource
) -> None:
    """Numbers are given out again, with other templates."""
    dcmi.add(0, aicores=20)
    dcmi.vdev(0, 0, 100, "vir05_1c_16g")
    bench = Bench(source)
    bench.look()
    dcmi.no_vdevs(0)
    bench.look(after=12)
    assert bench.ups() == [True, False]
    dcmi.vdev(0, 0, 100, "vir10_3c_32g")
    bench.look(after=12)
    assert [(device.units, device.is_up) for device in bench.sampler.devices()] == [
        (126_000, True),
        (63_000, True),
    ]


def saved_process(proc: Path, pid: int, cgroup: str, parent: int = 1) -> None:
    folder = proc / str(pid)
    folder.mkdir()
    (folder / "cgroup").write_text(f"4:memory:{cgroup}\n0::/elsewhere\n")
    (folder / "stat").write_text(f"{pid} (x) S {parent} " + "0 " * 48)


def test_of_a_shared_npu_the_only_run_with_processes_has_all(
    dcmi: DcmiStub, source: DcmiSource, tmp_path: Path
) -> None:
    """By the cgroups of the processes that the driver names, or by their parents."""
    dcmi.add(0)
    dcmi.percent(0, npu=40)
    bench = Bench(source, str(tmp_path))
    bench.look()
    left = holder(first(bench), "left", 63_000, cgroup="/jobs/left")
    right = holder(first(bench), "right", 63_000, cgroup="/jobs/leftover")
    bench.look()
    assert bench.used(left, right) == {}
    saved_process(tmp_path, 1234, "/jobs/left/step")
    dcmi.process(0, 0, 1234)
    bench.look()
    assert bench.used(left, right) == {"left": 50_400, "right": 0}
    saved_process(tmp_path, 1235, "/jobs/leftover")
    dcmi.process(0, 0, 1235)
    bench.look()
    assert bench.used(left, right) == {}
    bench.sampler.forget([right.key])
    bench.look()
    assert bench.used(left) == {"left": 50_400}


def test_a_process_of_nobody_we_know_leaves_all_unknown(
    dcmi: DcmiStub, source: DcmiSource, tmp_path: Path
) -> None:
    """It may have done all the work."""
    dcmi.add(0)
    dcmi.percent(0, npu=40)
    bench = Bench(source, str(tmp_path))
    bench.look()
    by_pid = Run(
        key=RunKey("tree"),
        provider="files",
        job_id="tree",
        job_name="tree",
        started_at_ms=0,
        quotas={},
        devices=holder(first(bench)).devices,
        pids=(os.getpid(), 77),
    )
    other = holder(first(bench), "other", cgroup="/jobs/other")
    bench.look()
    bench.used(by_pid, other)
    saved_process(tmp_path, 77, "/")
    saved_process(tmp_path, 78, "/", parent=77)
    dcmi.process(0, 0, 78)
    bench.look()
    assert bench.used(by_pid, other) == {"tree": 50_400, "other": 0}
    dcmi.process(0, 0, 79)
    bench.look()
    assert bench.used(by_pid, other) == {}
