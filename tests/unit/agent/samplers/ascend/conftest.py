"""The stub of the driver's library, new for each test."""

import shutil
from collections.abc import Iterator

import pytest

from agent.samplers.ascend.dcmi import DcmiSource
from agent.samplers.ascend.dcmilib import load_dcmi
from tests.unit.agent.samplers.ascend.stub import DcmiStub


@pytest.fixture(scope="session")
def dcmi_builds(tmp_path_factory: pytest.TempPathFactory) -> tuple[DcmiStub, DcmiStub]:
    """A new driver's library and an old one's."""
    if shutil.which("gcc") is None:
        pytest.skip("there is no C compiler")
    folder = tmp_path_factory.mktemp("dcmi")
    return DcmiStub(folder), DcmiStub(folder, "-DOLD")


@pytest.fixture
def dcmi(dcmi_builds: tuple[DcmiStub, DcmiStub]) -> Iterator[DcmiStub]:
    """A new driver's, without any chip."""
    dcmi_builds[0].reset()
    yield dcmi_builds[0]
    dcmi_builds[0].reset()


@pytest.fixture
def old_dcmi(dcmi_builds: tuple[DcmiStub, DcmiStub]) -> Iterator[DcmiStub]:
    """An old driver's, without any chip."""
    dcmi_builds[1].reset()
    yield dcmi_builds[1]
    dcmi_builds[1].reset()


@pytest.fixture
def source(dcmi: DcmiStub) -> DcmiSource:
    """What asks the new one."""
    library = load_dcmi([dcmi.path])
    assert library is not None
    return DcmiSource(library)
