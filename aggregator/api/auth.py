"""Who asks, and what they may do.

A request without a token acts as `[http] open_role` when it comes straight from a network
of `[http] open_to`, and from nowhere else. A request that went through a proxy came from
somewhere else, whatever its last hop. A token that is sent must be valid; there are none
yet, so any is refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from http import HTTPStatus
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from socket import gethostname
from typing import Literal, TypeAlias
from urllib.parse import urlsplit

from aiohttp import web

from aggregator.api.problem import Problem
from aggregator.settings import HttpSettings

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

_PROXY_HEADERS = frozenset({"forwarded", "via", "x-real-ip"})


class Role(IntEnum):
    """What a caller may do; each includes those below it."""

    VIEWER = 1
    ADMIN = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The origin of a request: `name` is what the history of a price shows."""

    name: str
    role: Role


_ROLES: dict[Literal["admin", "viewer"], Role] = {"admin": Role.ADMIN, "viewer": Role.VIEWER}


def authenticate(request: web.Request, settings: HttpSettings) -> Caller:
    """The caller of a request; a Problem 401 that says why there is none."""
    if "Authorization" in request.headers:
        raise _unauthorized("the token is not valid")
    if _is_forwarded(request):
        raise _unauthorized("a request through a proxy needs a token")
    address = _address(request.remote)
    if address is None or not _is_within(address, settings.open_to):
        raise _unauthorized(
            "this network may not ask without a token; [http] open_to lists those that may"
        )
    if address.is_loopback and not _is_own_name(request.headers.get("Host")):
        raise _unauthorized("on this machine ask by localhost or an address, not by this name")
    return Caller(name=f"{settings.open_role}@{address}", role=_ROLES[settings.open_role])


def authorize(caller: Caller, role: Role) -> None:
    """Raise a Problem 403 unless the caller has the role."""
    if caller.role < role:
        raise Problem(HTTPStatus.FORBIDDEN, f"this needs the role {role.name.lower()}")


def _unauthorized(detail: str) -> Problem:
    return Problem(HTTPStatus.UNAUTHORIZED, detail, headers={"WWW-Authenticate": "Bearer"})


def _is_forwarded(request: web.Request) -> bool:
    names = (name.lower() for name in request.headers)
    return any(name in _PROXY_HEADERS or name.startswith("x-forwarded-") for name in names)


def _address(remote: str | None) -> Address | None:
    try:
        address = ip_address((remote or "").partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _is_within(address: Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)


def _is_own_name(host: str | None) -> bool:
    """Whether the name asked for is this machine's.

    A web page whose own name was made to resolve to loopback (DNS rebinding) must not act
    as this machine's user.
    """
    if not host:
        return True
    name = (urlsplit(f"//{host}").hostname or "").removesuffix(".").lower()
    own = gethostname().lower()
    return (
        name in {"localhost", own, own.partition(".")[0]}
        or name.endswith(".localhost")
        or _address(name) is not None
    )
