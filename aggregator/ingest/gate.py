"""Lets agents in by their certificates: at the Hello, and for as long as they stay.

Without TLS, which is on loopback only, everybody is taken at their word.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from cryptography import x509

from aggregator.ca.denylist import DenyList
from aggregator.ca.identity import Bearer, IdentityError, check_node, check_time, node_of
from aggregator.clock import Clock

AuthContext = Mapping[str, Iterable[bytes]]
"""What gRPC knows of a connection's other end."""


class Gate(Protocol):
    """Who may come in, and who may stay."""

    def admit(self, auth: AuthContext, node: str) -> Bearer | None:
        """Let in who says that it is `node`; raises `IdentityError`."""
        ...

    def refresh(self) -> None:
        """Look whom the authority denies now."""
        ...

    def check(self, bearer: Bearer) -> None:
        """Raise `IdentityError` where who was let in may not stay."""
        ...


class OpenGate:
    """Plain text, on loopback."""

    def admit(self, auth: AuthContext, node: str) -> Bearer | None:  # noqa: ARG002  see `Gate`
        """Believe it."""
        return None

    def refresh(self) -> None:
        """Nobody is denied."""

    def check(self, bearer: Bearer) -> None:
        """There are no bearers."""


@dataclass(frozen=True, slots=True)
class MutualGate:
    """Mutual TLS, within one trust domain."""

    domain: str
    denied: DenyList
    clock: Clock

    def admit(self, auth: AuthContext, node: str) -> Bearer:
        """See `Gate`."""
        bearer = self.bearer(auth)
        self.refresh()
        self.check(bearer)
        check_node(node_of(bearer, self.domain), node)
        return bearer

    def bearer(self, auth: AuthContext) -> Bearer:
        """Whose certificate a connection was made with; raises `IdentityError`."""
        pems = list(auth.get("x509_pem_cert", ()))
        if len(pems) != 1:
            raise IdentityError("the connection was made without a certificate")
        return Bearer.of(x509.load_pem_x509_certificate(pems[0]))

    def refresh(self) -> None:
        """See `Gate`."""
        self.denied.refresh()

    def check(self, bearer: Bearer) -> None:
        """See `Gate`."""
        check_time(bearer, self.clock())
        if reason := self.denied.reason(bearer.serial):
            raise IdentityError(
                f"the certificate {bearer.serial} was revoked: {reason}; the node must be "
                "enrolled again to be let in"
            )
