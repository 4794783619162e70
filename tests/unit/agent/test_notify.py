"""sd_notify and inotify: heard where somebody listens, harmless where nobody does."""

import os
import select
import socket
from pathlib import Path

import pytest

from agent.notify import EventKind, Notifier, Watcher


@pytest.fixture
def watcher() -> Watcher:
    return Watcher()


def events(watcher: Watcher) -> list[tuple[EventKind, str]]:
    """Wait for the first event, then take all."""
    assert select.select([watcher.fileno()], [], [], 10)[0]
    return [(event.kind, event.name) for event in watcher.read_events()]


def listen(address: str) -> socket.socket:
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    receiver.bind(address)
    receiver.settimeout(10)
    return receiver


def test_the_service_manager_hears_all_four_messages(tmp_path: Path) -> None:
    """A path socket gets one datagram per message, and a status is one line."""
    path = str(tmp_path / "notify")
    with listen(path) as receiver:
        notifier = Notifier({"NOTIFY_SOCKET": path})
        notifier.ready()
        notifier.watchdog()
        notifier.status("two\nlines")
        notifier.stopping()
        heard = [receiver.recv(100) for _ in range(4)]
    assert heard == [b"READY=1", b"WATCHDOG=1", b"STATUS=two lines", b"STOPPING=1"]


def test_an_abstract_socket_is_reached() -> None:
    """systemd hands out "@name" for a socket outside the file system."""
    name = f"nodemeter-test-{os.getpid()}"
    with listen("\0" + name) as receiver:
        Notifier({"NOTIFY_SOCKET": "@" + name}).ready()
        assert receiver.recv(100) == b"READY=1"


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": "/nonexistent/socket"}])
def test_nobody_listening_is_no_error(environ: dict[str, str]) -> None:
    """Metering goes on without a service manager, and with a deaf one."""
    Notifier(environ).ready()


def test_appearing_changing_and_vanishing_are_heard(tmp_path: Path, watcher: Watcher) -> None:
    """The life of a jobs.d file: renamed in, rewritten by rename, removed."""
    assert watcher.add(tmp_path)
    (tmp_path / "a.tmp").write_text("x")
    (tmp_path / "a.tmp").rename(tmp_path / "a.json")
    (tmp_path / "a.json").unlink()
    assert events(watcher) == [
        (EventKind.APPEARED, "a.tmp"),
        (EventKind.CHANGED, "a.tmp"),
        (EventKind.VANISHED, "a.tmp"),
        (EventKind.APPEARED, "a.json"),
        (EventKind.VANISHED, "a.json"),
    ]
    watcher.close()


def test_reading_never_blocks(tmp_path: Path, watcher: Watcher) -> None:
    """No event, no waiting."""
    watcher.add(tmp_path)
    assert watcher.read_events() == []
    watcher.close()


def test_a_removed_directory_is_lost_and_can_be_added_again(
    tmp_path: Path, watcher: Watcher
) -> None:
    """The watch dies with its directory; the owner is told and may watch the next one."""
    watched = tmp_path / "jobs.d"
    watched.mkdir()
    watcher.add(watched)
    watched.rmdir()
    assert (EventKind.LOST, "") in events(watcher)
    assert not watcher.add(watched)
    watched.mkdir()
    assert watcher.add(watched)
    (watched / "sub").mkdir()
    assert events(watcher) == [(EventKind.APPEARED, "sub")]
    watcher.close()


def test_an_overflow_is_flagged(tmp_path: Path, watcher: Watcher) -> None:
    """When the kernel dropped events the owner learns that it must look at everything."""
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    watcher.add(tmp_path)
    for index in range(limit // 2 + 10):  # create and delete: two events each
        os.close(os.open(f"{tmp_path}/{index}", os.O_CREAT | os.O_RDONLY))
        Path(f"{tmp_path}/{index}").unlink()
    assert EventKind.OVERFLOW in {kind for kind, _ in events(watcher)}
    watcher.close()


def test_without_inotify_there_are_no_events(tmp_path: Path) -> None:
    """A watcher that could not be opened is deaf, not broken."""
    watcher = Watcher()
    watcher.close()
    assert not watcher.available
    assert watcher.fileno() == -1
    assert not watcher.add(tmp_path)
    assert watcher.read_events() == []
    watcher.close()
