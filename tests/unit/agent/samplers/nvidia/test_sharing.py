"""A device that several runs hold: whose its use was, and when that is not known."""

import shutil

import pytest

from agent.model import DEVICE_UNITS, Run
from tests.unit.agent.samplers.nvidia.conftest import (
    Boot,
    Load,
    Machine,
    holding,
    write_process,
)
from tests.unit.agent.samplers.nvidia.stub import Stub, StubProcess

ONE = "GPU-00000000"
PER_CENT = DEVICE_UNITS // 100
COMPUTE = "nvmlDeviceGetComputeRunningProcesses_v3"
BY_PROCESS = "nvmlDeviceGetProcessUtilization"


def sharing(machine: Machine, share: int = DEVICE_UNITS // 2) -> tuple[Run, Run]:
    """Two runs on one GPU, each with a process, 100 and 200."""
    now_ms = machine.now_ms()
    one = holding("a", (ONE, share), since_ms=now_ms)
    two = holding("b", (ONE, share), since_ms=now_ms)
    machine.run_in(one, 100)
    machine.run_in(two, 200)
    machine.sample(one, two)
    return one, two


def test_use_is_divided_by_what_the_processes_used(machine: Machine) -> None:
    """The parts add up to what was measured of the whole, not to the driver's figures."""
    runs = sharing(machine)
    machine.stub.gpus[0].use = 60
    machine.pass_seconds(10)
    machine.use(0, (100, 20), (200, 60))
    assert machine.sample(*runs) == {("a", ONE): 15 * PER_CENT, ("b", ONE): 45 * PER_CENT}
    assert machine.stub.calls(COMPUTE) == 0


def test_what_strangers_used_is_nobodys(machine: Machine) -> None:
    """A process of no run, and one that is not there any more."""
    runs = sharing(machine)
    write_process(machine.proc, 300, cgroup="/system.slice/x.service")
    machine.stub.gpus[0].use = 100
    machine.pass_seconds(10)
    machine.use(0, (100, 40), (200, 10), (300, 40), (999, 10))
    assert machine.sample(*runs) == {("a", ONE): 40 * PER_CENT, ("b", ONE): 10 * PER_CENT}


def test_four_quarters_are_never_more_than_one_device(machine: Machine) -> None:
    """Nor is one of them ever more than its quarter, when the others rest."""
    quarter = DEVICE_UNITS // 4
    runs = [holding(key, (ONE, quarter), since_ms=machine.now_ms()) for key in "abcd"]
    for at, run in enumerate(runs):
        machine.run_in(run, 100 + at)
    machine.sample(*runs)
    machine.stub.gpus[0].use = 100
    machine.pass_seconds(10)
    machine.use(0, (100, 25), (101, 25), (102, 25), (103, 25))
    found = machine.sample(*runs)
    assert len(found) == 4
    assert sum(found.values()) == DEVICE_UNITS
    machine.pass_seconds(10)
    machine.use(0, (100, 97), (101, 3))
    found = machine.sample(*runs)
    assert found == {
        ("a", ONE): quarter,
        ("b", ONE): 3 * PER_CENT,
        ("c", ONE): 0,
        ("d", ONE): 0,
    }


def test_an_idle_shared_gpu_is_idle_for_all_and_asked_nothing(machine: Machine) -> None:
    """There is nothing to divide."""
    runs = sharing(machine)
    assert machine.after(10, *runs) == {("a", ONE): 0, ("b", ONE): 0}
    assert machine.stub.calls(BY_PROCESS) == machine.stub.calls(COMPUTE) == 0


def test_use_that_nobody_had_is_unobserved(machine: Machine) -> None:
    """6 means that no process has used anything; the GPU says otherwise: unknown, not 0.

    The time comes with the next reading that there is.
    """
    runs = sharing(machine)
    machine.stub.gpus[0].use = 40
    machine.use(0, (100, 0), (200, 0))
    assert machine.after(10, *runs) == {}
    machine.pass_seconds(10)
    machine.use(0, (100, 50), (200, 50))
    assert machine.sample(*runs) == {("a", ONE): 20 * PER_CENT, ("b", ONE): 20 * PER_CENT}


def test_the_only_run_with_processes_there_has_it_all(machine: Machine) -> None:
    """Where the driver does not tell what each of them used."""
    runs = sharing(machine)
    machine.stub.fail(BY_PROCESS, 3)
    machine.stub.fail("nvmlDeviceGetProcessesUtilizationInfo", 13)
    machine.stub.gpus[0].use = 30
    machine.use(0, (100, 0))
    assert machine.after(10, *runs) == {("a", ONE): 30 * PER_CENT, ("b", ONE): 0}
    assert machine.stub.calls(BY_PROCESS) == 1
    machine.use(0, (100, 0), (200, 0))
    assert machine.after(10, *runs) == {}
    assert machine.stub.calls(BY_PROCESS) == 1
    assert machine.stub.calls("nvmlDeviceGetProcessesUtilizationInfo") == 1


def test_a_stranger_beside_it_makes_that_unknown(machine: Machine) -> None:
    """It may have been the stranger."""
    runs = sharing(machine)
    machine.stub.fail(BY_PROCESS, 3)
    machine.stub.fail("nvmlDeviceGetProcessesUtilizationInfo", 3)
    write_process(machine.proc, 300, cgroup="/user.slice")
    machine.stub.gpus[0].use = 30
    machine.use(0, (100, 0), (300, 0))
    assert machine.after(10, *runs) == {}


def test_processes_are_listed_every_ten_seconds_at_most(machine: Machine) -> None:
    """However often somebody looks."""
    runs = sharing(machine)
    machine.stub.fail(BY_PROCESS, 3)
    machine.stub.fail("nvmlDeviceGetProcessesUtilizationInfo", 3)
    machine.stub.gpus[0].use = 30
    machine.use(0, (100, 0))
    for _ in range(21):
        machine.after(1, *runs)
    assert machine.stub.calls(COMPUTE) == 2 * 3  # 3 lists; each asks for the size first


def test_what_the_mps_server_used_is_whose_it_worked_for(machine: Machine) -> None:
    """Which it does not tell: unknown, unless only one run is there."""
    runs = sharing(machine)
    write_process(machine.proc, 300, cgroup="/system.slice", comm="nvidia-cuda-mps-server")
    machine.stub.gpus[0].use = 50
    machine.pass_seconds(10)
    machine.use(0, (300, 50), (100, 0), (200, 0))
    assert machine.sample(*runs) == {}
    machine.pass_seconds(10)
    machine.use(0, (300, 50), (200, 0))
    assert machine.sample(*runs) == {("a", ONE): 0, ("b", ONE): 50 * PER_CENT}


# The driver's samples by process ---------------------------------------------------------


def test_stale_samples_do_not_count_again(machine: Machine) -> None:
    """They come with every answer, as do a hundred zeroed entries."""
    machine.stub.driver.zero_tail = 1
    runs = sharing(machine)
    machine.stub.gpus[0].use = 100
    machine.pass_seconds(10)
    machine.use(0, (100, 80), (200, 20))
    machine.sample(*runs)
    machine.pass_seconds(10)
    stale = machine.stub.gpus[0].processes[0].stamp
    machine.use(0, (100, 80), (200, 20))
    machine.stub.gpus[0].processes[0].stamp = stale
    found = machine.sample(*runs)
    assert machine.stub.driver.asked_since == stale
    assert found == {("a", ONE): 0, ("b", ONE): 50 * PER_CENT}  # its share


def test_samples_of_one_process_add_up(machine: Machine) -> None:
    """A driver may tell several times of one."""
    runs = sharing(machine)
    machine.stub.gpus[0].use = 40
    machine.pass_seconds(10)
    machine.use(0, (100, 30), (100, 30), (200, 20))
    assert machine.sample(*runs) == {("a", ONE): 30 * PER_CENT, ("b", ONE): 10 * PER_CENT}


def test_a_probe_that_succeeds_means_that_there_is_nothing(machine: Machine) -> None:
    """The binding raises an error with the code of success then."""
    runs = sharing(machine)
    machine.stub.driver.probe_succeeds = 1
    machine.stub.gpus[0].use = 40
    machine.pass_seconds(10)
    machine.use(0, (100, 30), (200, 20))
    assert machine.sample(*runs) == {}
    assert machine.sampler.state().failure is None
    assert len(machine.up()) == 8


def test_an_answer_that_grows_is_asked_for_once_more(machine: Machine) -> None:
    """Processes begin between the question for the size and that for the list."""
    runs = sharing(machine)
    machine.stub.driver.growing = 1
    machine.stub.gpus[0].use = 40
    machine.pass_seconds(10)
    machine.use(0, (100, 30), (200, 10))
    assert machine.sample(*runs) == {("a", ONE): 30 * PER_CENT, ("b", ONE): 10 * PER_CENT}


def test_a_driver_without_the_old_call_is_asked_in_the_new_way(machine: Machine) -> None:
    """It is deprecated, and may be left out."""
    runs = sharing(machine)
    machine.stub.fail(BY_PROCESS, 26)
    machine.stub.gpus[0].use = 40
    for _ in range(2):
        machine.pass_seconds(10)
        machine.use(0, (100, 30), (200, 10))
        assert machine.sample(*runs) == {("a", ONE): 30 * PER_CENT, ("b", ONE): 10 * PER_CENT}
    assert machine.stub.calls(BY_PROCESS) == 1


def test_a_clock_set_back_costs_one_interval(machine: Machine) -> None:
    """Else the last sample would lie in the future, and everything new before it, for an hour."""
    runs = sharing(machine)
    machine.stub.gpus[0].use = 40
    machine.pass_seconds(10)
    machine.use(0, (100, 30), (200, 10))
    machine.sample(*runs)
    machine.time.step_ms(-3_600_000)
    seen = []
    for _ in range(2):
        machine.pass_seconds(10)
        machine.use(0, (100, 10), (200, 30))
        seen.append(machine.sample(*runs))
    assert seen == [{}, {("a", ONE): 10 * PER_CENT, ("b", ONE): 30 * PER_CENT}]


# Accounting ------------------------------------------------------------------------------


def account(machine: Machine, *totals: tuple[int, int, int]) -> None:
    """Have processes with these sums: pid, sum, whether it runs."""
    machine.stub.gpus[0].accounting = 1
    machine.stub.gpus[0].run(
        *(
            StubProcess(pid=pid, total=total, running=running, started=1)
            for pid, total, running in totals
        )
    )


def test_accounting_tells_what_was_used_between_two_looks(machine: Machine) -> None:
    """Its sums begin with the process: what came before the first look is nobody's business."""
    runs = sharing(machine)
    machine.stub.gpus[0].use = 80
    account(machine, (100, 70_000, 1), (200, 10_000, 1))
    assert machine.after(10, *runs) == {}
    account(machine, (100, 70_600, 1), (200, 10_200, 1))
    found = machine.after(10, *runs)
    assert found == {("a", ONE): 50 * PER_CENT, ("b", ONE): 20 * PER_CENT}  # 60 is over the share
    assert machine.stub.calls(BY_PROCESS) == 0


def test_accounting_has_the_last_word_of_a_process_that_ended(machine: Machine) -> None:
    """What it did before it ended counts, once."""
    runs = sharing(machine)
    machine.stub.gpus[0].use = 80
    account(machine, (100, 0, 1), (200, 0, 1))
    machine.after(10, *runs)
    account(machine, (100, 300, 0), (200, 500, 1))
    shutil.rmtree(machine.proc / "100")
    machine.stub.gpus[0].process_count = 0  # it is in no list any more
    assert machine.after(10, *runs) == {("a", ONE): 30 * PER_CENT, ("b", ONE): 50 * PER_CENT}
    account(machine, (200, 900, 1))
    assert machine.after(10, *runs) == {("a", ONE): 0, ("b", ONE): 50 * PER_CENT}


def test_accounting_counts_a_process_that_came_since_from_its_start(machine: Machine) -> None:
    """All that it did, it did since the last look."""
    runs = sharing(machine)
    machine.stub.gpus[0].use = 40
    account(machine, (100, 0, 1))
    machine.after(10, *runs)
    machine.pass_seconds(10)
    account(machine, (100, 100, 1), (200, 300, 1))
    machine.stub.gpus[0].processes[1].started = machine.now_us()
    assert machine.sample(*runs) == {("a", ONE): 10 * PER_CENT, ("b", ONE): 30 * PER_CENT}


def test_without_accounting_its_absence_is_asked_once(load: Load, boot: Boot) -> None:
    """Off, or of a driver that does not count while a process runs."""
    machine = boot(load("old"))
    machine.stub.gpus[0].accounting = 1
    runs = sharing(machine)
    machine.stub.gpus[0].use = 40
    for _ in range(3):
        machine.pass_seconds(10)
        machine.use(0, (100, 30), (200, 10))
        assert machine.sample(*runs) == {("a", ONE): 30 * PER_CENT, ("b", ONE): 10 * PER_CENT}
    assert machine.stub.calls("nvmlDeviceGetAccountingMode") == 0


# Whose a process is ----------------------------------------------------------------------


def test_a_process_tree_is_a_runs_without_a_cgroup(machine: Machine) -> None:
    """By its nearest ancestor that the run names."""
    one = holding("a", (ONE, 63_000), since_ms=machine.now_ms(), cgroup="", pids=(50,))
    two = holding("b", (ONE, 63_000), since_ms=machine.now_ms(), cgroup="", pids=(60,))
    write_process(machine.proc, 50)
    write_process(machine.proc, 60, parent=50)
    write_process(machine.proc, 51, parent=50)
    write_process(machine.proc, 100, parent=51)
    write_process(machine.proc, 200, parent=60)
    machine.sample(one, two)
    machine.stub.gpus[0].use = 50
    machine.pass_seconds(10)
    machine.use(0, (100, 30), (200, 20))
    assert machine.sample(one, two) == {("a", ONE): 30 * PER_CENT, ("b", ONE): 20 * PER_CENT}


def test_the_innermost_cgroup_decides(machine: Machine) -> None:
    """A job within a job's cgroup is itself."""
    one = holding("a", (ONE, 63_000), since_ms=machine.now_ms(), cgroup="/x")
    two = holding("b", (ONE, 63_000), since_ms=machine.now_ms(), cgroup="/x/y")
    write_process(machine.proc, 100, cgroup="/x/z")
    write_process(machine.proc, 200, cgroup="/x/y/z")
    write_process(machine.proc, 300, cgroup="/xy")
    machine.sample(one, two)
    machine.stub.gpus[0].use = 50
    machine.pass_seconds(10)
    machine.use(0, (100, 10), (200, 15), (300, 25))
    assert machine.sample(one, two) == {("a", ONE): 10 * PER_CENT, ("b", ONE): 15 * PER_CENT}


def test_a_process_that_has_ended_is_still_its_runs(machine: Machine) -> None:
    """What it used is told only afterwards; another one of its number is not it."""
    runs = sharing(machine)
    machine.stub.gpus[0].use = 40
    machine.pass_seconds(10)
    machine.use(0, (100, 30), (200, 10))
    machine.sample(*runs)
    shutil.rmtree(machine.proc / "100")
    machine.pass_seconds(10)
    machine.use(0, (100, 30), (200, 10))
    assert machine.sample(*runs) == {("a", ONE): 30 * PER_CENT, ("b", ONE): 10 * PER_CENT}
    write_process(machine.proc, 100, cgroup="/elsewhere", start=8)
    machine.pass_seconds(10)
    machine.use(0, (100, 30), (200, 10))
    assert machine.sample(*runs) == {("a", ONE): 0, ("b", ONE): 10 * PER_CENT}


# Who shares with whom --------------------------------------------------------------------


def test_a_run_that_joins_shares_from_then_on(machine: Machine) -> None:
    """What it used, it used in the time that it was there."""
    one = holding("a", ONE, since_ms=machine.now_ms())
    machine.run_in(one, 100)
    machine.stub.gpus[0].use = 80
    assert machine.after(10, one) == {("a", ONE): 80 * PER_CENT}
    two = holding("b", ONE, since_ms=machine.now_ms() + 5_000)
    machine.run_in(two, 200)
    machine.pass_seconds(10)
    machine.use(0, (100, 60), (200, 20))
    found = machine.sample(one, two)
    assert found["a", ONE] == 60 * PER_CENT
    assert found["b", ONE] == 40 * PER_CENT  # a quarter of all, in half of the time
    two_ended = holding("b", ONE, since_ms=two.started_at_ms, ended_ms=machine.now_ms())
    machine.sample(one, two_ended)
    before = machine.stub.calls(BY_PROCESS)
    assert machine.after(10, one, two_ended) == {("a", ONE): 80 * PER_CENT}
    assert machine.stub.calls(BY_PROCESS) == before


def test_a_shared_mig_device_is_told_by_presence(stub: Stub, boot: Boot) -> None:
    """Its processes' use is not told by any driver; who is there is."""
    gpu = stub.gpus[0]
    gpu.max_migs, gpu.has_gpm = 7, 1
    uuid = gpu.cut(0, slices=2)
    machine = boot(stub)
    runs = [holding(key, (uuid, 18_000), since_ms=machine.now_ms()) for key in "ab"]
    machine.run_in(runs[0], 100)
    machine.sample(*runs)
    gpu.migs[0].use = 25
    gpu.migs[0].process_count = 1
    gpu.migs[0].processes[0] = StubProcess(pid=100, instance=1)
    assert machine.after(10, *runs) == {("a", uuid): 9_000, ("b", uuid): 0}
    assert stub.calls(BY_PROCESS) == 0


@pytest.mark.parametrize("stride", [16, 24, 32])
@pytest.mark.parametrize("driver", ["new", "old", "oldest"])
def test_processes_are_found_in_every_drivers_list(
    load: Load, boot: Boot, driver: str, stride: int
) -> None:
    """Three versions of the call, and three sizes of its struct that no version tells."""
    machine = boot(load(driver))
    machine.stub.driver.stride = stride
    runs = sharing(machine)
    machine.run_in(runs[0], 101, 102)
    machine.stub.fail(BY_PROCESS, 3)
    machine.stub.gpus[0].use = 30
    machine.use(0, (100, 0), (101, 0), (102, 0))
    assert machine.after(10, *runs) == {("a", ONE): 30 * PER_CENT, ("b", ONE): 0}


@pytest.mark.parametrize("code", [10, 23, 999])
def test_processes_that_cannot_be_told_now_are_told_next_time(machine: Machine, code: int) -> None:
    """Unknown until then; the time comes with that reading."""
    runs = sharing(machine)
    machine.stub.gpus[0].use = 40
    machine.stub.fail(BY_PROCESS, code)
    machine.stub.fail(COMPUTE, code)
    machine.use(0, (100, 30), (200, 10))
    assert machine.after(10, *runs) == {}
    machine.stub.heal()
    machine.pass_seconds(10)
    machine.use(0, (100, 30), (200, 10))
    assert machine.sample(*runs) == {("a", ONE): 30 * PER_CENT, ("b", ONE): 10 * PER_CENT}


def test_accounting_that_cannot_be_asked_is_off(machine: Machine) -> None:
    """As on a GPU without it."""
    runs = sharing(machine)
    machine.stub.fail("nvmlDeviceGetAccountingMode", 3)
    machine.stub.gpus[0].use = 40
    for _ in range(2):
        machine.pass_seconds(10)
        machine.use(0, (100, 30), (200, 10))
        assert machine.sample(*runs) == {("a", ONE): 30 * PER_CENT, ("b", ONE): 10 * PER_CENT}
    assert machine.stub.calls("nvmlDeviceGetAccountingMode") == 1


def test_an_account_that_the_driver_has_dropped_is_let_go(machine: Machine) -> None:
    """It keeps a few thousand; what is in it no more is unknown, and nothing of it counts."""
    runs = sharing(machine)
    machine.stub.gpus[0].use = 40
    account(machine, (100, 0, 1), (200, 0, 1))
    machine.after(10, *runs)
    machine.stub.fail("nvmlDeviceGetAccountingStats_v2", 6)
    assert machine.after(10, *runs) == {}


def test_a_process_tree_that_goes_in_circles_has_an_end(machine: Machine) -> None:
    """Numbers come round; who is above whom is read one after the other."""
    one = holding("a", (ONE, 63_000), since_ms=machine.now_ms(), cgroup="", pids=(50,))
    two = holding("b", (ONE, 63_000), since_ms=machine.now_ms(), cgroup="", pids=(60,))
    write_process(machine.proc, 100, parent=101)
    write_process(machine.proc, 101, parent=100)
    machine.sample(one, two)
    machine.stub.gpus[0].use = 50
    machine.pass_seconds(10)
    machine.use(0, (100, 30), (50, 20))
    assert machine.sample(one, two) == {}
