"""What `enroll` leaves below the state directory, and the daemon finds there."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Enrolled:
    """The files of one enrolment. `node.pem` holds key and certificate, replaced as one."""

    state_dir: Path

    @property
    def folder(self) -> Path:
        """Where they are."""
        return self.state_dir / "tls"

    @property
    def ca(self) -> Path:
        """Whose certificates are trusted."""
        return self.folder / "ca.pem"

    @property
    def node(self) -> Path:
        """Who this node is."""
        return self.folder / "node.pem"

    @property
    def target(self) -> Path:
        """Where the aggregator takes usage, as a gRPC target."""
        return self.folder / "target"

    def is_there(self) -> bool:
        """Whether the node is enrolled; who may not look there takes it that it is not."""
        try:
            return self.ca.is_file() and self.node.is_file()
        except OSError:
            return False

    def read_target(self) -> str | None:
        """The target, if it is known."""
        try:
            return self.target.read_text(encoding="ascii").strip() or None
        except (OSError, UnicodeDecodeError):
            return None
