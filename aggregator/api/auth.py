"""Who asks, and what they may do.

A request without a token acts as `[http] open_role` when it comes straight from a network
of `[http] open_to`, and from nowhere else. A request that went through a proxy came from
somewhere else, whatever its last hop. A token that is sent must be valid, wherever it comes
from; `door` looks it up.
"""

import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from http import HTTPStatus
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from socket import gethostname
from typing import TypeAlias

from aiohttp import web

from aggregator.api.problem import Problem
from aggregator.billing.scope import EVERYTHING, Scope
from aggregator.billing.tokens import Bearer, RoleName
from aggregator.settings import HttpSettings

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

_PROXY_HEADERS = frozenset({"forwarded", "via", "x-real-ip"})
_HOST = re.compile(
    r"(?:\[(?P<literal>[^\[\]]*)\]|(?P<name>[A-Za-z0-9._~%!$&'()*+,;=-]*))(?::[0-9]{0,5})?"
)
_ZONE = re.compile(r"[A-Za-z0-9._~%-]+")


class Role(IntEnum):
    """What a caller may do; each includes those below it.

    An operation for SCOPED shows what is within its caller's scope and nothing else.
    """

    SCOPED = 1
    VIEWER = 2
    ADMIN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The origin of a request: `name` is what the history of a price shows."""

    name: str
    role: Role
    scope: Scope = EVERYTHING
    key: Hashable = None
    """Whose requests are counted together."""


_ROLES: dict[RoleName, Role] = {"admin": Role.ADMIN, "viewer": Role.VIEWER}


def asked_name(request: web.Request) -> str | None:
    """The name or address that the request was sent to, without its port; None: it says none.

    Raises a Problem 400 for what is no host (RFC 9110, 7.2).
    """
    match = _HOST.fullmatch(request.headers.get("Host", ""))
    if match is None or not _is_literal(match["literal"]):
        raise Problem(
            HTTPStatus.BAD_REQUEST,
            "the header Host must be one name or address, like localhost:8080 or [::1]:8080",
        )
    name = match["name"] if match["literal"] is None else match["literal"]
    return name.removesuffix(".").lower() or None


def sent_token(request: web.Request) -> str | None:
    """The token that a request carries, "" for what is none; None: it does not try."""
    if "Authorization" not in request.headers:
        return None
    given = request.headers.getall("Authorization")
    scheme, _, token = given[0].partition(" ")
    return token.strip(" ") if len(given) == 1 and scheme.lower() == "bearer" else ""


def caller_of_token(bearer: Bearer) -> Caller:
    """The caller that a valid token makes."""
    is_scoped = not bearer.scope.is_everything
    role = Role.SCOPED if is_scoped else _ROLES[bearer.role]
    return Caller(name=f"token {bearer.name}", role=role, scope=bearer.scope, key=bearer.token_id)


def caller_without_token(request: web.Request, settings: HttpSettings) -> Caller:
    """The caller of a request from an open network; a Problem 401 says why there is none."""
    if _is_forwarded(request):
        raise unauthorized("a request through a proxy needs a token")
    address = _address(request.remote)
    if address is None or not _is_within(address, settings.open_to):
        raise unauthorized(
            "this network may not ask without a token; [http] open_to lists those that may"
        )
    if address.is_loopback and not _is_own_name(asked_name(request)):
        raise unauthorized("on this machine ask by localhost or an address, not by this name")
    return Caller(
        name=f"{settings.open_role}@{address}",
        role=_ROLES[settings.open_role],
        key=origin(request),
    )


def authorize(caller: Caller, role: Role) -> None:
    """Raise a Problem 403 unless the caller has the role."""
    if caller.role >= role:
        return
    if caller.role is Role.SCOPED and role is Role.VIEWER:
        raise Problem(HTTPStatus.FORBIDDEN, "this needs a token that may see all usage")
    raise Problem(HTTPStatus.FORBIDDEN, f"this needs the role {role.name.lower()}")


def origin(request: web.Request) -> str:
    """Where a request comes from, for counting: a host, or a network that is one customer's."""
    address = _address(request.remote)
    if isinstance(address, IPv6Address):
        return str(IPv6Network((address, 64), strict=False))
    return str(address)


def unauthorized(detail: str) -> Problem:
    """The Problem 401 with that reason."""
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


def _is_literal(text: str | None) -> bool:
    """Whether what stands in brackets, if anything does, is an IPv6 address."""
    if text is None:
        return True
    address, percent, zone = text.partition("%")
    is_zoned = not percent or _ZONE.fullmatch(zone) is not None
    return is_zoned and ":" in address and _address(address) is not None


def _is_own_name(name: str | None) -> bool:
    """Whether the name asked for is this machine's.

    A web page whose own name was made to resolve to loopback (DNS rebinding) must not act
    as this machine's user.
    """
    own = gethostname().lower()
    return (
        name is None
        or name in {"localhost", own, own.partition(".")[0]}
        or name.endswith(".localhost")
        or _address(name) is not None
    )
