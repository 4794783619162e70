from pathlib import Path

from aggregator.store.embedded.account import choose_account
from aggregator.store.embedded.cluster import Cluster, memory_settings

GIB = 1024**3


def cluster_in(folder: Path) -> Cluster:
    return Cluster(folder=folder, account=choose_account())


def test_memory_follows_the_machine_within_bounds() -> None:
    """A sixteenth of the machine, never under 64 MB, never over 1 GB."""
    assert memory_settings(512 * 1024**2)["shared_buffers"] == "64MB"
    assert memory_settings(8 * GIB)["shared_buffers"] == "512MB"
    assert memory_settings(512 * GIB)["shared_buffers"] == "1024MB"


def test_a_long_path_has_no_socket(tmp_path: Path) -> None:
    """A Unix socket's path has at most 107 bytes; then the loopback port must do."""
    assert cluster_in(Path("/run/x")).socket_folder == Path("/run/x/socket")
    assert cluster_in(tmp_path / ("d" * 100)).socket_folder is None


def test_a_cluster_that_was_never_made_has_no_version_and_no_server(tmp_path: Path) -> None:
    """Unknown is None, not 0."""
    cluster = cluster_in(tmp_path)
    assert cluster.major() is None
    assert cluster.postmaster() is None


def test_a_torn_pid_file_names_no_server(tmp_path: Path) -> None:
    """A file that a crash left empty or half-written is not a process."""
    cluster = cluster_in(tmp_path)
    cluster.data.mkdir()
    for text in ("", "\n", "garbage\n"):
        (cluster.data / "postmaster.pid").write_text(text)
        assert cluster.postmaster() is None


def test_the_pid_file_says_whether_connections_are_accepted(tmp_path: Path) -> None:
    """PostgreSQL writes `ready` into the eighth line, and other words before that."""
    cluster = cluster_in(tmp_path)
    cluster.data.mkdir()
    lines = ["4711", "/data", "1700000000", "5432", "/socket", "127.0.0.1", "1 2"]
    for status, is_ready in (("starting", False), ("ready   ", True)):
        (cluster.data / "postmaster.pid").write_text("\n".join([*lines, status]))
        postmaster = cluster.postmaster()
        assert postmaster is not None
        assert (postmaster.pid, postmaster.is_ready) == (4711, is_ready)
