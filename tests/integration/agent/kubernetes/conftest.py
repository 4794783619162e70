"""Certificates, made once, and a kubelet that listens."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.agent.kubernetes.certificates import NODE, Authority
from tests.integration.agent.kubernetes.kubelets import (
    Answer,
    Resources,
    serve_pods,
    serve_resources,
)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Who signed the kubelet's certificate."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make certificates with")
    return Authority(tmp_path_factory.mktemp("certificates") / "cluster", "kubernetes")


@pytest.fixture(scope="session")
def certificate(authority: Authority) -> tuple[Path, Path]:
    """The kubelet's certificate and key."""
    return authority.sign(NODE)


@pytest.fixture
def answer() -> Answer:
    """What the list of pods says."""
    return Answer()


@pytest.fixture
def url(answer: Answer, certificate: tuple[Path, Path]) -> Iterator[str]:
    """Where the kubelet's HTTPS side listens."""
    with serve_pods(answer, certificate) as where:
        yield where


@pytest.fixture
def kubelet_dir(tmp_path: Path) -> Path:
    """The kubelet's folder."""
    return tmp_path / "kubelet"


@pytest.fixture
def socket_path(kubelet_dir: Path) -> Path:
    """Where the kubelet's Unix socket is."""
    return kubelet_dir / "pod-resources" / "kubelet.sock"


@pytest.fixture
def resources(socket_path: Path) -> Iterator[Resources]:
    """The pod-resources API, serving."""
    made = Resources()
    with serve_resources(socket_path, made):
        yield made
