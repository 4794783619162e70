"""Asks a container engine over its Unix socket: one small request, one bounded answer.

In HTTP/1.0, in which the engine closes after its answer: a dozen lines, where `http.client`
takes a megabyte of memory and can be kept waiting for ever. The other side may be anybody's:
an answer is read up to a size and up to a deadline, whatever it does in between. A socket
of a user (rootless) may only speak of that user's containers, so the account that listens
is told along, by the kernel.
"""

import os
import re
import socket
import struct
import time
from typing import NamedTuple

from agent.errors import ProviderError

TIMEOUT_SECONDS = 5.0
"""For one request and its whole answer."""
MAX_BYTES = 8 << 20
_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})\b")
_CREDENTIALS = struct.Struct("iII")  # struct ucred: pid, uid, gid


class EngineDownError(ProviderError):
    """Nobody answers at the socket, or not in time: the next request would fare the same."""


class Answer(NamedTuple):
    """`uid` is the account that listens at the socket."""

    status: int
    body: bytes
    uid: int


def get(path: str, target: str, timeout_seconds: float = TIMEOUT_SECONDS) -> Answer:
    """GET `target` from the engine that listens at `path`.

    Raises:
        EngineDownError: it cannot be reached, or was not done in time.
        ProviderError: its answer is too long, or is no HTTP.
    """
    deadline = time.monotonic() + timeout_seconds
    request = f"GET {target} HTTP/1.0\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout_seconds)
            connection.connect(path)
            credentials = connection.getsockopt(
                socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size
            )
            connection.sendall(request.encode())
            data = _receive(connection, deadline, path)
        if not data:
            raise ConnectionResetError("it closed the connection")
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        raise EngineDownError(f"the engine at {path} does not answer: {reason}") from error
    status, body = _parse(data, path)
    return Answer(status, body, _CREDENTIALS.unpack(credentials)[1])


def may_speak_of(listener_uid: int, owner_uid: int | None) -> bool:
    """Whether this account's engine may say whose a container of `owner_uid` (None = root) is."""
    return listener_uid in {0, os.geteuid(), owner_uid}


def _receive(connection: socket.socket, deadline: float, path: str) -> bytes:
    """Everything until the other side closes; bounded in time and size as a whole."""
    received = bytearray()
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("it was not done in time")
        connection.settimeout(left)
        data = connection.recv(65536)
        if not data:
            return bytes(received)
        received += data
        if len(received) > MAX_BYTES:
            raise ProviderError(f"the engine at {path} answers with more than {MAX_BYTES} bytes")


def _parse(data: bytes, path: str) -> tuple[int, bytes]:
    """Take an answer apart; to a request in HTTP/1.0 the body is all that follows the head."""
    head, separator, body = data.partition(b"\r\n\r\n")
    status = _STATUS.match(head)
    if status is None or not separator:
        raise ProviderError(f"the engine at {path} does not speak HTTP, but {data[:40]!r}")
    return int(status[1]), body
