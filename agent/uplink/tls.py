"""The files that TLS takes, read anew for each connection: they may be replaced at any time."""

from dataclasses import dataclass
from pathlib import Path

from agent.errors import UplinkError


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """Whom we trust and who we are; key and certificate may be in one file.

    `server_name` None: the host of the target. Without a certificate an aggregator of ours
    does not let us in.
    """

    ca: Path
    certificate: Path | None = None
    key: Path | None = None
    server_name: str | None = None

    def read(self) -> "Pems":
        """Raises `UplinkError`."""
        try:
            return Pems(
                roots=self.ca.read_bytes(),
                certificate=self.certificate.read_bytes() if self.certificate else None,
                key=self.key.read_bytes() if self.key else None,
            )
        except OSError as error:
            raise UplinkError(
                f"{error.filename} cannot be read ({error.strerror}): enrol this node, or correct "
                "[uplink] tls_ca, tls_cert and tls_key"
            ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Pems:
    """What is in them. A file may hold both key and certificate; each is found by its marks."""

    roots: bytes
    certificate: bytes | None
    key: bytes | None
