"""A certificate authority of a test's own, in the layout that the aggregator serves from.

Node certificates are cheap, so that thousands of agents can each have their own: `clients`
makes ten thousand in about three seconds, with one key for all of them.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from aggregator.ca import certificate as made
from aggregator.ca.layout import Layout
from aggregator.clock import utc_now
from aggregator.settings import TlsSettings

DOMAIN = "nodemeter"
SERVER_NAMES = ("127.0.0.1", "::1", "localhost")
_HOUR = timedelta(hours=1)


def lasting(since: timedelta = _HOUR, left: timedelta = 24 * _HOUR) -> made.Life:
    """A life that began `since` ago and has `left` to go; both may be negative."""
    now = utc_now()
    return made.Life(not_before=now - since, not_after=now + left)


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """What an agent shows: its key and certificate as PEM, and whom it trusts."""

    key: bytes
    certificate: bytes
    roots: bytes
    serial: str

    def credentials(self) -> grpc.ChannelCredentials:
        """For a channel of gRPC."""
        return grpc.ssl_channel_credentials(self.roots, self.key, self.certificate)


class Authority:
    """Signs whatever a test wants."""

    def __init__(self, domain: str = DOMAIN) -> None:
        self.issuer = made.make_issuer(domain, lasting())
        self.roots = made.pem(self.issuer.certificate)
        self.domain = domain

    def client(self, node: str, life: made.Life | None = None) -> Client:
        """A node's certificate."""
        return next(self.clients([node], life))

    def clients(self, nodes: Iterable[str], life: made.Life | None = None) -> Iterator[Client]:
        """The certificates of many nodes, of one key."""
        life, key = life or lasting(), made.new_key()
        for node in nodes:
            signed = made.sign_node(self.issuer, key.public_key(), node, life)
            yield self._client(key, signed)

    def other(self, common_name: str, uris: Sequence[str]) -> Client:
        """A client's certificate with this common name and these URIs."""
        key = made.new_key()
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        names = [x509.UniformResourceIdentifier(uri) for uri in uris]
        signed = made.sign_client(self.issuer, key.public_key(), subject, names, lasting())
        return self._client(key, signed)

    def write(self, folder: Path, names: Sequence[str] = SERVER_NAMES) -> TlsSettings:
        """Lay the authority out for an aggregator; give the settings that name it."""
        layout = Layout(folder)
        layout.tokens.mkdir(parents=True)
        layout.certificate.write_bytes(self.roots)
        layout.key.write_bytes(made.key_pem(self.issuer.key))
        layout.server.write_bytes(self.server(names))
        for path in (layout.issued, layout.denied):
            path.touch()
        return TlsSettings(mode="mutual", ca_dir=folder)

    def server(self, names: Sequence[str] = SERVER_NAMES, life: made.Life | None = None) -> bytes:
        """The aggregator's key and chain."""
        key = made.new_key()
        signed = made.sign_server(self.issuer, key.public_key(), names, life or lasting())
        return made.key_pem(key) + made.pem(signed) + self.roots

    def _client(self, key: ec.EllipticCurvePrivateKey, signed: x509.Certificate) -> Client:
        return Client(
            key=made.key_pem(key),
            certificate=made.pem(signed),
            roots=self.roots,
            serial=made.serial(signed),
        )
