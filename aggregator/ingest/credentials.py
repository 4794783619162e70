"""The server's side of TLS: its certificate, and whose certificates it takes.

Every connection is handed the files as they are then, so neither a renewed certificate nor
another authority needs a restart.
"""

import grpc

from aggregator.ca.layout import CaError, Layout
from aggregator.ca.reload import Reloaded


class Credentials:
    """What a gRPC port is given."""

    def __init__(self, layout: Layout) -> None:
        """Read the files; raises `CaError`."""
        self._layout = layout
        try:
            self._files = Reloaded([layout.server, layout.certificate], self._read)
        except OSError as error:
            raise CaError(
                f"[tls] {error.filename} cannot be read ({error.strerror}): make the authority "
                "with `nodemeter-aggregator ca init`, or name its directory as [tls] ca_dir"
            ) from error

    def mutual(self) -> grpc.ServerCredentials:
        """For a port that talks only to those whom the authority has certified."""
        return grpc.dynamic_ssl_server_credentials(
            self._files.value,
            self._fetch,  # type: ignore[arg-type]  # the stubs forget that None is no change
            require_client_authentication=True,
        )

    def one_sided(self) -> grpc.ServerCredentials:
        """For a port that talks to anybody, who then knows with whom."""
        return grpc.dynamic_ssl_server_credentials(
            self._files.value,
            self._fetch,  # type: ignore[arg-type]  # the stubs forget that None is no change
            require_client_authentication=False,
        )

    def _fetch(self) -> grpc.ServerCertificateConfiguration | None:
        """Called by gRPC, on its threads, at each connection."""
        return self._files.value if self._files.refresh() else None

    def _read(self) -> grpc.ServerCertificateConfiguration:
        pem = self._layout.server.read_bytes()
        key, end, chain = pem.partition(b"-----END PRIVATE KEY-----\n")
        if not end:
            raise ValueError(f"{self._layout.server} does not begin with a key")
        roots = self._layout.certificate.read_bytes()
        return grpc.ssl_server_certificate_configuration([(key + end, chain)], roots)
