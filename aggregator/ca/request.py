"""Decides whether a request to certify a key is one that a node may make. Pure.

What is certified is the key alone: the names come from the authority. A request that names
somebody else is refused all the same, since whoever made it is mistaken, or worse.
"""

from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from aggregator.ca.certificate import node_uri
from aggregator.ca.layout import CaError

_CURVES: Final = ("secp256r1", "secp384r1")
_LONGEST: Final = 8_192


class RequestError(CaError):
    """The request cannot be granted; the message says why."""


def check_request(pem: bytes, node: str, domain: str) -> ec.EllipticCurvePublicKey:
    """Give the key that `node` asks to have certified; raises `RequestError`."""
    request = _parse(pem)
    key = _key(request)
    _check_names(request, node, node_uri(domain, node))
    return key


def _parse(pem: bytes) -> x509.CertificateSigningRequest:
    try:
        if len(pem) <= _LONGEST:
            request = x509.load_pem_x509_csr(pem)
            if request.is_signature_valid:
                return request
    except (ValueError, InvalidSignature, UnsupportedAlgorithm):
        pass
    raise RequestError("the request is no PKCS #10 request, or not signed by its own key")


def _key(request: x509.CertificateSigningRequest) -> ec.EllipticCurvePublicKey:
    try:
        key = request.public_key()
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _CURVES:
        return key
    kind = type(key).__name__.removesuffix("PublicKey") if key else "of an unknown kind"
    size = getattr(key, "key_size", None)
    raise RequestError(
        f"the request is for a key that is too weak or unknown ({kind}, {size} bits): it must be "
        "one on the curve P-256 or P-384"
    )


def _check_names(request: x509.CertificateSigningRequest, node: str, uri: str) -> None:
    """What the request names must be the node; it need not name anything."""
    names = [
        str(each.value) for each in request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    ]
    wrong = [name for name in names if name != node[:64]]
    try:
        asked = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        wrong += [str(each.value) for each in asked if each != x509.UniformResourceIdentifier(uri)]
    except x509.ExtensionNotFound:
        pass
    except ValueError as error:
        raise RequestError("the request's extensions cannot be read") from error
    if wrong:
        raise RequestError(f"the request of {node} asks for another name: {wrong[0][:200]}")
