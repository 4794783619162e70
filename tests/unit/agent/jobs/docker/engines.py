"""A container engine's HTTP API on a Unix socket, as well or as badly behaved as a test wants."""

import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

Document: TypeAlias = dict[str, Any]

Reply = Callable[[socket.socket, str], None]
"""Answers a request for a path; the connection is closed afterwards."""


class Engine:
    """Serves the containers that it is told, until `stop`; counts what it was asked."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.containers: dict[str, Document] = {}
        self.reply: Reply = self.answer
        self.asked: list[str] = []
        self._listener: socket.socket | None = None
        self._stopping = threading.Event()

    def start(self) -> None:
        """Listen; also again after `stop`."""
        self._stopping = threading.Event()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(self.path))
        listener.listen(64)
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def stop(self) -> None:
        """Be gone, socket and all; whoever waits is cut off."""
        self._stopping.set()
        listener, self._listener = self._listener, None
        if listener is not None:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
            self.path.unlink()

    def run(self, id_: str, document: Document | None = None) -> None:
        """Have a container of this id."""
        self.containers[id_] = document or container(id_)

    def inspected(self) -> list[str]:
        """Ids that were asked for, in order."""
        return [target.split("/")[2] for target in self.asked if target.count("/") == 3]

    def answer(self, connection: socket.socket, target: str) -> None:
        """As an engine does."""
        parts = target.strip("/").split("/")
        if parts == ["containers", "json"]:
            send(connection, 200, [listed(each) for each in self.containers.values()])
        elif len(parts) == 3 and parts[1] in self.containers:
            send(connection, 200, self.containers[parts[1]])
        else:
            send(connection, 404, {"message": f"No such container: {target}"})

    def hang(self, _connection: socket.socket, _target: str) -> None:
        """Never answer."""
        self._stopping.wait(60)

    def drip(self, connection: socket.socket, _target: str) -> None:
        """Send one byte after the other, for ever."""
        with suppress(OSError):
            connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n")
            while not self._stopping.wait(0.02):
                connection.sendall(b" ")

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            request = b""
            while b"\r\n\r\n" not in request:
                data = connection.recv(4096)
                if not data:
                    return
                request += data
            method, target, version = request.split(b"\r\n", 1)[0].decode().split(" ")
            assert (method, version) == ("GET", "HTTP/1.0")
            self.asked.append(target)
            self.reply(connection, target)


def send(connection: socket.socket, status: int, document: object) -> None:
    """One JSON answer."""
    body = json.dumps(document).encode()
    head = f"HTTP/1.0 {status} X\r\nContent-Type: application/json\r\n"
    connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)


def says(data: bytes) -> Reply:
    """Reply with these bytes."""

    def reply(connection: socket.socket, _target: str) -> None:
        with suppress(OSError):
            connection.sendall(data)

    return reply


def status(code: int) -> Reply:
    """Reply with this status."""
    return lambda connection, _target: send(connection, code, {"message": "Server Error"})


def container(
    id_: str,
    host: Mapping[str, object] | None = None,
    *,
    name: str = "/burn",
    labels: dict[str, str] | None = None,
    env: list[str] | None = None,
    started: str = "2026-02-06T03:00:00.123456789Z",
) -> Document:
    """What Docker 27 answers to an inspect, without what is of no use here."""
    return {
        "Id": id_,
        "Created": "2026-02-06T02:59:59.9Z",
        "Name": name,
        "Driver": "overlay2",
        "State": {"Status": "running", "Running": True, "Pid": 4242, "StartedAt": started},
        "HostConfig": {
            "CgroupParent": "",
            "CpuPeriod": 0,
            "CpuQuota": 0,
            "CpusetCpus": "",
            "DeviceRequests": None,
            "Devices": [],
            "Memory": 0,
            "NanoCpus": 0,
            "Runtime": "runc",
        }
        | dict(host or {}),
        "Config": {
            "Image": "alpine",
            "Env": ["PATH=/usr/bin", *(env or [])],
            "Labels": labels or {},
        },
    }


def listed(document: Document) -> Document:
    """The same container as the list has it."""
    return {
        "Id": document["Id"],
        "Names": [document["Name"]],
        "Labels": document["Config"]["Labels"],
        "State": "running",
    }


def engine_at(path: Path) -> Iterator[Engine]:
    """A fixture's body: an engine that serves during one test."""
    engine = Engine(path)
    engine.start()
    yield engine
    engine.stop()
