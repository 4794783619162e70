"""Running npu-smi: one at a time, briefly, in the C locale, and never for ever."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.clock import SystemTime
from agent.errors import SamplerError
from agent.samplers.ascend.runner import NpuSmi
from tests.unit.agent.conftest import wait_until
from tests.unit.agent.samplers.ascend.fakesmi import FakeSmi


@pytest.fixture
def fake(tmp_path: Path) -> FakeSmi:
    return FakeSmi(tmp_path)


def tool(fake: FakeSmi, timeout_seconds: float = 20.0) -> NpuSmi:
    return NpuSmi(fake.path, SystemTime().monotonic_ns, timeout_seconds)


def is_gone(pid_file: Path) -> Callable[[], bool]:
    def look() -> bool:
        pid = int(pid_file.read_text() or 0) if pid_file.exists() else 0
        return pid > 0 and not Path(f"/proc/{pid}").exists()

    return look


def test_the_answer_is_what_it_prints(fake: FakeSmi) -> None:
    """Bytes that are no text included."""
    fake.answer("info -m", "NPU ID\n")
    assert tool(fake).run("info", "-m") == "NPU ID\n"


def test_it_runs_in_the_c_locale_with_the_drivers_libraries(
    fake: FakeSmi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the agent's own is; what was in LD_LIBRARY_PATH goes first."""
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    monkeypatch.setenv("LANGUAGE", "zh")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/opt/driver")
    fake.do_first("info", 'echo "$LC_ALL $LANGUAGE $LD_LIBRARY_PATH" > "$folder/environ"')
    fake.answer("info", "")
    tool(fake).run("info")
    assert fake.environ.read_text().startswith("C C /opt/driver:/usr/local/Ascend/")


def test_a_failure_says_what_the_tool_said(fake: FakeSmi) -> None:
    """The exit status, and its first line."""
    with pytest.raises(SamplerError, match=r"npu-smi info -l fails with status 1: 'npu-smi: no a"):
        tool(fake).run("info", "-l")


def test_a_tool_that_is_not_there_is_a_failure(tmp_path: Path) -> None:
    """As when the driver is being replaced."""
    with pytest.raises(SamplerError, match="cannot be run: No such file"):
        NpuSmi(str(tmp_path / "npu-smi"), SystemTime().monotonic_ns).run("info")


def test_a_tool_that_takes_too_long_is_killed_with_its_children(fake: FakeSmi) -> None:
    """Nothing of it stays behind."""
    fake.do_first("info", 'sleep 600 & echo $! > "$folder/environ"; wait')
    with pytest.raises(SamplerError, match=r"takes more than 0\.3 s"):
        tool(fake, 0.3).run("info")
    wait_until(is_gone(fake.environ))


def test_a_tool_that_prints_without_end_is_cut_off(fake: FakeSmi) -> None:
    """A megabyte is more than any answer has."""
    fake.do_first("info", 'echo $$ > "$folder/environ"; exec yes')
    with pytest.raises(SamplerError, match="prints more than 1048576 bytes"):
        tool(fake).run("info")
    wait_until(is_gone(fake.environ))


def test_one_that_closes_its_output_and_stays_is_no_answer(fake: FakeSmi) -> None:
    """It is killed, and only when it is gone another one is started."""
    fake.do_first("info", 'echo $$ > "$folder/environ"; exec sleep 600 > /dev/null 2>&1')
    smi = tool(fake)
    with pytest.raises(SamplerError, match="does not end"):
        smi.run("info")
    wait_until(is_gone_or_zombie(fake.environ))
    fake.answer("info -m", "NPU ID\n")
    assert smi.run("info", "-m") == "NPU ID\n"


def is_gone_or_zombie(pid_file: Path) -> Callable[[], bool]:
    def look() -> bool:
        try:
            stat = Path(f"/proc/{int(pid_file.read_text())}/stat").read_text()
        except FileNotFoundError:
            return True
        return stat.rpartition(")")[2].split()[0] == "Z"

    return look


def test_no_descriptor_and_no_zombie_is_left(fake: FakeSmi) -> None:
    """An agent runs it for years."""
    fake.answer("info", "x")
    smi = tool(fake)
    smi.run("info")
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for _ in range(5):
        smi.run("info")
    assert len(os.listdir("/proc/self/fd")) <= before  # noqa: PTH208
