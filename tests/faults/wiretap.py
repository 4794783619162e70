"""What is said on the two links, read from their bytes as they pass.

Agents speak gRPC over HTTP/2 in plain text, the aggregator PostgreSQL's protocol; of both
only as much is understood as tells a batch from its ack, and a commit from its answer.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Final

from proto.metering.v1 import metering_pb2 as pb
from tests.faults.proxy import Side
from tests.faults.traffic import Conversation, Traffic

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_FRAME_HEADER: Final = 9
_DATA: Final = 0
_PADDED: Final = 8


class Http2Messages:
    """The gRPC messages in one direction of one HTTP/2 connection."""

    def __init__(self, side: Side) -> None:
        """Begin at the connection's first byte."""
        self._left = bytearray()
        self._skip = len(_PREFACE) if side is Side.CLIENT else 0
        self._calls: defaultdict[int, bytearray] = defaultdict(bytearray)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take more bytes; give the messages that they complete."""
        self._left += data
        if self._skip:
            if len(self._left) < self._skip:
                return
            del self._left[: self._skip]
            self._skip = 0
        while frame := self._next_frame():
            kind, flags, call, payload = frame
            if kind == _DATA:
                if flags & _PADDED:
                    payload = payload[1 : len(payload) - payload[0]]
                yield from self._messages(call, payload)

    def _next_frame(self) -> tuple[int, int, int, bytes] | None:
        left = self._left
        if len(left) < _FRAME_HEADER:
            return None
        end = _FRAME_HEADER + int.from_bytes(left[:3])
        if len(left) < end:
            return None
        kind, flags, call = left[3], left[4], int.from_bytes(left[5:9]) & 0x7FFFFFFF
        payload = bytes(left[_FRAME_HEADER:end])
        del left[:end]
        return kind, flags, call, payload

    def _messages(self, call: int, payload: bytes) -> Iterator[bytes]:
        left = self._calls[call]
        left += payload
        while len(left) >= 5 and len(left) >= (end := 5 + int.from_bytes(left[1:5])):
            yield bytes(left[5:end])
            del left[:end]


class GrpcTap:
    """Listens to one agent's connection for `traffic`."""

    def __init__(self, traffic: Traffic) -> None:
        """Hear a connection from its beginning."""
        self._traffic = traffic
        self._conversation = Conversation()
        self._messages = {side: Http2Messages(side) for side in Side}
        traffic.began(self._conversation)

    def heard(self, side: Side, data: bytes, /) -> Sequence[pb.AgentMessage | pb.AggregatorMessage]:
        """See `Tap`; what the agent says counts as sent from here on."""
        messages = self._messages[side].feed(data)
        if side is Side.SERVER:
            return [pb.AggregatorMessage.FromString(message) for message in messages]
        said = [pb.AgentMessage.FromString(message) for message in messages]
        for message in said:
            self._traffic.sent(self._conversation, message)
        return said

    def passed(self, _side: Side, said: Sequence[object], /) -> None:
        """See `Tap`; an ack counts from here on."""
        for message in said:
            if isinstance(message, pb.AggregatorMessage):
                self._traffic.answered(self._conversation, message)

    def ended(self) -> None:
        """See `Tap`."""
        self._traffic.ended(self._conversation)


class Word(StrEnum):
    """What is understood of PostgreSQL's protocol."""

    COMMIT = "commit"  # the client asks for it
    COMMITTED = "committed"  # the server has done it


class PostgresTap:
    """Listens to one connection to the database."""

    def __init__(self) -> None:
        """Hear a connection from its beginning, which is in plain text."""
        self._left = {side: bytearray() for side in Side}
        self._has_introduced = False

    def heard(self, side: Side, data: bytes, /) -> Sequence[Word]:
        """See `Tap`."""
        left = self._left[side]
        left += data
        if side is Side.CLIENT and not self._has_introduced:
            if len(left) < 4 or len(left) < int.from_bytes(left[:4]):
                return []
            del left[: int.from_bytes(left[:4])]
            self._has_introduced = True
        return [word for kind, body in _typed(left) if (word := _word(side, kind, body))]

    def passed(self, _side: Side, _said: Sequence[object], /) -> None:
        """See `Tap`."""

    def ended(self) -> None:
        """See `Tap`."""


def _typed(left: bytearray) -> Iterator[tuple[bytes, bytes]]:
    """Take whole messages off the front: a letter, a length that counts itself, a body."""
    while len(left) >= 5 and len(left) >= (end := 1 + int.from_bytes(left[1:5])):
        yield bytes(left[:1]), bytes(left[5:end])
        del left[:end]


def _word(side: Side, kind: bytes, body: bytes) -> Word | None:
    if side is Side.SERVER:
        return Word.COMMITTED if kind == b"C" and body == b"COMMIT\0" else None
    is_commit = (kind == b"Q" and body == b"COMMIT\0") or (kind == b"P" and b"\0COMMIT\0" in body)
    return Word.COMMIT if is_commit else None
