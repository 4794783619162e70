"""Talks to the service manager, and hears of changes in directories.

`Notifier` speaks sd_notify(3); it is silent where nobody listens. `Watcher` hears inotify
events; where the kernel has none to give it is silent too, and its owner has to look for
itself at every tick. Neither ever blocks, neither ever raises for the other side's faults.
"""

import ctypes
import os
import socket
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

_EVENT = struct.Struct("iIII")  # struct inotify_event: wd, mask, cookie, length of the name
_CREATE, _DELETE = 0x0100, 0x0200
_MOVED_FROM, _MOVED_TO = 0x0040, 0x0080
_CLOSE_WRITE, _ATTRIB = 0x0008, 0x0004
_DELETE_SELF, _MOVE_SELF = 0x0400, 0x0800
_OVERFLOW, _IGNORED, _UNMOUNT = 0x4000, 0x8000, 0x2000
_MODIFY = 0x0002
_ISDIR = 0x40000000
_ONLYDIR = 0x01000000
_WANTED = (
    _CREATE | _DELETE | _MOVED_FROM | _MOVED_TO | _CLOSE_WRITE | _ATTRIB | _DELETE_SELF | _MOVE_SELF
)
_READ_BYTES = 64 << 10


class Notifier:
    """Tells the service manager how we are; without one, nobody."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        """Take the socket's address from NOTIFY_SOCKET ("@…" = abstract)."""
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address

    def ready(self) -> None:
        """We serve."""
        self._send("READY=1")

    def stopping(self) -> None:
        """We are about to end, and not by failure."""
        self._send("STOPPING=1")

    def watchdog(self) -> None:
        """We still do our work."""
        self._send("WATCHDOG=1")

    def status(self, text: str) -> None:
        """Show one line in `systemctl status`."""
        self._send("STATUS=" + text.replace("\n", " "))

    def _send(self, message: str) -> None:
        if not self._address:
            return
        kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        try:
            with socket.socket(socket.AF_UNIX, kind) as sender:
                sender.connect(self._address)
                sender.send(message.encode())
        except OSError:
            return  # a deaf service manager must not stop the metering


class EventKind(StrEnum):
    """What happened to an entry of a watched directory."""

    APPEARED = "appeared"  # created or moved in
    CHANGED = "changed"  # written and closed, or its owner or mode changed
    VANISHED = "vanished"  # deleted or moved out
    LOST = "lost"  # the watched directory itself is gone; its watch with it
    OVERFLOW = "overflow"  # events were lost: look at everything again


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One change. `path` is the watched directory, `name` the entry ("" = itself)."""

    kind: EventKind
    path: Path | None
    name: str
    is_directory: bool = False


class Watcher:
    """Hears what happens in directories; see `available`."""

    def __init__(self, *, has_changes: bool = False) -> None:
        """Open an inotify queue, or stay deaf where there is none to be had.

        `has_changes`: hear of every write to a file, not only when its writer closes it;
        the files of a cgroup have no writer.
        """
        self._mask = _WANTED | _ONLYDIR | (_MODIFY if has_changes else 0)
        self._paths: dict[int, Path] = {}
        self._libc = ctypes.CDLL(None, use_errno=True)
        try:
            self._fd: int = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        except AttributeError:  # a libc without inotify
            self._fd = -1

    @property
    def available(self) -> bool:
        """Whether events come at all; else `fileno` is -1 and there are never any."""
        return self._fd >= 0

    def fileno(self) -> int:
        """Becomes readable with the first event; -1 where none will come."""
        return self._fd

    def add(self, path: Path) -> bool:
        """Watch a directory; adding it again changes nothing.

        Returns:
            Whether it is watched now. Look at its entries after this, not before: what
            came earlier has no event.
        """
        return self._add(path, self._mask)

    def pin(self, path: Path) -> bool:
        """Keep the kernel's mind on one file: it tells of cgroup files only what it remembers.

        Its directory must be watched too; that is where its events are told.
        """
        return self._add(path, _MODIFY)

    def _add(self, path: Path, mask: int) -> bool:
        if self._fd < 0:
            return False
        wd: int = self._libc.inotify_add_watch(self._fd, os.fsencode(path), mask)
        if wd < 0:
            return False
        self._paths[wd] = path
        return True

    def read_events(self) -> Sequence[Event]:
        """Everything that happened since the last call; [] at once when nothing did."""
        events: list[Event] = []
        while self._fd >= 0:
            try:
                data = os.read(self._fd, _READ_BYTES)
            except (BlockingIOError, InterruptedError):
                break
            events += self._parse(data)
        return events

    def close(self) -> None:
        """Stop hearing; idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _parse(self, data: bytes) -> list[Event]:
        events: list[Event] = []
        offset = 0
        while offset < len(data):
            wd, mask, _, length = _EVENT.unpack_from(data, offset)
            offset += _EVENT.size
            name = os.fsdecode(data[offset : offset + length].rstrip(b"\0"))
            offset += length
            if kind := _kind(mask):
                path = self._paths.get(wd)
                directory = bool(mask & _ISDIR)
                events.append(Event(kind=kind, path=path, name=name, is_directory=directory))
            if mask & _IGNORED:
                self._paths.pop(wd, None)
        return events


def _kind(mask: int) -> EventKind | None:
    """Put the kernel's bits into the five words that matter here."""
    if mask & _OVERFLOW:
        return EventKind.OVERFLOW
    if mask & (_DELETE_SELF | _MOVE_SELF | _UNMOUNT):
        return EventKind.LOST
    if mask & (_CREATE | _MOVED_TO):
        return EventKind.APPEARED
    if mask & (_DELETE | _MOVED_FROM):
        return EventKind.VANISHED
    return EventKind.CHANGED if mask & (_CLOSE_WRITE | _ATTRIB | _MODIFY) else None
