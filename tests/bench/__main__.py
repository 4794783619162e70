"""`make bench`: one table, every figure beside its ceiling or peer of the same run."""

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from aggregator.store.embedded import Server, ensure_server
from aggregator.store.embedded.place import state_dir_of
from tests.acceptance.product import CHECKOUT
from tests.bench import aggregator, bills, node, rerating, year
from tests.bench.table import Figure, show

PARTS: Mapping[str, Callable[[Server, Path], list[Figure]]] = {
    "aggregator": aggregator.measure,
    "bills": bills.measure,
    "rerating": rerating.measure,
    "year": year.measure,
    "node": lambda _server, folder: node.measure(folder),
}
"""Those that BENCH_PARTS names, or all."""


def main() -> None:
    """Measure on a TimescaleDB of the run's own, with fsync on."""
    named = os.environ.get("BENCH_PARTS", ",".join(PARTS)).split(",")
    parts = [PARTS[name] for name in named]
    folder = Path(tempfile.mkdtemp(prefix="nodemeter-bench-"))
    folder.chmod(0o755)
    try:
        software = state_dir_of(CHECKOUT) / "timescaledb"
        with ensure_server(folder, software_dirs=[software]) as server:
            figures = [figure for part in parts for figure in part(server, folder)]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    show(figures, os.environ.get("BENCH_JSON"))


if __name__ == "__main__":
    main()
