"""Which driver the sampler finds on a node, and that it works with a thread of its own."""

import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.config import Reader
from agent.context import Context
from agent.errors import SamplerError
from agent.model import DeviceShare, ResourceType, Run, RunKey
from agent.samplers import SAMPLERS
from agent.samplers.ascend import open_ascend_sampler
from agent.samplers.ascend.sampler import AscendSampler
from agent.sections.ascend import AscendSettings, ask_ascend
from tests.unit.agent.cgrouptrees import CgroupTree
from tests.unit.agent.conftest import wait_until
from tests.unit.agent.jobs.contexts import Machine
from tests.unit.agent.samplers.ascend.fakesmi import FakeSmi
from tests.unit.agent.samplers.ascend.outputs import output
from tests.unit.agent.samplers.ascend.stub import DcmiStub

NOWHERE = 'library = "/no/such/libdcmi.so"\nnpu_smi = "/no/such/npu-smi"\n'

Open = Callable[..., AscendSampler | None]


@pytest.fixture
def context(tmp_path: Path) -> Callable[..., Context]:
    (tmp_path / "root" / "dev").mkdir(parents=True)
    tree = CgroupTree(tmp_path / "cgroup", "v2")

    def make(settings: str, *device_files: str, is_live: bool = True) -> Context:
        for name in device_files:
            (tmp_path / "root" / "dev" / name).touch()
        machine = Machine(tree, f"[ascend]\n{settings}")
        return machine.context(is_live=is_live, root=str(tmp_path / "root"))

    return make


@pytest.fixture
def opened(context: Callable[..., Context]) -> Iterator[Open]:
    """Opens samplers, and ends their threads."""
    samplers: list[AscendSampler] = []

    def go(settings: str, *device_files: str, is_live: bool = True) -> AscendSampler | None:
        sampler = open_ascend_sampler(context(settings, *device_files, is_live=is_live))
        assert sampler is None or isinstance(sampler, AscendSampler)
        samplers.extend([sampler] if sampler else [])
        return sampler

    yield go
    for sampler in samplers:
        sampler.close()


def holder(device: str) -> Run:
    share = DeviceShare(type=ResourceType.NPU, id=device, model=None)
    return Run(
        key=RunKey("run"),
        provider="files",
        job_id="run",
        job_name="run",
        started_at_ms=0,
        quotas={},
        devices=(share,),
    )


def reads(sampler: AscendSampler, device: str, value: int) -> Callable[[], bool]:
    run = holder(device)
    return lambda: value in [reading.value for reading in sampler.sample([run]).values()]


def test_a_node_without_a_driver_has_no_such_sampler(opened: Open) -> None:
    """Neither library, nor tool, nor device file."""
    assert opened(NOWHERE) is None
    assert "ascend" in SAMPLERS


def test_the_stock_settings_work_where_there_is_nothing(opened: Open) -> None:
    """As on every machine without NPUs."""
    assert opened("") is None


def test_npus_without_a_driver_are_a_failure(opened: Open) -> None:
    """Not "no NPUs": the message says what to do."""
    sampler = opened(NOWHERE, "davinci0")
    assert sampler is not None
    with pytest.raises(SamplerError, match=r"neither libdcmi\.so nor npu-smi; name them"):
        sampler.sample([])
    assert list(sampler.devices()) == []


def test_a_saved_tree_has_nobody_to_ask(opened: Open, dcmi: DcmiStub) -> None:
    """No library is loaded and nothing is run for it."""
    assert opened(f'library = "{dcmi.path}"', "davinci0", is_live=False) is None


def test_the_library_is_asked_first(opened: Open, dcmi: DcmiStub, tmp_path: Path) -> None:
    """The inventory is there when the agent begins; utilisation soon after."""
    dcmi.add(0, die=7)
    dcmi.percent(0, npu=50)
    sampler = opened(f'library = "{dcmi.path}"\nnpu_smi = "{FakeSmi(tmp_path).path}"')
    assert sampler is not None
    device = sampler.devices()[0]
    assert device.id.startswith("NPU-00000007-")
    wait_until(reads(sampler, device.id, 63_000))


@pytest.mark.parametrize("library", ["/no/such/libdcmi.so", "libc"])
def test_without_it_the_tool_is(
    opened: Open, tmp_path: Path, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by its name on the PATH; a library that is none of Ascend's is left alone."""
    fake = FakeSmi(tmp_path)
    fake.answer("info -m", output("map_950"))
    fake.answer("info -t board -i 5 -c 0", output("board_910b"))
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    libc = next(
        line.split()[-1]
        for line in Path("/proc/self/maps").read_text().splitlines()
        if "/libc.so" in line or "/libc-" in line
    )
    sampler = opened(f'library = "{libc if library == "libc" else library}"')
    assert sampler is not None
    assert [device.model for device in sampler.devices()] == ["Ascend950PR"]


def test_the_settings_say_who_may_be_asked(opened: Open, dcmi: DcmiStub, tmp_path: Path) -> None:
    """Only the tool, although the library is there."""
    dcmi.add(0, die=7)
    fake = FakeSmi(tmp_path)
    settings = f'sources = ["npu-smi"]\nlibrary = "{dcmi.path}"\nnpu_smi = "{fake.path}"'
    sampler = opened(settings)
    assert sampler is not None
    with pytest.raises(SamplerError, match="npu-smi info -m fails"):
        sampler.sample([])


def test_a_driver_that_hangs_keeps_nobody_waiting(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The agent begins without it, and its samples return at once."""
    monkeypatch.setattr("agent.samplers.ascend._FIRST_ANSWER_SECONDS", 0.1)
    fake = FakeSmi(tmp_path)
    fake.do_first("info -m", "exec sleep 20")
    sampler = opened(f'library = "/no/such/libdcmi.so"\nnpu_smi = "{fake.path}"')
    assert sampler is not None
    assert sampler.sample([holder("NPU-x")]) == {}
    assert list(sampler.devices()) == []


@pytest.mark.parametrize(
    "settings",
    [
        'library = "libdcmi.so"',
        'npu_smi = "bin/npu-smi"',
        'npu_smi = ""',
        "sources = []",
        'sources = ["nvml"]',
    ],
)
def test_wrong_settings_are_refused(settings: str) -> None:
    """With their key and what they must be; the default takes their place."""
    reader = Reader(tomllib.loads(f"[ascend]\n{settings}"), {})
    assert ask_ascend(reader) == AscendSettings()
    (problem,) = reader.problems()
    assert problem.startswith(f"[ascend] {settings.split(maxsplit=1)[0]}: must be")
