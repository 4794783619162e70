"""What a run alone on its device is told to have used, from what the driver says."""

import pytest

from agent.errors import SamplerError
from agent.model import DEVICE_UNITS, DeviceShare, MeterKey, ReadingKind, ResourceType, Run, RunKey
from tests.unit.agent.samplers.nvidia.conftest import Boot, Load, Machine, holding
from tests.unit.agent.samplers.nvidia.stub import GIB, Stub

ONE, TWO = "GPU-00000000", "GPU-00000001"
LISTS = [
    f"nvmlDeviceGet{kind}RunningProcesses{version}"
    for kind in ("Compute", "Graphics", "MPSCompute")
    for version in ("", "_v2", "_v3")
]
PER_CENT = DEVICE_UNITS // 100


def test_a_run_alone_on_a_gpu_used_what_the_gpu_did(machine: Machine) -> None:
    """Per cent become base units; the reading is a mean since the last one."""
    run = holding("a", ONE, since_ms=machine.now_ms())
    machine.stub.gpus[0].use = 50
    machine.pass_seconds(10)
    readings = machine.sampler.sample([run])
    reading = readings[MeterKey(RunKey("a"), ResourceType.GPU, ONE)]
    assert len(readings) == 1
    assert (reading.kind, reading.value) == (ReadingKind.AVERAGE, 50 * PER_CENT)


def test_an_idle_gpu_was_observed_to_be_idle(machine: Machine) -> None:
    """Held and not used is 0; it is what cannot be read that is absent."""
    run = holding("a", ONE, since_ms=machine.now_ms())
    assert machine.after(10, run) == {("a", ONE): 0}


def test_the_mean_is_of_the_interval_and_not_of_its_end(machine: Machine) -> None:
    """The driver's buffer tells what was before; its newest mean only what is now."""
    run = holding("a", ONE, since_ms=machine.now_ms())
    machine.pass_seconds(10)
    machine.ring(0, (4, 100), (6, 10))
    machine.stub.gpus[0].use = 10
    assert machine.sample(run)["a", ONE] == pytest.approx(46 * PER_CENT, abs=PER_CENT)


def test_what_was_in_the_buffer_before_counts_once(machine: Machine) -> None:
    """The driver hands out old samples again when nothing is new; they are passed over."""
    run = holding("a", ONE, since_ms=machine.now_ms())
    machine.pass_seconds(10)
    machine.ring(0, (10, 100))
    assert machine.sample(run)["a", ONE] == 100 * PER_CENT
    machine.stub.gpus[0].use = 20
    assert machine.after(10, run)["a", ONE] == 20 * PER_CENT
    assert machine.after(10, run)["a", ONE] == 20 * PER_CENT


def test_a_run_that_began_within_the_interval_is_told_its_own_time(machine: Machine) -> None:
    """What the device did before is not its use."""
    machine.look()
    machine.pass_seconds(10)
    machine.ring(0, (6, 0), (4, 80))
    run = holding("a", ONE, since_ms=machine.now_ms() - 4_000)
    assert machine.sample(run)["a", ONE] == pytest.approx(80 * PER_CENT, abs=PER_CENT)


def test_a_run_that_has_ended_is_told_up_to_its_end(machine: Machine) -> None:
    """Also one that began and ended between two looks; what came after is not its use."""
    machine.look()
    machine.pass_seconds(10)
    machine.ring(0, (2, 0), (5, 60), (3, 0))
    now_ms = machine.now_ms()
    run = holding("a", ONE, since_ms=now_ms - 8_000, ended_ms=now_ms - 3_000)
    assert machine.sample(run)["a", ONE] == pytest.approx(60 * PER_CENT, abs=2 * PER_CENT)
    assert machine.after(10, run) == {}


def test_every_meter_has_its_own_last_reading(machine: Machine) -> None:
    """A look at some runs takes nothing from the others' interval."""
    one = holding("a", ONE, since_ms=machine.now_ms())
    two = holding("b", TWO, since_ms=machine.now_ms())
    machine.stub.gpus[0].use = machine.stub.gpus[1].use = 100
    machine.after(4, one)
    machine.stub.gpus[0].use = machine.stub.gpus[1].use = 0
    assert machine.after(6, one, two) == {("a", ONE): 0, ("b", TWO): 40 * PER_CENT}


def test_a_run_uses_no_more_than_its_share(machine: Machine) -> None:
    """Half a device holds at most half a device, also when the other half is free."""
    run = holding("a", (ONE, DEVICE_UNITS // 2), since_ms=machine.now_ms())
    machine.stub.gpus[0].use = 80
    assert machine.after(10, run) == {("a", ONE): DEVICE_UNITS // 2}
    machine.stub.gpus[0].use = 30
    assert machine.after(10, run) == {("a", ONE): 30 * PER_CENT}


def test_two_parts_of_one_device_are_one_meter(machine: Machine) -> None:
    """Two replicas of four are half a device."""
    quarter = (ONE, DEVICE_UNITS // 4)
    run = holding("a", quarter, quarter, since_ms=machine.now_ms())
    machine.stub.gpus[0].use = 100
    assert machine.after(10, run) == {("a", ONE): DEVICE_UNITS // 2}


def test_processes_of_an_exclusive_gpu_are_not_asked_for(machine: Machine) -> None:
    """A list holds the driver's lock for milliseconds, and says nothing that is needed."""
    machine.use(0, (4711, 50))
    machine.stub.gpus[0].use = 50
    runs = [holding(str(at), f"GPU-{at:08x}", since_ms=machine.now_ms()) for at in range(8)]
    for _ in range(3):
        assert len(machine.after(10, *runs)) == 8
    asked = [*LISTS, "nvmlDeviceGetProcessUtilization", "nvmlDeviceGetAccountingMode"]
    assert [machine.stub.calls(name) for name in asked] == [0] * len(asked)


def test_runs_after_one_another_share_nothing(machine: Machine) -> None:
    """Each used what the device did in its time; no process is asked for."""
    start_ms = machine.now_ms()
    machine.look()
    machine.pass_seconds(10)
    machine.ring(0, (5, 90), (5, 30))
    first = holding("a", ONE, since_ms=start_ms, ended_ms=start_ms + 5_000)
    second = holding("b", ONE, since_ms=start_ms + 5_000)
    found = machine.sample(first, second)
    assert found["a", ONE] == pytest.approx(90 * PER_CENT, abs=2 * PER_CENT)
    assert found["b", ONE] == pytest.approx(30 * PER_CENT, abs=2 * PER_CENT)
    assert machine.stub.calls("nvmlDeviceGetProcessUtilization") == 0


def test_what_no_gpu_of_ours_is_gives_no_reading(machine: Machine) -> None:
    """Unresolved devices, and those of other vendors."""
    npu = DeviceShare(type=ResourceType.NPU, id="NPU-1", model="m")
    run = holding("a", "GPU-elsewhere", since_ms=machine.now_ms())
    other = Run(
        key=RunKey("b"),
        provider="files",
        job_id="b",
        job_name="b",
        started_at_ms=machine.now_ms(),
        quotas={},
        devices=(npu,),
    )
    assert machine.after(10, run, other) == {}


def test_runs_without_gpus_ask_the_driver_nothing(machine: Machine) -> None:
    """A node's CPU jobs wait for no driver."""
    before = machine.stub.calls("nvmlDeviceGetUtilizationRates")
    assert machine.after(10, holding("a", since_ms=machine.now_ms())) == {}
    assert machine.stub.calls("nvmlDeviceGetUtilizationRates") == before


def test_looks_close_to_each_other_share_one_of_the_driver(machine: Machine) -> None:
    """A storm of starts and ends is no storm of calls."""
    run = holding("a", ONE, since_ms=machine.now_ms())
    machine.after(10, run)
    before = machine.stub.calls("nvmlDeviceGetSamples")
    for _ in range(20):
        machine.after(0.004, run)
    assert machine.stub.calls("nvmlDeviceGetSamples") == before


def test_a_clock_that_is_set_changes_nothing(machine: Machine) -> None:
    """An hour either way: samples go on being new, and lie where they lie."""
    run = holding("a", ONE, since_ms=machine.now_ms())
    machine.stub.gpus[0].use = 10
    for step_ms in (-3_600_000, 7_200_000):
        machine.pass_seconds(10)
        machine.ring(0, (10, 10))
        assert machine.sample(run)["a", ONE] == 10 * PER_CENT
        machine.time.step_ms(step_ms)
        for _ in range(2):  # after a step back the buffer is out of reach for so long
            machine.pass_seconds(10)
            machine.ring(0, (10, 10))
            assert machine.sample(run)["a", ONE] == 10 * PER_CENT
        machine.pass_seconds(10)
        machine.ring(0, (5, 100), (5, 0))
        assert machine.sample(run)["a", ONE] == pytest.approx(50 * PER_CENT, abs=2 * PER_CENT)


def test_a_short_buffer_is_emptied_in_time(machine: Machine) -> None:
    """One that holds 3 s of 10 is asked for more often, as long as somebody holds a GPU."""
    run = holding("a", ONE, since_ms=machine.now_ms())
    for _ in range(2):
        machine.pass_seconds(10)
        machine.ring(0, (3, 50), step_ms=20)
        machine.sample(run)
    assert 1_000 <= machine.sampler._pause_ms() <= 3_000
    machine.sampler.forget([run.key])
    assert machine.sampler._pause_ms() > 10_000


def test_a_forgotten_run_leaves_the_device_to_the_others(machine: Machine) -> None:
    """Also one that nobody names any more and nobody forgets."""
    first = holding("a", ONE, since_ms=machine.now_ms())
    machine.stub.gpus[0].use = 40
    machine.after(10, first)
    machine.sampler.forget([first.key])
    second = holding("b", ONE, since_ms=machine.now_ms())
    assert machine.after(10, second) == {("b", ONE): 40 * PER_CENT}
    machine.sampler.forget([second.key])
    third = holding("c", ONE, since_ms=machine.now_ms())
    machine.after(10, third)
    fourth = holding("d", ONE, since_ms=machine.now_ms() + 25_000)
    machine.after(25, fourth)
    assert machine.after(10, fourth) == {("d", ONE): 40 * PER_CENT}


# MIG -------------------------------------------------------------------------------------


def test_a_mig_device_is_told_by_gpm(stub: Stub, boot: Boot) -> None:
    """From Hopper on: per cent of the instance become base units of the slice."""
    gpu = stub.gpus[0]
    gpu.max_migs, gpu.has_gpm = 7, 1
    uuid = gpu.cut(2, slices=2)
    machine = boot(stub)
    gpu.migs[2].use = 75
    run = holding("a", (uuid, 36_000), since_ms=machine.now_ms())
    assert machine.after(10, run) == {("a", uuid): 27_000}


def test_a_mig_device_without_gpm_is_unobserved(stub: Stub, boot: Boot) -> None:
    """Before Hopper nothing tells; that is not 0. The GPU as a whole does not tell either."""
    gpu = stub.gpus[0]
    gpu.max_migs = 7
    uuid = gpu.cut(0, slices=2)
    machine = boot(stub)
    runs = [
        holding("a", (uuid, 36_000), since_ms=machine.now_ms()),
        holding("b", ONE, since_ms=machine.now_ms()),
    ]
    for _ in range(3):
        assert machine.after(10, *runs) == {}
    assert stub.calls("nvmlDeviceGetUtilizationRates") == 1 + 4 * 7  # the others go on
    assert stub.calls("nvmlDeviceGetSamples") == 1 + 7 + 4 * 7  # their first time for the size
    assert stub.calls("nvmlGpmQueryDeviceSupport") == 1


def test_compute_instances_of_one_gpu_instance_cannot_be_told_apart(stub: Stub, boot: Boot) -> None:
    """GPM tells of the GPU instance that they share."""
    gpu = stub.gpus[0]
    gpu.max_migs, gpu.has_gpm = 7, 1
    uuids = [gpu.cut(at, slices=2, compute=1, instance=4) for at in range(2)]
    machine = boot(stub)
    run = holding("a", (uuids[0], 18_000), since_ms=machine.now_ms())
    assert machine.after(10, run) == {}


# For people ------------------------------------------------------------------------------


def test_the_state_shows_use_memory_and_energy(machine: Machine) -> None:
    """What the driver keeps of the memory for itself is not used."""
    machine.stub.gpus[0].use = 30
    machine.look(10)
    state = machine.sampler.state()
    assert (state.version, state.failure) == ("610.1.stub", None)
    assert state.looked_at_ms == machine.now_ms()
    first = state.devices[0]
    assert (first.id, first.is_up, first.busy, first.trouble) == (ONE, True, 30 * PER_CENT, None)
    assert (first.memory_used_bytes, first.memory_total_bytes) == (GIB, 40 * GIB)
    assert first.energy_mj == 1_000_000


def test_energy_never_falls(machine: Machine) -> None:
    """The driver's counter begins at 0 whenever it is loaded."""
    machine.stub.gpus[0].energy_mj = 5_000
    machine.look(10)
    machine.stub.gpus[0].energy_mj = 7_000
    machine.look(10)
    assert machine.sampler.state().devices[0].energy_mj == 1_007_000


def test_an_old_driver_tells_its_memory_in_the_old_way(load: Load, boot: Boot) -> None:
    """Before 515; it is not asked for the new way each time. No energy before Volta."""
    stub = load("old")
    stub.fail("nvmlDeviceGetTotalEnergyConsumption", 3)
    machine = boot(stub)
    machine.look(10)
    first = machine.sampler.state().devices[0]
    assert first.memory_used_bytes == GIB + GIB // 2
    assert first.energy_mj is None
    assert stub.calls("nvmlDeviceGetTotalEnergyConsumption") == 8


def test_samples_are_read_as_what_the_driver_says_that_they_are(machine: Machine) -> None:
    """Doubles as well as whole numbers; what is no percentage is no sample."""
    machine.stub.driver.is_double = 1
    run = holding("a", ONE, since_ms=machine.now_ms())
    machine.pass_seconds(10)
    machine.ring(0, (5, 40), (5, 60))
    machine.stub.gpus[0].values[7] = 4_000_000_000
    assert machine.sample(run)["a", ONE] == pytest.approx(50 * PER_CENT, abs=PER_CENT)


def test_a_buffer_that_grew_is_measured_again(machine: Machine) -> None:
    """The driver's own mean holds for that one time."""
    run = holding("a", ONE, since_ms=machine.now_ms())
    machine.stub.gpus[0].use = 30
    machine.after(10, run)
    machine.stub.fail("nvmlDeviceGetSamples", 7)
    assert machine.after(10, run) == {("a", ONE): 30 * PER_CENT}
    machine.stub.heal()
    machine.pass_seconds(10)
    machine.ring(0, (10, 80))
    assert machine.sample(run)["a", ONE] == pytest.approx(80 * PER_CENT, abs=PER_CENT)


def test_a_mean_that_is_none_is_unobserved(machine: Machine) -> None:
    """More than all is nonsense, not all."""
    run = holding("a", ONE, since_ms=machine.now_ms())
    machine.stub.gpus[0].use = 4_000_000_000
    assert machine.after(10, run) == {}


def test_a_mig_device_whose_figure_fails_is_unobserved_that_time(stub: Stub, boot: Boot) -> None:
    """And its samples are given back with the session."""
    gpu = stub.gpus[0]
    gpu.max_migs, gpu.has_gpm = 7, 1
    uuid = gpu.cut(0, slices=1)
    machine = boot(stub)
    run = holding("a", (uuid, 18_000), since_ms=machine.now_ms())
    gpu.migs[0].use = 50
    stub.fail("nvmlGpmMetricsGet", 21)
    assert machine.after(10, run) == {}
    stub.heal()
    assert machine.after(10, run) == {("a", uuid): 9_000}
    stub.fail(LISTS[0], 3)
    stub.fail("nvmlDeviceGetMigMode", 1)
    machine.look(60)
    assert stub.calls("nvmlGpmSampleFree") == stub.calls("nvmlGpmSampleAlloc") == 2


def test_what_nobody_foresaw_is_a_failure_and_passes(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    """It is in the log with its traceback; nothing is told of that time."""
    run = holding("a", ONE, since_ms=machine.now_ms())
    machine.stub.gpus[0].use = 50
    machine.stub.gpus[0].name = b"\xff\xfe"  # the binding cannot read it
    machine.stub.fail("*", 15, gpu=7)
    machine.look(10)
    machine.stub.heal()
    with pytest.raises(SamplerError, match="UnicodeDecodeError"):
        machine.after(15, run)
    assert "UnicodeDecodeError" in caplog.text
    machine.stub.gpus[0].name = b"NVIDIA H200"
    assert machine.stub.calls("nvmlShutdown") == machine.stub.calls("nvmlInitWithFlags") == 2
    machine.look(60)
    assert machine.after(10, run) == {("a", ONE): 50 * PER_CENT}
    assert machine.devices()[ONE].model == "NVIDIA H200"
