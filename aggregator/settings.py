"""The aggregator's configuration: TOML, overridden by NODEMETER_<SECTION>_<KEY>.

Every fault is found before any is reported. An unknown section or key is a fault that
lists the known ones, and so is a variable that nobody reads (see `variables`).
"""

import sys
import tomllib
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import ClassVar, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from aggregator.errors import SettingsError
from aggregator.faults import Schema, fault, from_text, place
from aggregator.values import (
    EMBEDDED,
    DatabaseUrl,
    FilePath,
    Host,
    MaybePath,
    Networks,
    Origins,
    OwnerUrl,
    Port,
    is_host,
    is_loopback,
    may_coincide,
    shown,
)
from aggregator.variables import (
    CONFIG_VARIABLE,
    STATE_DIR_VARIABLE,
    unknown_variables,
    variable,
)

SYSTEM_CONFIG = Path("/etc/nodemeter/aggregator.toml")

_WAY_OUT = 'make an authority with `nodemeter-aggregator ca init` and set [tls] mode = "mutual"'

Currency: TypeAlias = Literal[
    "CNY", "USD", "THB", "RUB", "AUD", "CAD", "CHF", "DKK",
    "EUR", "GBP", "IDR", "INR", "JPY", "HKD", "SGD",
]  # fmt: skip


class Section(BaseModel):
    """A table of the file."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        extra="forbid", frozen=True, strict=True, hide_input_in_errors=True
    )


class DatabaseSettings(Section):
    """Where everything is stored."""

    url: DatabaseUrl = EMBEDDED
    """`postgresql://…`, or `embedded`: a TimescaleDB that the aggregator starts itself."""
    owner_url: OwnerUrl = ""
    """Who makes and migrates the tables of another's server; empty: whoever `url` names."""
    state_dir: FilePath = Path("/var/lib/nodemeter")
    """Where the embedded database keeps its data."""
    pool_size: int = Field(default=8, ge=4, le=100)


class HttpSettings(Section):
    """The billing APIs."""

    host: Host = "127.0.0.1"
    port: Port = 8080
    open_to: Networks = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))
    """From these networks a request without a token acts as `open_role`."""
    open_role: Literal["admin", "viewer"] = "admin"
    requests_per_minute: int = Field(default=6000, ge=0, le=1_000_000)
    """Of one token, or of one address that needs none; as many at once. 0: no limit."""
    anonymous_per_minute: int = Field(default=300, ge=0, le=1_000_000)
    """Of one address: requests that are refused, and those that are open to everybody."""
    statement_seconds: int = Field(default=30, ge=1, le=3600)
    """How long a query of one request may take in the database."""
    cors_origins: Origins = ()
    """Web pages of these origins may ask, like https://billing.example; by default none."""
    tls_cert: MaybePath = None
    """The certificate for HTTPS; None: plain HTTP."""
    tls_key: MaybePath = None
    """Its key; None: it is in the certificate's file."""


class GrpcSettings(Section):
    """Where agents connect."""

    host: Host = "127.0.0.1"
    """A loopback address, unless `[tls] mode` is mutual."""
    port: Port = 50051
    enroll_port: Port = 0
    """Where nodes without a certificate ask for one; 0 = nowhere."""
    max_message_bytes: int = Field(default=4 << 20, ge=4 << 20, le=64 << 20)
    """At least what the frame of an agent may become."""


class TlsSettings(Section):
    """How agents are known; see `aggregator.ca`."""

    mode: Literal["off", "mutual"] = "off"
    ca_dir: MaybePath = None
    """Where the authority is; None: `ca` below `[database] state_dir`."""
    node_days: float = Field(default=7, gt=0, le=397)
    """How long a node's certificate holds; it is renewed before two thirds of that."""


class BillingSettings(Section):
    """What prices are in."""

    currency: Currency = "USD"


class PodsSettings(Section):
    """How the Pods API writes."""

    live_variant: bool = False
    """As the original's service does: `diskSpaceBilledGB`, and times like 2026-04-06 15:00:00."""


class RetentionSettings(Section):
    """How long raw usage is kept; charges are kept for ever."""

    usage_days: int = Field(default=7, ge=2, le=3650)


class IngestSettings(Section):
    """Bounds of what is taken, and of the memory that taking it may cost."""

    max_group_records: int = Field(default=200_000, ge=1, le=10_000_000)
    """Records in one transaction."""
    max_group_batches: int = Field(default=2_000, ge=1, le=100_000)
    max_queued_bytes: int = Field(default=64 << 20, ge=1 << 20, le=16 << 30)
    """Messages that wait for the database, as received; beyond them agents are held back."""
    linger_seconds: float = Field(default=0.01, ge=0, le=5)
    """How long a small group waits for company."""
    busy_after_seconds: float = Field(default=5, ge=0, le=600)
    """How long a batch waits for room before its agent is told to come back later."""
    retry_after_seconds: float = Field(default=5, ge=0, le=3600)
    max_age_days: int = Field(default=35, ge=1, le=3650)
    """Older usage is set aside."""
    max_ahead_seconds: int = Field(default=300, ge=0, le=86400)
    """Usage further in the future is set aside."""
    max_nodes: int = Field(default=100_000, ge=1, le=10_000_000)
    """Whoever is not known beyond them is refused: names cost rows."""
    max_new_spools: int = Field(default=300, ge=1, le=1_000_000)
    """Of one node within a day, which is one in five minutes; the next one is to come later."""


class RaterSettings(Section):
    """How usage becomes charges."""

    interval_seconds: float = Field(default=1, gt=0, le=3600)
    max_records: int = Field(default=500_000, ge=1, le=10_000_000)
    """Records in one transaction; one larger group is still taken whole."""
    seal_after_seconds: float = Field(default=300, ge=0, le=86400)
    """How long after an hour its charges are final: what is told later is a line of its own."""


class LogSettings(Section):
    """What is logged."""

    level: Literal["debug", "info", "warning", "error"] = "info"


class Settings(Section):
    """All of it."""

    database: DatabaseSettings = DatabaseSettings()
    http: HttpSettings = HttpSettings()
    grpc: GrpcSettings = GrpcSettings()
    tls: TlsSettings = TlsSettings()
    billing: BillingSettings = BillingSettings()
    pods: PodsSettings = PodsSettings()
    retention: RetentionSettings = RetentionSettings()
    ingest: IngestSettings = IngestSettings()
    rater: RaterSettings = RaterSettings()
    log: LogSettings = LogSettings()

    @property
    def ca_dir(self) -> Path:
        """Where the authority is."""
        return self.tls.ca_dir or self.database.state_dir / "ca"


def _keys(section: str) -> Mapping[str, Schema]:
    kind = Settings.model_fields[section].annotation
    if not isinstance(kind, type) or not issubclass(kind, Section):
        raise TypeError(f"[{section}] is no table")
    found: Mapping[str, Schema] = kind.model_json_schema()["properties"]
    return found


SECTIONS = {section: _keys(section) for section in Settings.model_fields}
"""The keys of each section, each with its schema."""


def load_settings(path: Path | None, environ: Mapping[str, str]) -> Settings:
    """Read `path`, or the first file that exists of those searched, and the environment.

    Raises `SettingsError` with every fault found.
    """
    file = path or find_config(environ)
    values = _read(file) if file else {}
    source = str(file) if file else "defaults and environment"
    laid = _apply_environment(values, environ)
    problems = [*unknown_variables(environ, SECTIONS), *_plain_text(values, laid)]
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        problems += [fault(each, SECTIONS, laid) for each in error.errors(include_url=False)]
        raise SettingsError(problems, source) from error
    problems += _clashes(settings, laid)
    if problems:
        raise SettingsError(problems, source)
    return settings


def find_config(environ: Mapping[str, str]) -> Path | None:
    """Give $NODEMETER_AGGREGATOR_CONFIG, else that of a `make run`, else the system's.

    `make run` leaves its file in its state directory, which $NODEMETER_STATE_DIR names for
    it and so for us, and a link to it in the virtual environment.
    """
    if named := environ.get(CONFIG_VARIABLE):
        return Path(named)
    candidates = [SYSTEM_CONFIG]
    if sys.prefix != sys.base_prefix:
        candidates.insert(0, Path(sys.prefix) / "etc/nodemeter/aggregator.toml")
    if state_dir := environ.get(STATE_DIR_VARIABLE):
        candidates.insert(0, Path(state_dir) / "aggregator.toml")
    return next((each for each in candidates if each.is_file()), None)


def _read(file: Path) -> dict[str, object]:
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
        repr(values)  # what cannot be shown could not be reported either
    except OSError as error:
        raise SettingsError([f"cannot be read: {error.strerror}"], str(file)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError([f"is not valid TOML: {error}"], str(file)) from error
    except (RecursionError, ValueError) as error:
        problem = "is nested too deeply, or holds a number of too many digits"
        raise SettingsError([problem], str(file)) from error
    return values


def _apply_environment(
    values: dict[str, object], environ: Mapping[str, str]
) -> set[tuple[str, str]]:
    """Lay the environment over `values`; give the sections and keys that it set."""
    laid: set[tuple[str, str]] = set()
    for section, keys in SECTIONS.items():
        for key, schema in keys.items():
            text = environ.get(variable(section, key))
            table = values.get(section, {})
            if text is not None and isinstance(table, dict):
                values[section] = {**table, key: from_text(text, schema)}
                laid.add((section, key))
    return laid


def _clashes(settings: Settings, laid: set[tuple[str, str]]) -> Iterator[str]:
    """What is wrong with values only beside each other."""
    http, grpc = settings.http, settings.grpc
    if settings.database.url == EMBEDDED and settings.database.owner_url:
        where = place("database", "owner_url", laid)
        yield f"{where}: the embedded database has an owner of its own; leave this out"
    if http.port == grpc.port != 0 and may_coincide(http.host, grpc.host):
        first, second = place("http", "port", laid), place("grpc", "port", laid)
        yield f"{first} and {second} are both {http.port}: they must be two ports"
    if grpc.enroll_port and grpc.enroll_port in {grpc.port, http.port}:
        third = place("grpc", "enroll_port", laid)
        yield f"{third}: is {grpc.enroll_port}, which another part listens on: take another port"


def _plain_text(values: Mapping[str, object], laid: set[tuple[str, str]]) -> Iterator[str]:
    """What must not be without TLS; of values that may be wrong beside that."""
    if _raw(values, "tls", "mode") == "mutual":
        return
    host, enroll_port = _raw(values, "grpc", "host"), _raw(values, "grpc", "enroll_port")
    if isinstance(host, str) and is_host(host) and not is_loopback(host):
        yield (
            f"{place('grpc', 'host', laid)}: {shown(host)} is not a loopback address, and without "
            f"TLS agents are taken at their word: {_WAY_OUT}, or listen on 127.0.0.1, ::1 or "
            "localhost"
        )
    if isinstance(enroll_port, int) and enroll_port:
        yield f"{place('grpc', 'enroll_port', laid)}: nodes are enrolled over TLS only: {_WAY_OUT}"


def _raw(values: Mapping[str, object], section: str, key: str) -> object:
    table = values.get(section)
    keys: dict[str, object] = {**table} if isinstance(table, dict) else {}
    return keys.get(key)
