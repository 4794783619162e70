"""What somebody who means ill says to the gRPC port: HTTP/2 by hand, and no HTTP/2 at all.

gRPC's own client would not say these things. Each attack gives how many of its streams, or
connections, the aggregator ended by itself.
"""

import gzip
import random
import socket
import struct
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

from agent.uplink.channel import METHOD
from proto.metering.v1 import metering_pb2 as pb

Connect = Callable[[], socket.socket]
"""Opens a connection to the port, with its TLS if it has any."""

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _GOAWAY = 0, 1, 3, 4, 7
_END_STREAM, _END_HEADERS = 1, 4
_FRAME_BYTES = 16_000
_WINDOW_BYTES = 65_000
"""What may be sent before the other side widens the window."""
_PATIENCE_SECONDS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One of HTTP/2."""

    kind: int
    flags: int
    stream: int


def message(content: bytes, *, claimed: int | None = None, is_deflated: bool = False) -> bytes:
    """A message of gRPC: whether it is compressed, its length, itself."""
    length = len(content) if claimed is None else claimed
    return struct.pack(">BI", is_deflated, length) + content


def bomb() -> bytes:
    """60 MiB of zeros that travel as 60 KiB."""
    return message(gzip.compress(bytes(60 << 20), 9), is_deflated=True)


def lie() -> bytes:
    """The beginning of a message of 1 GB."""
    return message(bytes(1_000), claimed=1 << 30)


def nest() -> bytes:
    """Groups in groups, thirty thousand deep, none of which is known."""
    return message(b"\x7b" * 30_000)


def noise() -> bytes:
    """A message that is none."""
    return message(random.randbytes(60_000))


def hello(number: int) -> bytes:
    """The Hello of a node that will never say anything again."""
    said = pb.Hello(
        node=f"silent-{number}",
        cluster="c1",
        address="10.0.0.9",
        stream_id=random.randbytes(16),
    )
    return message(pb.AgentMessage(hello=said).SerializeToString())


def say_on_streams(connect: Connect, content: Sequence[bytes]) -> int:
    """Each on a connection of its own; how many streams were ended by the other side."""
    ended = 0
    for each in content:
        with connect() as wire:
            wire.sendall(_PREFACE + _frame(_SETTINGS, 0, 0, b"") + _stream(1, each))
            ended += _is_ended(wire)
    return ended


@contextmanager
def silent_streams(connect: Connect, count: int) -> Generator[None]:
    """Open streams on one connection, of which each says Hello and no more."""
    with connect() as wire:
        wire.sendall(_PREFACE + _frame(_SETTINGS, 0, 0, b""))
        for number in range(count):
            wire.sendall(_stream(2 * number + 1, hello(number)))
        yield


@contextmanager
def half_open(connect: Connect, count: int) -> Generator[list[socket.socket]]:
    """Open connections that say nothing."""
    with ExitStack() as stack:
        yield [stack.enter_context(connect()) for _ in range(count)]


def babble(connect: Connect, count: int) -> int:
    """Say what is no HTTP/2; how many were hung up on."""
    ended = 0
    for _ in range(count):
        with connect() as wire:
            with suppress(ConnectionError):
                wire.sendall(random.randbytes(10_000))
                with suppress(OSError):  # hung up on already
                    wire.shutdown(socket.SHUT_WR)
                while wire.recv(4_096):
                    pass
            ended += 1
    return ended


def _stream(number: int, content: bytes) -> bytes:
    """A call, and a message on it, in frames."""
    assert len(content) <= _WINDOW_BYTES
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": METHOD,
        ":authority": "localhost",
        "te": "trailers",
        "content-type": "application/grpc",
        "grpc-encoding": "gzip",
    }
    parts = (content[at : at + _FRAME_BYTES] for at in range(0, len(content), _FRAME_BYTES))
    head = _frame(_HEADERS, _END_HEADERS, number, b"".join(map(_field, fields.items())))
    return head + b"".join(_frame(_DATA, 0, number, part) for part in parts)


def _field(item: tuple[str, str]) -> bytes:
    """A header as HPACK has it, in plain."""
    name, value = (text.encode() for text in item)
    return bytes([0, len(name)]) + name + bytes([len(value)]) + value


def _frame(kind: int, flags: int, stream: int, content: bytes) -> bytes:
    return struct.pack(">I", len(content))[1:] + struct.pack(">BBI", kind, flags, stream) + content


def _is_ended(wire: socket.socket) -> bool:
    """Wait for the end of stream 1, or of the connection."""
    wire.settimeout(_PATIENCE_SECONDS)
    for frame in _frames(wire):
        is_last = frame.flags & _END_STREAM and frame.kind in {_DATA, _HEADERS}
        if frame.kind == _GOAWAY or (frame.stream == 1 and (is_last or frame.kind == _RESET)):
            return True
    return True


def _frames(wire: socket.socket) -> Iterator[Frame]:
    """Read until the connection ends."""
    with wire.makefile("rb") as source:
        try:
            while len(head := source.read(9)) == 9:
                length = int.from_bytes(head[:3])
                kind, flags, stream = struct.unpack(">BBI", head[3:])
                source.read(length)
                yield Frame(kind=kind, flags=flags, stream=stream)
        except ConnectionError:
            return
