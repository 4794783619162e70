"""A daemon on its bench, and a disk that can be full."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.agent.daemon.bench import Bench, Disk


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.daemon.close()


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk()
    monkeypatch.setattr(os, "pwrite", disk.pwrite)
    return disk
