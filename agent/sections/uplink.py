"""[uplink]: where the aggregator is, and what TLS takes. By default what `enroll` left."""

import re
from dataclasses import dataclass
from pathlib import Path

from agent.config import Reader, check_path
from agent.enrolled import Enrolled

_TARGET = re.compile(
    r"unix:\S+|(ipv4:|ipv6:|dns:(///)?)?(\[[0-9a-fA-F:.]+\]|[^\s:/\[\]]+):(?P<port>[0-9]{1,5})"
)
_SECTION = "uplink"


@dataclass(frozen=True, slots=True, kw_only=True)
class UplinkSettings:
    """A gRPC target, and the files of TLS.

    Without `tls_ca` plain text is spoken. `server_name` None: the host of the target.
    """

    target: str
    tls_ca: Path | None
    tls_cert: Path | None
    tls_key: Path | None
    server_name: str | None

    @property
    def has_tls(self) -> bool:
        """Whether TLS is spoken."""
        return self.tls_ca is not None


def ask_uplink(reader: Reader, state_dir: Path) -> UplinkSettings:
    """Take [uplink]; key and certificate are of no use without each other, nor without a CA."""
    enrolled = Enrolled(state_dir)
    is_enrolled = enrolled.is_there()
    target = (enrolled.read_target() if is_enrolled else None) or "127.0.0.1:50051"

    def path(key: str, default: Path) -> Path | None:
        said = reader.text(_SECTION, key, "", _path_or_none)
        return Path(said) if said else default if is_enrolled else None

    settings = UplinkSettings(
        target=reader.text(_SECTION, "target", target, _target),
        tls_ca=path("tls_ca", enrolled.ca),
        tls_cert=path("tls_cert", enrolled.node),
        tls_key=path("tls_key", enrolled.node),
        server_name=reader.text(_SECTION, "server_name", "", _name) or None,
    )
    if (settings.tls_cert is None) != (settings.tls_key is None):
        reader.complain("[uplink] tls_cert and tls_key: one is of no use without the other")
    if settings.tls_cert and not settings.tls_ca:
        reader.complain("[uplink] tls_ca: must say whose certificates are trusted")
    return settings


def _path_or_none(value: str) -> str | None:
    return check_path(value) if value else None


def _target(value: str) -> str | None:
    """What gRPC can connect to, with a port."""
    match = _TARGET.fullmatch(value)
    if match and (match["port"] is None or 1 <= int(match["port"]) <= 65535):
        return None
    return "must be host:port, such as meter.example.org:50051 or [::1]:50051"


def _name(value: str) -> str | None:
    """What is looked for in the aggregator's certificate; empty = the host of the target."""
    fits = len(value) <= 253 and value.isascii() and value.isprintable() and " " not in value
    return None if fits else "must be the name in the aggregator's certificate"
