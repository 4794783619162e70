"""Decides who a certificate says its bearer is, and whether it says so now. Pure.

That a known authority signed it is TLS's business; the rest is ours: a certificate must hold
now, since a connection outlives the handshake, and name one node as its only URI. The common
name says nothing, whatever it says.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from cryptography import x509
from cryptography.x509.oid import NameOID

from aggregator.ca.certificate import is_node, node_uri, serial, uris_of


class IdentityError(Exception):
    """The bearer of a certificate is not who it must be; the message is for operators."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bearer:
    """What a certificate says."""

    serial: str
    common_name: str
    uris: Sequence[str]
    not_before: datetime
    not_after: datetime

    @classmethod
    def of(cls, certificate: x509.Certificate) -> Self:
        """Read it."""
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return cls(
            serial=serial(certificate),
            common_name=str(names[0].value) if names else "",
            uris=uris_of(certificate),
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
        )


def node_of(bearer: Bearer, domain: str) -> str:
    """The node that the certificate names; raises `IdentityError`."""
    expected = node_uri(domain, "<id>")
    if not bearer.uris:
        named = f"names {bearer.common_name!r} as common name only" if bearer.common_name else ""
        raise IdentityError(
            f"the certificate {named or 'names nobody'}: it must have exactly one URI {expected}"
        )
    if len(bearer.uris) > 1:
        raise IdentityError(
            f"the certificate has {len(bearer.uris)} URIs ({_some(bearer.uris)}): it must have "
            f"exactly one, {expected}"
        )
    uri, prefix = bearer.uris[0], node_uri(domain, "")
    node = uri.removeprefix(prefix)
    if not uri.startswith(prefix) or not is_node(node):
        raise IdentityError(f"the certificate is of {_some([uri])}, which is not {expected}")
    return node


def check_time(bearer: Bearer, now: datetime) -> None:
    """Raise `IdentityError` where the certificate does not hold now."""
    if now >= bearer.not_after:
        raise IdentityError(
            f"the certificate has expired, at {_instant(bearer.not_after)}: the agent renews its "
            "own in time; enrol the node again where it could not"
        )
    if now < bearer.not_before:
        raise IdentityError(
            f"the certificate is not yet valid, only from {_instant(bearer.not_before)}: one of "
            "the two clocks is wrong"
        )


def check_node(certified: str, claimed: str) -> None:
    """Raise `IdentityError` where a message names another node than the certificate."""
    if certified != claimed:
        raise IdentityError(
            f"the certificate is of another node: it names {certified}, the agent says that it "
            f"is {claimed[:256]}; set [node] name to {certified} there, or enrol it as what it is"
        )


def _some(uris: Sequence[str]) -> str:
    text = ", ".join(uris)
    return text if len(text) <= 300 else f"{text[:299]}…"


def _instant(instant: datetime) -> str:
    return f"{instant:%Y-%m-%dT%H:%M:%SZ}"
