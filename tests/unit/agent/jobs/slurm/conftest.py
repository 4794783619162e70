"""A node with Slurm, once for each cgroup version."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.agent.jobs.slurm.slurmnodes import SlurmNode


@pytest.fixture(params=["v1", "v2"])
def node(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SlurmNode]:
    """A machine whose jobs are in cgroups of this version."""
    node = SlurmNode(tmp_path, str(request.param))
    yield node
    node.close()


@pytest.fixture
def v1_node(tmp_path: Path) -> Iterator[SlurmNode]:
    """A machine with v1."""
    node = SlurmNode(tmp_path, "v1")
    yield node
    node.close()


@pytest.fixture
def v2_node(tmp_path: Path) -> Iterator[SlurmNode]:
    """A machine with v2."""
    node = SlurmNode(tmp_path, "v2")
    yield node
    node.close()
