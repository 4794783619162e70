"""How agents' connections are made, who may come in, and who is certified: from the settings."""

from dataclasses import dataclass
from datetime import timedelta

from cryptography import x509

from aggregator.ca.authority import Authority
from aggregator.ca.certificate import domain_of
from aggregator.ca.denylist import DenyList
from aggregator.ca.layout import CaError, Layout
from aggregator.clock import Clock
from aggregator.ingest.credentials import Credentials
from aggregator.ingest.enrolment import Certifier
from aggregator.ingest.gate import Gate, MutualGate, OpenGate
from aggregator.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Security:
    """`credentials` None: plain text. `certifier` None: the authority's key is elsewhere."""

    credentials: Credentials | None
    gate: Gate
    certifier: Certifier | None


def open_security(settings: Settings, clock: Clock) -> Security:
    """Read what TLS needs; raises `CaError`."""
    if settings.tls.mode == "off":
        return Security(credentials=None, gate=OpenGate(), certifier=None)
    layout = Layout(settings.ca_dir)
    credentials = Credentials(layout)
    try:
        certificate = x509.load_pem_x509_certificate(layout.certificate.read_bytes())
        gate = MutualGate(domain_of(certificate), DenyList(layout.denied), clock)
    except (OSError, ValueError) as error:
        raise CaError(f"[tls] the authority's files cannot be read: {error}") from error
    if not layout.key.exists():
        if settings.grpc.enroll_port:
            raise CaError(
                f"[grpc] enroll_port: {layout.key} is not there, so nobody can be certified here; "
                "set enroll_port on the host that has it"
            )
        return Security(credentials=credentials, gate=gate, certifier=None)
    life = timedelta(days=settings.tls.node_days)
    certifier = Certifier(Authority(layout, clock), gate, life)
    return Security(credentials=credentials, gate=gate, certifier=certifier)
