"""Which aggregators may be spoken to in plain text: those of this very host. Pure."""

from ipaddress import ip_address

from agent.errors import UplinkError


def check_target(target: str, *, has_tls: bool = False) -> None:
    """Refuse a gRPC target that is not on loopback, unless TLS is spoken to it.

    Raises:
        UplinkError: names would go over the network unread by TLS, and records unsigned.
    """
    if not has_tls and not is_loopback(target):
        raise UplinkError(
            f"[uplink] target {target} is not on this host: plain text is spoken on loopback "
            "only; enrol this node with `nodemeter-agent enroll` (on the aggregator's host "
            "`nodemeter-aggregator ca issue NODE` prints the command), or name key, certificate "
            "and CA as [uplink] tls_key, tls_cert and tls_ca"
        )


def is_loopback(target: str) -> bool:
    """Whether nothing but this host can be behind a gRPC target."""
    if target.startswith(("unix:", "unix-abstract:")):
        return True
    host = host_of(target)
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def host_of(target: str) -> str:
    """The host of a target that is no socket of Unix."""
    return _place(target).rpartition(":")[0].strip("[]")


def port_of(target: str) -> int:
    """Its port."""
    return int(_place(target).rpartition(":")[2])


def _place(target: str) -> str:
    return target.removeprefix("dns:").removeprefix("ipv4:").removeprefix("ipv6:").lstrip("/")
