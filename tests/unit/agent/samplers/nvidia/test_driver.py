"""A driver that fails: each of its codes has its consequence, and none is a zero."""

import pynvml
import pytest

from agent.errors import SamplerError
from agent.model import DEVICE_UNITS, Run
from agent.samplers.nvidia.library import Library, NvmlError
from tests.unit.agent.conftest import wait_until
from tests.unit.agent.samplers.nvidia.conftest import Boot, Machine, holding, write_gpu
from tests.unit.agent.samplers.nvidia.stub import Stub

ONE, TWO = "GPU-00000000", "GPU-00000001"
PER_CENT = DEVICE_UNITS // 100
RATES, SAMPLES = "nvmlDeviceGetUtilizationRates", "nvmlDeviceGetSamples"
ALL = {f"GPU-{at:08x}" for at in range(8)}


def failure(machine: Machine, *runs: Run) -> str:
    """What the sampler says instead of readings."""
    with pytest.raises(SamplerError) as caught:
        machine.sampler.sample(runs)
    return str(caught.value)


# One call --------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [3, 4, 13, 25, 26])
def test_what_a_gpu_does_not_have_is_asked_once(stub: Stub, boot: Boot, code: int) -> None:
    """Not supported, not allowed, not there, another version, out of date."""
    stub.fail(SAMPLES, code)
    stub.fail("nvmlDeviceGetTotalEnergyConsumption", code, gpu=3)
    machine = boot(stub)
    run = holding("a", ONE, since_ms=machine.now_ms())
    stub.gpus[0].use = 50
    for _ in range(3):
        assert machine.after(10, run) == {("a", ONE): 50 * PER_CENT}
    assert stub.calls(SAMPLES) == 8
    assert stub.calls("nvmlDeviceGetTotalEnergyConsumption") == 1 + 4 * 7
    assert machine.up() == ALL


@pytest.mark.parametrize("code", [10, 17, 19, 20, 21, 23, 27, 29, 999])
def test_what_may_work_next_time_is_tried_next_time(machine: Machine, code: int) -> None:
    """One GPU in trouble is unobserved meanwhile, and up; the others go on."""
    now_ms = machine.now_ms()
    runs = [holding("a", ONE, since_ms=now_ms), holding("b", TWO, since_ms=now_ms)]
    machine.stub.gpus[0].use = machine.stub.gpus[1].use = 50
    machine.stub.fail(RATES, code, gpu=0)
    machine.stub.fail(SAMPLES, code, gpu=0)
    for _ in range(4):
        assert machine.after(10, *runs) == {("b", TWO): 50 * PER_CENT}
    state = machine.sampler.state()
    assert state.devices[0].trouble is not None
    assert f"({code})" in state.devices[0].trouble or f"error {code}" in state.devices[0].trouble
    assert (state.devices[0].is_up, state.devices[0].busy, state.failure) == (True, None, None)
    machine.stub.heal()
    assert machine.after(10, *runs) == {("a", ONE): 50 * PER_CENT, ("b", TWO): 50 * PER_CENT}
    assert machine.stub.calls("nvmlInitWithFlags") == 1
    assert machine.sampler.state().devices[0].trouble is None


def test_nothing_but_errors_from_all_gpus_begins_anew(machine: Machine) -> None:
    """As within a container after a reload of the service manager: for ever Unknown Error."""
    machine.stub.fail(RATES, 999)
    machine.stub.fail(SAMPLES, 999)
    machine.look(10)
    machine.look(10)
    assert machine.up() == ALL
    machine.look(10)
    assert "999" in failure(machine)
    assert machine.up() == set()
    machine.stub.heal()
    machine.look(2)
    assert machine.up() == ALL
    assert machine.stub.calls("nvmlInitWithFlags") == 2


# One GPU ---------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [15, 16, 28])
def test_a_lost_gpu_is_down_and_its_runs_are_unobserved(machine: Machine, code: int) -> None:
    """It stays in the inventory, under its names; it is asked no more; the others go on."""
    now_ms = machine.now_ms()
    runs = [holding("a", ONE, since_ms=now_ms), holding("b", TWO, since_ms=now_ms)]
    machine.stub.gpus[1].use = 50
    machine.stub.fail("*", code, gpu=0)
    asked = [machine.after(3, *runs) for _ in range(4)]
    assert asked == [{("b", TWO): 50 * PER_CENT}] * 4
    assert machine.up() == ALL - {ONE}
    assert "0" in machine.devices()[ONE].names
    assert machine.stub.calls("nvmlDeviceGetUUID") == 8
    lost = next(device for device in machine.sampler.state().devices if device.id == ONE)
    assert (lost.is_up, lost.busy) == (False, None)
    assert str(code) in (lost.trouble or "")


def test_a_lost_gpu_is_looked_for_at_growing_intervals(machine: Machine) -> None:
    """15 s, 30 s, a minute, up to five: only a new session can find it."""
    machine.stub.fail("*", 15, gpu=0)
    sessions = []
    for _ in range(90):
        machine.look(10)
        sessions.append(machine.stub.calls("nvmlInitWithFlags"))
    assert sessions[-1] == 7
    assert machine.up() == ALL - {ONE}
    machine.stub.heal()
    machine.look(300)
    assert machine.up() == ALL
    machine.stub.gpus[0].use = 50
    run = holding("a", ONE, since_ms=machine.now_ms())
    assert machine.after(10, run) == {("a", ONE): 50 * PER_CENT}


def test_a_lost_gpu_takes_its_mig_devices_with_it(stub: Stub, boot: Boot) -> None:
    """They are slices of it."""
    stub.gpus[0].max_migs = 7
    uuid = stub.gpus[0].cut(0, slices=1)
    machine = boot(stub)
    stub.fail("*", 15, gpu=0)
    machine.look(10)
    assert machine.up() == ALL - {ONE}
    assert not machine.devices()[uuid].is_up


def test_a_gpu_that_is_lost_from_the_start_is_known_to_the_kernel(stub: Stub, boot: Boot) -> None:
    """The driver counts it and has no handle for it; /proc has its uuid."""
    stub.fail("nvmlDeviceGetHandleByIndex_v2", 15, gpu=0)
    machine = boot(stub)
    write_gpu(machine.proc, "0000:10:00.0", ONE, minor=7)
    machine.look(10)
    assert machine.up() == ALL - {ONE}
    assert machine.devices()[ONE].model == "NVIDIA A100-SXM4-40GB"
    assert machine.sampler.state().failure is None


def test_other_gpus_after_a_reset_are_found(machine: Machine) -> None:
    """The driver comes back with another count; what was there and is not any more is down."""
    run = holding("a", TWO, since_ms=machine.now_ms())
    machine.stub.fail("*", 16, gpu=7)
    machine.after(10, run)
    machine.stub.heal()
    machine.stub.driver.count = 5
    machine.stub.gpus[1].use = 50
    assert machine.after(15, run)["a", TWO] == 50 * PER_CENT
    assert machine.up() == {f"GPU-{at:08x}" for at in range(5)}
    assert set(machine.devices()) == ALL


def test_a_gpu_that_the_kernel_lists_anew_is_found(stub: Stub, boot: Boot) -> None:
    """Plugged in, or given to the machine, while the agent runs."""
    stub.driver.count = 7
    machine = boot(stub)
    assert len(machine.up()) == 7
    stub.driver.count = 8
    machine.look(10)
    assert len(machine.up()) == 7
    write_gpu(machine.proc, "0000:17:00.0", "GPU-00000007", minor=0)
    machine.look(10)
    assert machine.up() == ALL


# The driver ------------------------------------------------------------------------------


def test_a_driver_that_is_unloaded_is_a_failure_and_not_no_gpus(machine: Machine) -> None:
    """All devices are down, and it is asked again at growing intervals."""
    machine.stub.fail("*", 9)
    machine.look(10)
    assert machine.up() == set()
    assert set(machine.devices()) == ALL
    assert "not loaded" in failure(machine)
    before = machine.stub.calls("nvmlInitWithFlags")
    for _ in range(300):
        machine.look(1)
    assert 5 <= machine.stub.calls("nvmlInitWithFlags") - before <= 10
    machine.stub.heal()
    machine.look(60)
    assert machine.up() == ALL
    machine.stub.gpus[0].use = 50
    run = holding("a", ONE, since_ms=machine.now_ms())
    assert machine.after(10, run) == {("a", ONE): 50 * PER_CENT}


def test_a_driver_that_comes_after_the_agent_is_found(stub: Stub, boot: Boot) -> None:
    """Nobody orders the two."""
    stub.fail("nvmlInitWithFlags", 9)
    machine = boot(stub)
    assert machine.devices() == {}
    assert "not loaded" in failure(machine)
    stub.heal()
    machine.look(2)
    assert machine.up() == ALL


def test_a_session_that_was_ended_is_begun_anew(machine: Machine) -> None:
    """Uninitialized: somebody in this process has ended it."""
    machine.stub.fail(SAMPLES, 1)
    machine.look(10)
    machine.stub.heal()
    machine.look(2)
    assert machine.up() == ALL
    assert machine.stub.calls("nvmlInitWithFlags") == 2


def test_a_driver_replaced_under_the_agent_asks_for_a_restart(machine: Machine) -> None:
    """The library that is loaded will never talk to it; the devices work, and stay up."""
    machine.stub.fail("*", 18)
    machine.look(10)
    assert machine.sampler.must_restart
    assert "restart" in failure(machine)
    assert machine.up() == ALL


def test_a_driver_of_another_version_from_the_start_asks_for_no_restart(
    stub: Stub, boot: Boot
) -> None:
    """Another process would load the same library: until the module is reloaded, wait."""
    stub.fail("nvmlInitWithFlags", 18)
    machine = boot(stub)
    assert not machine.sampler.must_restart
    assert "reload the module" in failure(machine)
    stub.heal()
    machine.look(2)
    assert machine.up() == ALL


def test_a_missing_library_is_an_error_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Code 12, as the binding has it."""
    monkeypatch.setattr(pynvml, "nvmlLib", None)
    with pytest.raises(NvmlError, match="12") as caught:
        Library("/nowhere/libnvidia-ml.so.1").open()
    assert caught.value.code == 12


# A driver that hangs ---------------------------------------------------------------------


def test_a_driver_that_hangs_holds_nobody_up(machine: Machine) -> None:
    """A look waits for its moment and goes on without; the devices are down after a minute."""
    run = holding("a", ONE, since_ms=machine.now_ms())
    machine.stub.gpus[0].use = 50
    machine.after(10, run)
    machine.sampler._wait_seconds = 0.05
    machine.stub.hang(SAMPLES)
    assert machine.after(10, run) == {}
    assert machine.up() == ALL
    machine.pass_seconds(11)
    assert "has not answered for 11 s" in failure(machine, run)
    assert machine.up() == ALL
    machine.pass_seconds(50)
    assert "has not answered for 61 s" in failure(machine, run)
    down = machine.sampler.devices()
    assert not any(device.is_up for device in down)
    assert machine.sampler.devices() is down
    machine.stub.heal()
    wait_until(lambda: not machine.sampler._worker.busy_ms)
    machine.sampler._wait_seconds = 60
    assert machine.after(1, run)["a", ONE] == 50 * PER_CENT
    assert machine.up() == ALL


def test_a_late_answer_is_told_with_the_next_look(machine: Machine) -> None:
    """Nothing of the time is lost."""
    run = holding("a", ONE, since_ms=machine.now_ms())
    machine.stub.gpus[0].use = 50
    machine.after(10, run)
    machine.sampler._wait_seconds = 0.05
    machine.stub.hang(RATES)
    assert machine.after(10, run) == {}
    machine.stub.heal()
    machine.sampler._wait_seconds = 60
    machine.look()
    machine.stub.gpus[0].use = 0
    assert machine.after(10, run) == {("a", ONE): 25 * PER_CENT}


def test_the_devices_are_known_before_a_slow_driver_answers(stub: Stub, boot: Boot) -> None:
    """From /proc: so a run's device has its name from the first look on."""
    stub.hang("nvmlInitWithFlags")
    machine = boot(stub, is_listed=True, wait_seconds=0.05)
    assert machine.devices()[ONE].model == "NVIDIA A100-SXM4-40GB"
    assert machine.devices()[ONE].is_up
    stub.heal()
    machine.look()
    assert machine.up() == ALL


def test_a_gpu_that_is_lost_while_it_is_divided_is_down(machine: Machine) -> None:
    """Whichever call says so."""
    now_ms = machine.now_ms()
    runs = [holding(key, (ONE, 63_000), since_ms=now_ms) for key in "ab"]
    machine.stub.gpus[0].use = 50
    machine.stub.fail("nvmlDeviceGetProcessUtilization", 15)
    assert machine.after(10, *runs) == {}
    assert machine.up() == ALL - {ONE}


def test_a_gpu_that_is_lost_when_its_cut_is_looked_at_is_down(stub: Stub, boot: Boot) -> None:
    """Whichever call says so; a driver that is gone is another matter."""
    stub.gpus[0].max_migs = 7
    machine = boot(stub)
    stub.fail("nvmlDeviceGetMigMode", 15, gpu=0)
    machine.look(60)
    assert machine.up() == ALL - {ONE}
    stub.heal()
    machine.look(15)
    assert machine.up() == ALL
    stub.fail("nvmlDeviceGetMigMode", 9, gpu=0)
    machine.look(60)
    assert machine.up() == set()


def test_a_driver_that_is_gone_while_gpus_are_counted_is_gone(stub: Stub, boot: Boot) -> None:
    """It is no matter of the one GPU that said so."""
    stub.fail("nvmlDeviceGetHandleByIndex_v2", 9, gpu=5)
    machine = boot(stub)
    assert machine.devices() == {}
    assert "not loaded" in failure(machine)


def test_a_mig_device_that_vanishes_while_it_is_read_is_a_hole(stub: Stub, boot: Boot) -> None:
    """Someone cuts the GPU anew meanwhile."""
    stub.gpus[0].max_migs = 7
    uuid = stub.gpus[0].cut(0, slices=1)
    stub.fail("nvmlDeviceGetAttributes_v2", 2)
    machine = boot(stub)
    assert uuid not in machine.devices()
    stub.heal()
    machine.look(60)
    assert uuid in machine.up()
