"""`make run` as a fixture: brought up once a module, stopped with Ctrl-C at its end."""

import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.product import Product, clean_environment, free_port
from tests.environments import make_environment


@pytest.fixture(scope="module")
def make_run() -> Iterator[Product]:
    """A running product, with ports and a state directory of its own."""
    # Not pytest's own folder: as root the database's account could not reach it.
    folder = Path(tempfile.mkdtemp(prefix="nodemeter-acceptance-"))
    folder.chmod(0o755)
    http_port, grpc_port = free_port(), free_port()
    env = clean_environment() | {
        "NODEMETER_HTTP_PORT": str(http_port),
        "NODEMETER_GRPC_PORT": str(grpc_port),
        "NODEMETER_STATE_DIR": str(folder),
        "NODEMETER_JOBS_PROVIDERS": "files",  # what else runs on this machine is not the test's
    }
    venv = make_environment(Path(tempfile.mkdtemp(prefix="nodemeter-venv-")))
    product = Product(
        http_port=http_port, grpc_port=grpc_port, env=env, state_dir=folder, venv=venv
    )
    product.start()
    try:
        product.wait_until_ready(seconds=180)
        yield product
    finally:
        code = product.stop()
        shutil.rmtree(folder)
        shutil.rmtree(venv)
    assert code in {0, 2, 130, -signal.SIGINT}, product.log
    assert product.log.rstrip().endswith("stopped")
