import subprocess
from pathlib import Path

from aggregator.store.embedded.account import choose_account
from aggregator.store.embedded.cluster import Cluster
from aggregator.store.embedded.server import Server
from aggregator.store.embedded.software import Software

LATE_LOGGER = 'sleep 0.3; echo "Address already in use" > log/postgresql-Thu.log'


def test_the_last_words_are_those_that_the_logger_still_has_to_write(tmp_path: Path) -> None:
    """PostgreSQL's logger outlives the server by a moment, on a loaded machine a long one."""
    cluster = Cluster(folder=tmp_path, account=choose_account())
    (cluster.data / "log").mkdir(parents=True)
    (tmp_path / "start.log").write_text("redirecting log output to logging collector process\n")
    with (tmp_path / "lock").open("w") as lock:
        server = Server(
            cluster=cluster,
            software=Software(binaries=tmp_path, major=17, timescaledb="2.19.3"),
            settings={},
            fixed_port=None,
            lock=lock,
        )
        with subprocess.Popen(["sh", "-c", LATE_LOGGER], cwd=cluster.data):
            assert server._last_words() == "Address already in use"
