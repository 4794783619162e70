"""What single values of the configuration may be, beyond what their types say. Pure.

A validator's words are the rule that was broken and the value that breaks it, as `shown`.
"""

import json
import re
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Annotated, Final, TypeAlias

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict
from pydantic import AfterValidator, BeforeValidator, Field

from aggregator.errors import expected_url

EMBEDDED: Final = "embedded"

Network: TypeAlias = IPv4Network | IPv6Network
Toml: TypeAlias = "str | int | float | bool | list[Toml] | dict[str, Toml]"

_LABEL = r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)"
_NAME = re.compile(rf"(?=.{{1,253}}\Z)(?:{_LABEL}\.)*(?!\d+\.?\Z){_LABEL}\.?")
_ORIGIN = re.compile(r"https?://[a-z0-9.-]{1,253}(?::[0-9]{1,5})?")
_ZONED = re.compile(r"[0-9A-Fa-f:.]+(?:%[A-Za-z0-9_.-]{1,15})?")
_PORTS = re.compile(r"(?:[1-9][0-9]{0,4})?(?:,(?:[1-9][0-9]{0,4})?)*")
_LONGEST_SHOWN = 80


def shown(value: object) -> str:
    """A value as the file would say it, in one short line; none that may hold a password."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    if "@" in text or "password" in text.lower():
        return "what it is (not shown, as it may hold a password)"
    if not text.isprintable():
        text = json.dumps(value, default=str)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 1]}…"


def may_coincide(host: str, other: str) -> bool:
    """Whether listening on both may be listening on one address; names may mean any."""
    if not (_is_address(host) and _is_address(other)):
        return True
    addresses = (ip_address(host), ip_address(other))
    return addresses[0] == addresses[1] or any(each.is_unspecified for each in addresses)


def _url(url: str) -> str:
    if url == EMBEDDED:
        return url
    try:
        given = conninfo_to_dict(url)
    except ProgrammingError as error:
        raise ValueError(expected_url(url)) from error
    if not given or not _PORTS.fullmatch(str(given.get("port") or "")):
        raise ValueError(expected_url(url))
    if "@" in str(given.get("host") or ""):
        raise ValueError(f"{expected_url(url)}; in the password write %40 for @")
    return url


def _owner_url(url: str) -> str:
    if url == EMBEDDED:
        raise ValueError("the embedded database has an owner of its own; leave this out")
    return _url(url) if url else url


def _path(value: object) -> object:
    if isinstance(value, Path):
        return value
    if isinstance(value, str) and value and "\0" not in value:
        return Path(value)
    raise ValueError(f"must be a path, not {shown(value)}")


def _path_or_none(value: object) -> object:
    return None if value is None or value == "" else _path(value)


def is_host(host: str) -> bool:
    """Whether it is an address or could be a name."""
    return _is_address(host) or _NAME.fullmatch(host) is not None


def _host(host: str) -> str:
    if is_host(host):
        return host
    raise ValueError(
        "must be the address or name to listen on, like 127.0.0.1, :: or billing.example, "
        f"not {shown(host)}"
    )


def is_loopback(host: str) -> bool:
    """Whether nothing from outside can connect there."""
    return host == "localhost" or (_is_address(host) and ip_address(host).is_loopback)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return _ZONED.fullmatch(text) is not None


def _networks(value: "Toml | tuple[Network, ...]") -> tuple[Network, ...]:
    """Lists come as comma-separated text from the environment."""
    if isinstance(value, str):
        return tuple(_network(part.strip()) for part in value.split(",") if part.strip())
    if isinstance(value, list | tuple):
        return tuple(map(_network, value))
    raise ValueError(f"must be a list of networks like 10.0.0.0/8, not {shown(value)}")


def _network(value: "Toml | Network") -> Network:
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    try:
        if isinstance(value, str):
            return ip_network(value)
    except ValueError:
        pass
    raise ValueError(
        f"must be networks like 10.0.0.0/8 or fd00::/8, not {shown(value)}{_nearest(value)}"
    )


def _nearest(value: Toml) -> str:
    """What to write in place of an address within a network."""
    try:
        return f"; write {ip_network(value, strict=False)}" if isinstance(value, str) else ""
    except ValueError:
        return ""


def _origins(value: "Toml | tuple[str, ...]") -> tuple[str, ...]:
    """Lists come as comma-separated text from the environment."""
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if isinstance(value, list | tuple) and all(map(_is_origin, value)):
        return tuple(str(each) for each in value)
    raise ValueError(f"must be origins like https://billing.example:8443, not {shown(value)}")


def _is_origin(value: "Toml") -> bool:
    return isinstance(value, str) and _ORIGIN.fullmatch(value) is not None


DatabaseUrl: TypeAlias = Annotated[str, AfterValidator(_url)]
OwnerUrl: TypeAlias = Annotated[str, AfterValidator(_owner_url)]
FilePath: TypeAlias = Annotated[Path, BeforeValidator(_path)]
Host: TypeAlias = Annotated[str, AfterValidator(_host)]
MaybePath: TypeAlias = Annotated[Path | None, BeforeValidator(_path_or_none)]
"""The empty text is none."""
Networks: TypeAlias = Annotated[tuple[Network, ...], BeforeValidator(_networks)]
Origins: TypeAlias = Annotated[tuple[str, ...], BeforeValidator(_origins)]
Port: TypeAlias = Annotated[int, Field(ge=0, le=65535)]
