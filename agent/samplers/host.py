"""The host: what the node has, and the address that bills show for it.

Not a `Sampler` of runs: it is asked once, when the agent starts.
"""

import os
import socket
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from agent.errors import SamplerError

_ELSEWHERE = (("192.0.2.1", 9), ("2001:db8::1", 9))
"""Addresses that nobody has: the way to them is the default route's. Nothing is sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostCapacity:
    """What the node has; `cpu_model` None = the processor does not say."""

    cpu_m: int
    mem_kib: int
    cpu_model: str | None


def read_capacity(proc: Path = Path("/proc")) -> HostCapacity:
    """Count the processors that are online and the memory that the kernel manages.

    Raises:
        SamplerError: /proc does not say how much memory there is.
    """
    try:
        mem_kib = _field((proc / "meminfo").read_text(), "MemTotal")
        cpu_model = _field((proc / "cpuinfo").read_text(errors="replace"), *_MODEL_FIELDS)
    except OSError as error:
        raise SamplerError(f"the capacity of the node cannot be read: {error}") from error
    if mem_kib is None:
        raise SamplerError(f"{proc}/meminfo does not say how much memory there is")
    return HostCapacity(
        cpu_m=os.sysconf("SC_NPROCESSORS_ONLN") * 1000,
        mem_kib=int(mem_kib.removesuffix("kB")),
        cpu_model=cpu_model,
    )


_MODEL_FIELDS = ("model name", "cpu model", "Model", "Hardware", "cpu")
"""x86 and new arm, mips, boards, old arm, power: /proc/cpuinfo has no one name for it."""


def _field(text: str, *names: str) -> str | None:
    """The first line named so; the earlier name wins."""
    parts = (line.partition(":") for line in reversed(text.splitlines()))
    lines = {key.strip(): value.strip() for key, colon, value in parts if colon}
    return next((lines[name] for name in names if lines.get(name)), None)


def find_address(target: str) -> str:
    """The source address of the route to `target` (a gRPC target), else of the default route.

    An aggregator on this very host says nothing about the node: then the default route's
    holds. Without any route it is the loopback address.
    """
    for candidates in (_resolve(target), _ELSEWHERE):
        for address in candidates:
            source = _source(address)
            if source is not None and not ip_address(source).is_loopback:
                return source
    return "127.0.0.1"


def _resolve(target: str) -> list[tuple[str, int]]:
    """Addresses of a gRPC target; [] where the name service does not answer."""
    place = target.removeprefix("dns:").lstrip("/").removeprefix("ipv4:").removeprefix("ipv6:")
    host, _, port = place.rpartition(":")
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError):
        return []
    return [(str(address[0]), int(address[1])) for *_, address in found]


def _source(address: tuple[str, int]) -> str | None:
    """Ask the kernel which own address it would use; connecting UDP sends nothing."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(address)
            return str(probe.getsockname()[0]).partition("%")[0]
    except OSError:
        return None
