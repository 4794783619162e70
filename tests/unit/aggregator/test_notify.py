"""The service manager hears what it asked to hear."""

import socket
from pathlib import Path

from aggregator.notify import Notifier


def test_states_arrive_as_datagrams(tmp_path: Path) -> None:
    """In order, at the socket that was named."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        notifier.ready()
        notifier.watchdog()
        notifier.stopping()
        assert [manager.recv(100) for _ in range(3)] == [b"READY=1", b"WATCHDOG=1", b"STOPPING=1"]


def test_an_abstract_socket_will_do() -> None:
    """Systemd may use either."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0nodemeter-test-notify")
        Notifier({"NOTIFY_SOCKET": "@nodemeter-test-notify"}).ready()
        assert manager.recv(100) == b"READY=1"


def test_a_manager_that_is_deaf_or_absent_stops_nothing(tmp_path: Path) -> None:
    """Billing goes on."""
    Notifier({}).ready()
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "nobody")}).ready()
