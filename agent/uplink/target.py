"""Which aggregators may be spoken to in plain text: those of this very host. Pure."""

from ipaddress import ip_address

from agent.errors import UplinkError


def check_target(target: str) -> None:
    """Refuse a gRPC target that is not on loopback.

    Raises:
        UplinkError: names would go over the network unread by TLS, and records unsigned.
    """
    if not is_loopback(target):
        raise UplinkError(
            f"[uplink] target {target} is not on this host: plain text is spoken on loopback "
            f"only; use 127.0.0.1, [::1] or unix:, for instance through a tunnel"
        )


def is_loopback(target: str) -> bool:
    """Whether nothing but this host can be behind a gRPC target."""
    if target.startswith(("unix:", "unix-abstract:")):
        return True
    place = target.removeprefix("dns:").removeprefix("ipv4:").removeprefix("ipv6:").lstrip("/")
    host = place.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
