"""Makes keys and certificates, and shows them as PEM. Pure but for the randomness of keys.

The authority's certificate carries its trust domain as `spiffe://<domain>`, a node's its
identity as `spiffe://<domain>/node/<id>`, the only URI in it; the server's carries names and
addresses and nothing that could be taken for a node.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_address
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_SCHEME: Final = "spiffe://"
_DOMAIN: Final = re.compile(r"[a-z0-9._-]{1,255}")
_NODE: Final = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._-]{1,253}")
_LONGEST_COMMON_NAME: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """From when to when a certificate holds."""

    not_before: datetime
    not_after: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """Who signs: the authority's key and its certificate."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def domain(self) -> str:
        """The trust domain."""
        return domain_of(self.certificate)


def is_domain(text: str) -> bool:
    """Whether a trust domain may be called so."""
    return _DOMAIN.fullmatch(text) is not None


def is_node(text: str) -> bool:
    """Whether a certificate can name a node so: what SPIFFE allows in a path."""
    return _NODE.fullmatch(text) is not None


def node_uri(domain: str, node: str) -> str:
    """The identity of a node."""
    return f"{_SCHEME}{domain}/node/{node}"


def uris_of(certificate: x509.Certificate) -> Sequence[str]:
    """The URIs among the alternative names."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return ()
    return names.value.get_values_for_type(x509.UniformResourceIdentifier)


def domain_of(certificate: x509.Certificate) -> str:
    """The trust domain of an authority's certificate; "" where it is none of ours."""
    uris = uris_of(certificate)
    return uris[0].removeprefix(_SCHEME) if len(uris) == 1 else ""


def new_key() -> ec.EllipticCurvePrivateKey:
    """A new key."""
    return ec.generate_private_key(ec.SECP256R1())


def make_issuer(domain: str, life: Life) -> Issuer:
    """A new authority for a trust domain."""
    key = new_key()
    name = _name(f"nodemeter CA of {domain}")
    builder = _builder(name, name, key.public_key(), life)
    usage = _usage(is_authority=True)
    certificate = (
        builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(_names([x509.UniformResourceIdentifier(_SCHEME + domain)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Issuer(key=key, certificate=certificate)


def sign_node(
    issuer: Issuer, public_key: ec.EllipticCurvePublicKey, node: str, life: Life
) -> x509.Certificate:
    """The certificate of a node."""
    uri = x509.UniformResourceIdentifier(node_uri(issuer.domain, node))
    return sign_client(issuer, public_key, _name(node), [uri], life)


def sign_client(
    issuer: Issuer,
    public_key: ec.EllipticCurvePublicKey,
    subject: x509.Name,
    names: Sequence[x509.GeneralName],
    life: Life,
) -> x509.Certificate:
    """A client's certificate with these names, whatever they are."""
    builder = _leaf(issuer, public_key, subject, life)
    return _sign(issuer, builder, names, ExtendedKeyUsageOID.CLIENT_AUTH)


def sign_server(
    issuer: Issuer, public_key: ec.EllipticCurvePublicKey, names: Sequence[str], life: Life
) -> x509.Certificate:
    """The certificate of a server that is called by these names and addresses."""
    alternatives = [_server_name(name) for name in names]
    builder = _leaf(issuer, public_key, _name(names[0]), life)
    return _sign(issuer, builder, alternatives, ExtendedKeyUsageOID.SERVER_AUTH)


def server_names_of(certificate: x509.Certificate) -> Sequence[str]:
    """What `sign_server` was given, in the same order."""
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [str(each.value) for each in names]


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A key as text, in the clear: whoever can read it is who it says."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def pem(certificate: x509.Certificate) -> bytes:
    """A certificate as text."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of a certificate, in hexadecimal."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def serial(certificate: x509.Certificate) -> str:
    """The serial number as it is written everywhere."""
    return f"{certificate.serial_number:x}"


def _leaf(
    issuer: Issuer, public_key: ec.EllipticCurvePublicKey, subject: x509.Name, life: Life
) -> x509.CertificateBuilder:
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())
    return (
        _builder(subject, issuer.certificate.subject, public_key, life)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(is_authority=False), critical=True)
        .add_extension(authority, critical=False)
    )


def _sign(
    issuer: Issuer,
    builder: x509.CertificateBuilder,
    names: Sequence[x509.GeneralName],
    usage: x509.ObjectIdentifier,
) -> x509.Certificate:
    builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    if names:
        builder = builder.add_extension(_names(names), critical=False)
    return builder.sign(issuer.key, hashes.SHA256())


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, life: Life
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(life.not_before)
        .not_valid_after(life.not_after)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _name(common_name: str) -> x509.Name:
    attribute = x509.NameAttribute(NameOID.COMMON_NAME, common_name[:_LONGEST_COMMON_NAME])
    return x509.Name([attribute])


def _names(names: Sequence[x509.GeneralName]) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName(names)


def _server_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        encipher_only=False,
        decipher_only=False,
    )
