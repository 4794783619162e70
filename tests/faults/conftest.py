"""One server for all fault tests, which they kill; each has a rig of its own on it."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from aggregator.store.embedded import Server, ensure_server


@pytest.fixture(scope="session")
def fault_server(software_dir: Path) -> Iterator[Server]:
    """A TimescaleDB with the product's own settings: fsync on, synchronous commits."""
    # Not pytest's own folder: as root the database's account could not reach it.
    folder = Path(tempfile.mkdtemp(prefix="nodemeter-faults-"))
    folder.chmod(0o755)
    try:
        with ensure_server(folder, software_dirs=[software_dir]) as server:
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def memory_path() -> Iterator[Path]:
    """A directory that no disk slows down."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        yield Path(folder)
