"""Checks what a Hello says, which is foreign: it is stored and shown. Pure."""

from collections.abc import Iterator
from ipaddress import ip_address
from typing import Final
from uuid import UUID

from aggregator.ingest.definition import is_name, is_text
from aggregator.model import StreamId
from proto.metering.v1 import metering_pb2 as pb

_MAX_BIGINT: Final = (1 << 63) - 1
_MAX_DEVICES: Final = 1_024


class HelloError(Exception):
    """The Hello breaks a rule; the message says which."""


def check_hello(hello: pb.Hello) -> StreamId:
    """Refuse what cannot be stored or shown; give the stream."""
    if not is_name(hello.node) or not is_name(hello.cluster):
        raise HelloError("node and cluster are 1 to 256 characters, none of them control")
    if len(hello.stream_id) != 16:
        raise HelloError("stream_id is 16 bytes")
    for name, text in _texts(hello):
        if not is_text(text):
            raise HelloError(f"{name} is at most 256 characters, none of them control")
    if not is_address(hello.address):
        raise HelloError("address is not an IP address (a zone like %eth0 is no part of it)")
    if hello.capacity.cpu_m > _MAX_BIGINT or hello.capacity.mem_kib > _MAX_BIGINT:
        raise HelloError("the capacity is out of range")
    if len(hello.capacity.devices) > _MAX_DEVICES:
        raise HelloError(f"the capacity has more than {_MAX_DEVICES} devices")
    return StreamId(UUID(bytes=hello.stream_id))


def is_address(text: str) -> bool:
    """Whether `text` is an IP address and nothing else; a zone could be any text."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return "%" not in text


def _texts(hello: pb.Hello) -> Iterator[tuple[str, str]]:
    """All that is said in words, beside names and address, with what to call it."""
    yield "boot_id", hello.boot_id
    yield "machine_id", hello.machine_id
    yield "agent_version", hello.agent_version
    yield "incarnation", hello.incarnation
    yield "cpu_model", hello.capacity.cpu_model
    for device in hello.capacity.devices:
        yield "a device's type", device.type
        yield "a device's id", device.id
        yield "a device's model", device.model
