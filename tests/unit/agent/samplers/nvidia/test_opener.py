"""Whether there is anything to sample: with a real library of its real name, in a process each."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from agent.config import Reader
from agent.model import Device
from agent.samplers import DeviceSampler
from agent.samplers.nvidia import SavedGpus, open_nvidia_sampler
from agent.samplers.nvidia.library import is_replaced
from agent.settings import build_settings
from tests.unit.agent.samplers.nvidia.conftest import holding, write_gpu
from tests.unit.agent.samplers.nvidia.context import context_of
from tests.unit.agent.samplers.nvidia.stub import build, find_compiler

ROOT = Path(__file__).parents[5]

PROGRAM = """
import json, sys
from tests.unit.agent.samplers.nvidia.context import context_of
from agent.errors import SamplerError
from agent.samplers.nvidia import open_nvidia_sampler
found = {"modules": []}
sampler = open_nvidia_sampler(context_of(sys.argv[1], sys.argv[2]))
found["is_there"] = sampler is not None
if sampler:
    found["devices"] = [device.id for device in sampler.devices()]
    try:
        found["readings"] = len(sampler.sample([]))
    except SamplerError as error:
        found["error"] = str(error)
found["has_binding"] = "pynvml" in sys.modules
print(json.dumps(found))
"""


def opened(root: Path, library: str = "") -> dict[str, object]:
    """What the opener finds in a process of its own: a library's name is taken for ever."""
    command = [sys.executable, "-c", PROGRAM, str(root), library]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


@pytest.fixture
def library(tmp_path: Path) -> str:
    """A library of the real name, and of a driver that finds no GPU until it is told of some."""
    if find_compiler() is None:
        pytest.skip("there is no C compiler")
    return str(build(tmp_path / "any.so", "-Wl,-soname,libnvidia-ml.so.1", "-DTWO"))


def test_a_node_without_driver_has_no_sampler_and_loads_nothing(tmp_path: Path) -> None:
    """Neither the library nor the module: then nvidia-ml-py's 3 MiB are not spent."""
    found = opened(tmp_path, "/nowhere/libnvidia-ml.so.1")
    assert (found["is_there"], found["has_binding"]) == (False, False)


def test_the_library_is_found_where_the_settings_say(tmp_path: Path, library: str) -> None:
    """The binding takes what is loaded under its name already."""
    found = opened(tmp_path, library)
    assert found["devices"] == ["GPU-one", "GPU-two"]
    assert found["readings"] == 0


def test_a_module_without_a_library_is_a_failure(tmp_path: Path) -> None:
    """There are GPUs, and nobody can ask them: their names are known all the same."""
    write_gpu(tmp_path / "proc", "0000:07:00.0", "GPU-a", minor=0)
    found = opened(tmp_path, "/nowhere/libnvidia-ml.so.1")
    assert found["devices"] == ["GPU-a"]
    assert "libnvidia-ml.so.1" in str(found["error"])


def test_a_library_on_a_node_without_gpus_is_no_failure(
    tmp_path: Path, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One image for all nodes: the driver is not loaded, and nobody misses it."""
    monkeypatch.setenv("STUB_INIT", "9")
    found = opened(tmp_path, library)
    assert (found["devices"], found.get("error")) == ([], None)
    assert found["readings"] == 0
    folder = tmp_path / "sys" / "bus" / "pci" / "devices" / "0000:07:00.0"
    folder.mkdir(parents=True)
    (folder / "vendor").write_text("0x10de\n")
    (folder / "class").write_text("0x030200\n")
    assert "not loaded" in str(opened(tmp_path, library)["error"])


def test_a_saved_tree_has_its_gpus_and_no_readings(tmp_path: Path) -> None:
    """There is nobody to talk to, and no library to load."""
    assert open_nvidia_sampler(context_of(str(tmp_path), "", is_live=False)) is None
    write_gpu(tmp_path / "proc", "0000:07:00.0", "GPU-a", minor=0)
    sampler = open_nvidia_sampler(context_of(str(tmp_path), "", is_live=False))
    assert isinstance(sampler, SavedGpus)
    assert isinstance(sampler, DeviceSampler)
    devices: list[Device] = list(sampler.devices())
    assert [device.id for device in devices] == ["GPU-a"]
    assert sampler.devices() is sampler.devices()
    run = holding("a", "GPU-a", since_ms=0)
    assert sampler.sample([run]) == {}
    sampler.forget([run.key])


def test_the_library_is_an_absolute_path() -> None:
    """Or not given."""
    reader = Reader({"nvidia": {"library": "libnvidia-ml.so.1"}}, {})
    assert build_settings(reader, "test").nvidia.library == ""
    assert "[nvidia] library: must be an absolute path" in str(reader.problems())


def test_a_replaced_library_is_seen_in_what_is_mapped(tmp_path: Path) -> None:
    """A package manager puts a new file in the place of the one that we have loaded."""
    maps = tmp_path / "maps"
    line = "7f00-7f01 r-xp 00000000 fe:01 42   /usr/lib/libnvidia-ml.so.550.54.15"
    maps.write_text(f"{line}\n7f02-7f03 r--p 0 0:0 1 /memfd:x (deleted)\n")
    assert not is_replaced(str(maps))
    maps.write_text(f"{line} (deleted)\n")
    assert is_replaced(str(maps))
    assert not is_replaced(str(tmp_path / "none"))
