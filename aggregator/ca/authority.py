"""The authority: signs for nodes and for the aggregator itself, and takes back.

Everything is done under one lock, noted before it is given away, and durable when a call
returns; so commands and a serving aggregator may work on one directory at the same time.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from aggregator.ca.certificate import (
    Issuer,
    Life,
    fingerprint,
    is_domain,
    is_node,
    key_pem,
    make_issuer,
    new_key,
    pem,
    server_names_of,
    sign_node,
    sign_server,
)
from aggregator.ca.layout import CaError, Layout, write_whole
from aggregator.ca.ledger import (
    Denied,
    How,
    Issued,
    read_denied,
    read_issued,
    write_denied,
    write_issued,
)
from aggregator.ca.request import check_request
from aggregator.ca.token import check_token, make_token, mark_used, withdraw_tokens
from aggregator.clock import Clock
from aggregator.values import is_host

_CA_LIFE: Final = timedelta(days=3_650)
_SERVER_LIFE: Final = timedelta(days=90)
_MOST_BEFORE: Final = timedelta(hours=1)
"""How far back a certificate begins, so that a clock that is behind takes it."""


def make_authority(layout: Layout, domain: str, names: Sequence[str], clock: Clock) -> str:
    """Make an authority where there is none, and the server's certificate; give its fingerprint.

    Raises `CaError`.
    """
    if not is_domain(domain):
        raise CaError(f"{domain!r} is no trust domain: it is made of a-z, 0-9, '.', '-' and '_'")
    layout.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    layout.own()
    with layout.locked():
        if layout.certificate.exists():  # it is written last
            raise CaError(
                f"there is an authority in {layout.folder} already, and all that it signed hangs "
                "on it: nothing was changed. To make the aggregator's own certificate anew use "
                "`nodemeter-aggregator ca server`"
            )
        layout.make_tokens()
        issuer = make_issuer(domain, _life(clock(), _CA_LIFE))
        write_whole(layout.issued, b"")
        write_whole(layout.denied, b"", mode=0o644)
        write_whole(layout.server, _server(layout, issuer, names, clock()))
        write_whole(layout.key, key_pem(issuer.key))
        write_whole(layout.certificate, pem(issuer.certificate), mode=0o644)
    return fingerprint(issuer.certificate)


class Authority:
    """An authority that was made."""

    def __init__(self, layout: Layout, clock: Clock) -> None:
        """Read it; raises `CaError`."""
        self.layout = layout
        self._clock = clock
        self._issuer = _read_issuer(layout)

    @property
    def domain(self) -> str:
        """The trust domain."""
        return self._issuer.domain

    @property
    def fingerprint(self) -> str:
        """What a token says of it."""
        return fingerprint(self._issuer.certificate)

    @property
    def roots(self) -> bytes:
        """Its certificate."""
        return pem(self._issuer.certificate)

    def invite(self, node: str, life: timedelta) -> str:
        """Make a token for a node; raises `CaError`."""
        _check_node(node)
        with self.layout.locked():
            folder = self.layout.tokens
            return make_token(folder, node, self.fingerprint, self._clock(), life)

    def enroll(self, secret: str, node: str, request: bytes, life: timedelta) -> bytes:
        """Certify the key of whoever brings a token; raises `CaError`."""
        _check_node(node)
        key = check_request(request, node, self.domain)
        with self.layout.locked():
            check_token(self.layout.tokens, secret, node, key, self._clock())
            signed = self._sign(key, node, life, "token")
            mark_used(self.layout.tokens, secret, key, self._clock())
        return pem(signed)

    def renew(self, serial: str, node: str, request: bytes, life: timedelta) -> bytes:
        """Certify another key of whoever has a certificate; raises `CaError`."""
        key = check_request(request, node, self.domain)
        with self.layout.locked():
            if any(each.serial == serial for each in read_denied(self.layout.denied)):
                raise CaError(f"the certificate {serial} was revoked")
            return pem(self._sign(key, node, life, "renewal"))

    def issue(self, node: str, life: timedelta) -> bytes:
        """Make key and certificate for a host that cannot ask for itself; raises `CaError`."""
        _check_node(node)
        key = new_key()
        with self.layout.locked():
            signed = self._sign(key.public_key(), node, life, "file")
        return key_pem(key) + pem(signed)

    def issued(self) -> Sequence[Issued]:
        """All that it signed, in order."""
        return [*read_issued(self.layout.issued)]

    def denied(self) -> Sequence[Denied]:
        """All that it took back."""
        return read_denied(self.layout.denied)

    def revoke(self, what: str, reason: str) -> Sequence[Denied]:
        """Take back a certificate, by its serial number, or all that a node has, and its tokens.

        Gives what was taken back by this call; nothing where it had been before.
        Raises `CaError` where there is nothing of that name.
        """
        with self.layout.locked():
            before, now = self.denied(), self._clock()
            found = [each for each in self.issued() if what in {each.serial, each.node}]
            withdrawn = withdraw_tokens(self.layout.tokens, what)
            if not found and not withdrawn:
                raise CaError(
                    f"nothing was ever issued to a node {what!r} or with that serial number; "
                    "`nodemeter-aggregator ca list` shows what was"
                )
            known = {each.serial for each in before}
            taken = [
                Denied(
                    serial=each.serial, node=each.node, reason=reason, revoked_at=now.isoformat()
                )
                for each in found
                if each.serial not in known and each.ends_at() > now
            ]
            if taken:
                write_denied(self.layout.denied, [*before, *taken])
        return taken

    def certify_server(self, names: Sequence[str]) -> None:
        """Make the aggregator's own certificate anew, for these names; raises `CaError`."""
        with self.layout.locked():
            data = _server(self.layout, self._issuer, names, self._clock())
            write_whole(self.layout.server, data)

    def keep_server(self) -> bool:
        """Make the aggregator's own certificate anew if two thirds of its life are over.

        Gives whether it was; raises `CaError`.
        """
        certificate = read_server(self.layout)
        start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        if self._clock() < start + (end - start) * 2 / 3:
            return False
        self.certify_server(server_names_of(certificate))
        return True

    def server_names(self) -> Sequence[str]:
        """What the aggregator's own certificate says that it is called."""
        return server_names_of(read_server(self.layout))

    def _sign(
        self, key: ec.EllipticCurvePublicKey, node: str, life: timedelta, how: How
    ) -> x509.Certificate:
        signed = sign_node(self._issuer, key, node, _life(self._clock(), life))
        write_issued(self.layout.issued, signed, node, how)
        return signed


def read_server(layout: Layout) -> x509.Certificate:
    """The aggregator's own certificate; raises `CaError`."""
    try:
        return x509.load_pem_x509_certificates(layout.server.read_bytes())[0]
    except (OSError, ValueError) as error:
        raise CaError(f"{layout.server} cannot be read: {error}") from error


def _read_issuer(layout: Layout) -> Issuer:
    try:
        certificate = x509.load_pem_x509_certificate(layout.certificate.read_bytes())
        key = load_pem_private_key(layout.key.read_bytes(), password=None)
    except FileNotFoundError as error:
        raise CaError(
            f"there is no authority in {layout.folder} ({error.filename} is missing): make one "
            "with `nodemeter-aggregator ca init`, or run this on the host that has its key"
        ) from error
    except (OSError, ValueError) as error:
        raise CaError(f"the authority in {layout.folder} cannot be read: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CaError(f"{layout.key} is no key of the authority's kind")
    return Issuer(key=key, certificate=certificate)


def _server(layout: Layout, issuer: Issuer, names: Sequence[str], now: datetime) -> bytes:
    """Key and chain, the authority's certificate included: whoever enrols looks for it there."""
    if wrong := [name for name in names if not is_host(name)]:
        raise CaError(f"{wrong[0]!r} is neither a name nor an address")
    key = new_key()
    signed = sign_server(issuer, key.public_key(), names, _life(now, _SERVER_LIFE))
    write_issued(layout.issued, signed, "", "server")
    return key_pem(key) + pem(signed) + pem(issuer.certificate)


def _life(now: datetime, life: timedelta) -> Life:
    return Life(not_before=now - min(_MOST_BEFORE, life / 10), not_after=now + life)


def _check_node(node: str) -> None:
    if not is_node(node):
        raise CaError(
            f"{node[:256]!r} cannot be certified as the name of a node: it must be made of "
            "letters, digits, '.', '-' and '_'"
        )
