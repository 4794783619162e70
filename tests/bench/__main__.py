"""`make bench`: one table, every figure beside its ceiling or peer of the same run."""

import os
import shutil
import tempfile
from pathlib import Path

from aggregator.store.embedded import ensure_server
from aggregator.store.embedded.place import state_dir_of
from tests.acceptance.product import CHECKOUT
from tests.bench import aggregator, node, rerating
from tests.bench.table import show


def main() -> None:
    """Measure everything on a TimescaleDB of the run's own, with fsync on."""
    folder = Path(tempfile.mkdtemp(prefix="nodemeter-bench-"))
    folder.chmod(0o755)
    try:
        software = state_dir_of(CHECKOUT) / "timescaledb"
        with ensure_server(folder, software_dirs=[software]) as server:
            figures = [
                *aggregator.measure(server, folder),
                *rerating.measure(server, folder),
                *node.measure(folder),
            ]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    show(figures, os.environ.get("BENCH_JSON"))


if __name__ == "__main__":
    main()
