"""The list of processes: believed only where it can be true."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.samplers.nvidia.binding import Handle
from agent.samplers.nvidia.library import Library, NvmlError
from agent.samplers.nvidia.processlist import ProcessLists, parse
from tests.unit.agent.samplers.nvidia.stub import Stub, StubProcess

COMPUTE = "nvmlDeviceGetComputeRunningProcesses_v3"


def laid_out(pids: list[int], stride: int, *, room: int = 40, fill: bytes = b"\xa5") -> bytes:
    """What a driver of that stride leaves in the room."""
    whole = struct.Struct("=I4xQIIQ")
    data = b"".join(whole.pack(pid, 2**64 - 1, 3, 0, 0)[:stride] for pid in pids)
    return data + fill * (room * 32 - len(data))


def open_gpu(stub: Stub) -> tuple[Library, Handle]:
    """A session with the driver, and its first GPU."""
    library = Library(str(stub.path))
    library.open()
    return library, library.call(library.binding.nvmlDeviceGetHandleByIndex, 0)


@given(
    pids=st.lists(st.integers(1, 1 << 22), min_size=1, max_size=30, unique=True),
    stride=st.sampled_from([16, 24, 32]),
)
def test_any_stride_is_recognised(pids: list[int], stride: int) -> None:
    """By how much of the pattern is gone."""
    found = parse(laid_out(pids, stride), len(pids), set(pids).__contains__)
    assert found is not None
    assert [process.pid for process in found] == pids
    assert {process.instance for process in found} == ({3} if stride > 16 else {None})


@given(
    pids=st.lists(st.integers(1 << 10, 1 << 22), min_size=2, max_size=30, unique=True),
    stride=st.sampled_from([16, 24, 32]),
)
def test_a_driver_that_clears_the_room_is_believed_by_its_processes(
    pids: list[int], stride: int
) -> None:
    """Then the pattern tells nothing."""
    data = laid_out(pids, stride, fill=b"\0")
    found = parse(data, len(pids), set(pids).__contains__)
    assert found is not None
    assert [process.pid for process in found] == pids


def test_a_list_with_a_process_that_does_not_exist_is_not_believed() -> None:
    """Rather none than a wrong one."""
    assert parse(laid_out([5, 6], 24), 2, {5}.__contains__) is None
    assert parse(laid_out([], 24), 0, {5}.__contains__) == []


def test_a_list_is_asked_for_once_more_when_a_process_ended_meanwhile(stub: Stub) -> None:
    """And given up when it is unbelievable again."""
    library, gpu = open_gpu(stub)
    stub.gpus[0].run(StubProcess(pid=5))
    answers = [False, False, False, True]
    lists = ProcessLists()
    found = lists.read(library, gpu, lambda _pid: answers.pop(0))
    assert found is not None
    assert [process.pid for process in found] == [5]
    assert lists.read(library, gpu, lambda _pid: False) is None
    assert stub.calls(COMPUTE) == 8


def test_a_list_that_grows_twice_is_unknown_this_time(stub: Stub) -> None:
    """Once more is asked, not for ever; next time it is asked again."""
    library, gpu = open_gpu(stub)
    stub.gpus[0].run(StubProcess(pid=5))
    lists = ProcessLists()
    stub.driver.growing = 1
    assert lists.read(library, gpu, lambda _pid: True)
    stub.driver.growing = 2
    assert lists.read(library, gpu, lambda _pid: True) is None
    assert lists.read(library, gpu, lambda _pid: True)


def test_a_driver_without_lists_is_asked_once(stub: Stub) -> None:
    """Of each kind; without that of compute processes nothing is known."""
    library, gpu = open_gpu(stub)
    stub.fail(COMPUTE, 3)
    lists = ProcessLists()
    assert lists.read(library, gpu, lambda _pid: True) is None
    assert lists.read(library, gpu, lambda _pid: True) is None
    assert stub.calls(COMPUTE) == 1


@pytest.mark.parametrize("code", [15, 18])
def test_a_lost_gpu_is_no_empty_list(stub: Stub, code: int) -> None:
    """It concerns more than the list."""
    library, gpu = open_gpu(stub)
    stub.fail(COMPUTE, code)
    with pytest.raises(NvmlError) as caught:
        ProcessLists().read(library, gpu, lambda _pid: True)
    assert caught.value.code == code
