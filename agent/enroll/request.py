"""Keys, requests and lives of certificates: what needs the package `cryptography`."""

from dataclasses import dataclass
from datetime import datetime

from agent.errors import AgentError

try:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID
except ImportError as missing:
    raise AgentError(
        "the package cryptography is missing: install nodemeter[enroll], or write key and "
        "certificate on the aggregator's host with `nodemeter-aggregator ca issue NODE --out DIR`"
    ) from missing

_LONGEST_COMMON_NAME = 64
_PEM = serialization.Encoding.PEM


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """From when to when a certificate holds, and when it is to be replaced."""

    not_before: datetime
    not_after: datetime
    renew_at: datetime


def make_request(node: str) -> tuple[bytes, bytes]:
    """A new key, and the request to certify it for `node` ("" = for who asks); both PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    names = [x509.NameAttribute(NameOID.COMMON_NAME, node[:_LONGEST_COMMON_NAME])] if node else []
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(names))
    request = builder.sign(key, hashes.SHA256()).public_bytes(_PEM)
    plain = serialization.NoEncryption()
    return key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, plain), request


def life_of(pem: bytes) -> Life:
    """When the first certificate in `pem` holds.

    It is to be replaced between one half and two thirds of its life, each at another instant,
    so that nodes that were enrolled together do not come together again.

    Raises:
        AgentError: there is none.
    """
    try:
        certificate = x509.load_pem_x509_certificates(pem)[0]
    except ValueError as error:
        raise AgentError(f"there is no certificate: {error}") from error
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    part = 1 / 2 + certificate.serial_number % 1_000 / 6_000
    return Life(not_before=start, not_after=end, renew_at=start + (end - start) * part)


def fault_of(pem: bytes, roots: bytes, now: datetime) -> str | None:
    """What is wrong with the first certificate in `pem` for who trusts `roots`, if it is seen.

    Raises:
        AgentError: it cannot be read.
    """
    life = life_of(pem)
    start, end = (f"{each:%Y-%m-%dT%H:%M:%SZ}" for each in (life.not_before, life.not_after))
    dates = f"it holds from {start} to {end}"
    if now >= life.not_after:
        return f"it has expired ({dates})"
    if now < life.not_before:
        return f"it is not yet valid ({dates}; is our clock right?)"
    if not _is_of(pem, roots):
        return "it is of another authority (wrong CA)"
    return None


def _is_of(pem: bytes, roots: bytes) -> bool:
    certificate = x509.load_pem_x509_certificates(pem)[0]
    for root in x509.load_pem_x509_certificates(roots):
        try:
            certificate.verify_directly_issued_by(root)
        except (ValueError, TypeError, InvalidSignature):
            continue
        return True
    return False
