"""A real Slurm, where this machine can run one."""

import os
import shutil
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.agent.slurm.cluster import CGROUPS, CONTROLLERS, Cluster
from tests.integration.agent.slurm.packages import NoSlurmError, unpacked_slurm


@pytest.fixture(scope="session")
def software() -> Path:
    """Debian's Slurm, on a machine that gives it cgroups of version 1."""
    if os.geteuid() != 0:
        pytest.skip("slurmd makes cgroups and runs other users' jobs: only as root")
    missing = [name for name in CONTROLLERS if not (CGROUPS / name / "tasks").is_file()]
    if missing:
        pytest.skip(f"the v1 controller {missing[0]} is not mounted at {CGROUPS}/{missing[0]}")
    try:
        return unpacked_slurm()
    except NoSlurmError as error:
        pytest.skip(f"Debian's Slurm cannot be had: {error}")


@pytest.fixture(scope="session")
def cluster(software: Path) -> Iterator[Cluster]:
    """A cluster as the documentation recommends it."""
    with _running(software, "cgroup") as cluster:
        yield cluster


@pytest.fixture
def uncounted_cluster(software: Path) -> Iterator[Cluster]:
    """One whose jobs have no cgroup that counts CPU time."""
    with _running(software, "none") as cluster:
        yield cluster


@contextmanager
def _running(software: Path, accounting: str) -> Generator[Cluster]:
    base = Path(tempfile.mkdtemp(prefix="nodemeter-slurm-"))
    base.chmod(0o755)  # jobs of other users run here
    cluster = Cluster(software, base, accounting)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(base, ignore_errors=True)
